"""Widgets as text that stays true: a session has no front end that could draw them, or hear of their changes.

`kernel` registers it in a session's kernel. A widget is shown as what it is and what it holds; when it changes, a
progress bar above all, what was shown is replaced, at the end of each cell at the latest.
"""

from __future__ import annotations

import html
import time
import uuid
from collections.abc import Iterator
from typing import Any

INTERVAL = 0.2
"""Seconds between two texts of a widget that changes all the time."""
LONGEST = 2000
"""Characters of a widget's text."""
MOST_PARTS, MOST_SHOWN = 200, 100
"""Widgets in one, whose changes are heard of; and those that are shown at a time, the latest."""
ADVICE = "[a widget: nobody can operate it here, code reads and sets what it holds]"


def show_widgets(shell: Any) -> None:
    """Show the widgets of a session's cells as text, and what becomes of them."""
    shown: list[_Shown] = []

    def show(widget: Any) -> None:
        if not shown:
            shell.events.register("post_execute", finish)
        shown.append(_Shown(widget, shell.display_pub))
        del shown[:-MOST_SHOWN]

    def finish() -> None:
        for one in shown:
            one.tell()

    shell.display_formatter.ipython_display_formatter.for_type_by_name("ipywidgets.widgets.widget", "Widget", show)


class _Shown:
    """A widget where it was displayed."""

    def __init__(self, widget: Any, publisher: Any) -> None:
        self._widget, self._publisher, self._id = widget, publisher, uuid.uuid4().hex
        self._heard: dict[str, Any] = {}
        self._text = _text(widget)
        self._told = time.monotonic()
        self._publish(update=False)
        self._listen()

    def _listen(self) -> None:
        for part in _parts(self._widget):
            if part.model_id not in self._heard:
                self._heard[part.model_id] = part
                part.observe(self._changed)

    def _changed(self, change: Any) -> None:
        if change["name"] == "children":
            self._listen()
        if time.monotonic() - self._told > INTERVAL or change["name"] == "bar_style":  # which a bar has when it ends
            self.tell()

    def tell(self) -> None:
        """Replace the text that is shown, if another one is true by now."""
        self._told = time.monotonic()
        text = _text(self._widget)
        if text != self._text:
            self._text = text
            self._publish(update=True)

    def _publish(self, *, update: bool) -> None:
        data = {"text/plain": self._text}
        self._publisher.publish(data=data, metadata={}, transient={"display_id": self._id}, update=update)


def _parts(widget: Any) -> Iterator[Any]:
    waiting, seen = [widget], 0
    while waiting and seen < MOST_PARTS:
        part = waiting.pop()
        if getattr(part, "comm", None) is None:  # closed, or no widget
            continue
        seen += 1
        yield part
        waiting += getattr(part, "children", ())


def _text(widget: Any) -> str:
    if widget.comm is None:
        return ""  # it was closed, and a front end would have removed it
    try:
        text = repr(widget)
    except ReferenceError:  # tqdm's bar is gone, and its parts hold what it said
        text = " ".join(html.unescape(str(getattr(part, "value", ""))).strip() for part in widget.children)
    except Exception:  # noqa: BLE001 - a widget's own repr may raise what it likes
        text = f"<{type(widget).__name__}>"
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return text if hasattr(widget, "pbar") else f"{text}\n{ADVICE}"  # tqdm's bars say all themselves
