"""Collect the outputs of the cells of a session: coalesce, clear, update, and keep to the caps.

The session has one SessionOutputs, and feeds one CellOutputs per cell with that cell's messages. What crosses from a
sandbox is kept here and in the transcript only, so the caps bound what a session costs its host.

Upstream, nbclient keeps adjacent streams apart, drops pager payloads and late output, and crashes on updates of
coalesced output; JupyterLab's OutputArea is the behaviour followed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kernel_sandbox.session.outputs.content import (
    Bundle,
    clean_bundle,
    clean_count,
    clean_display_id,
    clean_error,
    error_size,
    shrink_error,
)
from kernel_sandbox.session.outputs.output_values import (
    ClearOutput,
    DisplayData,
    DisplayUpdate,
    ErrorOutput,
    Event,
    ExecuteResult,
    Output,
    StreamOutput,
)
from kernel_sandbox.spec.values import Limits, parse_size
from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.utf8 import clean_text, text_head, text_size

MAX_CELL_OUTPUTS = 10_000
MAX_SESSION_OUTPUTS = 100_000
"""Small outputs cost more memory than their bytes: about a kilobyte each."""
MAX_DISPLAY_COPIES = 100
"""Outputs of one display_id that an update changes, the latest: without a bound each update costs more."""
MAX_DISPLAY_MARKERS = 20
"""Outputs of one cell that are replaced by a marker; further ones are only counted."""
MAX_SMALL_ERRORS = 5
"""Errors of one cell that are shown, clipped, although no room is left."""


@dataclass(slots=True, eq=False)
class _Stream:
    name: str
    size: int = 0
    buffer: io.StringIO = field(default_factory=io.StringIO)

    @property
    def output(self) -> StreamOutput:
        return StreamOutput(self.name, self.buffer.getvalue())


@dataclass(slots=True, eq=False)
class _Display:
    cell: CellOutputs
    output: DisplayData | ExecuteResult
    size: int = 0


@dataclass(slots=True, eq=False)
class _Error:
    output: ErrorOutput
    size: int = 0
    own: bool = False
    """True: the session's word, not the kernel's, so the kernel cannot clear it."""


@dataclass(slots=True, eq=False)
class _Cut:
    """What a cell did not show, and the marker that says so."""

    limit: str = ""
    placed: bool = False
    text: int = 0
    """Bytes."""
    outputs: int = 0

    @property
    def output(self) -> StreamOutput:
        cut = [f"{format_size(self.text)} of text"] if self.text else []
        cut += [f"{self.outputs} output{'s' if self.outputs > 1 else ''}"] if self.outputs else []
        return StreamOutput("stderr", _marker(f"output cut here; {' and '.join(cut)} not shown ({self.limit})"))

    @property
    def live_text(self) -> str:
        return _marker(f"output cut here; the rest is not shown ({self.limit})")


def _marker(text: str) -> str:
    return f"\n[kernel-sandbox: {text}]\n"


class SessionOutputs:
    """What the cells of one session share: the byte budget and the display ids. No I/O, one thread."""

    def __init__(self, limits: Limits, on_change: Callable[[CellOutputs], None] | None = None) -> None:
        """Keep to `limits.output_bytes` a cell and `limits.session_output_bytes` in all.

        `on_change` is called with a cell whenever another cell changed one of its displays, once per message.
        """
        self.cell_limit = parse_size(limits.output_bytes)
        self.session_limit = parse_size(limits.session_output_bytes)
        self.used_bytes = 0
        """What stands in all cells, as UTF-8 and base64; markers and the session's own errors are not charged."""
        self._count = 0
        self._displays: dict[str, list[_Display]] = {}
        self._on_change = on_change

    def cell(self) -> CellOutputs:
        """Start to collect another cell."""
        return CellOutputs(self)

    def forget_displays(self) -> None:
        """Forget all displays, so that later updates change nothing: the kernel that made them is gone."""
        self._displays.clear()

    def _register(self, display: _Display) -> None:
        if display.output.display_id is not None:
            copies = self._displays.setdefault(display.output.display_id, [])
            copies.append(display)
            del copies[:-MAX_DISPLAY_COPIES]

    def _unregister(self, display: _Display) -> None:
        copies = self._displays.get(display.output.display_id or "", [])
        if display in copies:
            copies.remove(display)
        if not copies:
            self._displays.pop(display.output.display_id or "", None)

    def _update(self, display_id: str, bundle: Bundle, origin: CellOutputs) -> DisplayUpdate | None:
        """Change every copy of a display; None where there is none."""
        copies = self._displays.get(display_id, [])
        for display in copies:
            display.cell._replace(display, bundle, origin)
        for cell in dict.fromkeys(display.cell for display in copies):
            if cell is not origin and self._on_change is not None:
                self._on_change(cell)
        if not copies:
            return None
        return DisplayUpdate(display_id, copies[-1].output.data, copies[-1].output.metadata)


class CellOutputs:
    """The outputs of one cell, as they stand. Made by `SessionOutputs.cell`; goes on taking late output."""

    def __init__(self, session: SessionOutputs) -> None:
        self.execution_count: int | None = None
        """From execute_input or execute_result: 0 to 2**31 - 1."""
        self.overflowed = False
        """A cap of the cell or the session was hit; stays true when the output is cleared."""
        self.used_bytes = 0
        """What stands in this cell, counted as in SessionOutputs."""
        self._session = session
        self._slots: list[_Stream | _Display | _Error | _Cut] = []
        self._clear_next = False
        self._forget_cuts()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs as they stand now: streams merged, cleared ones gone, displays updated, cuts marked."""
        return tuple(slot.output for slot in self._slots)

    def feed(self, message_type: str, content: Mapping[str, Any]) -> Event | None:
        """Take an iopub message of this cell, and give what a live consumer shows for it; None for nothing.

        A stream event is the increment. Where a cap is hit the event carries a marker once; the marker in
        `outputs` goes on counting. Unknown types and malformed content are dropped.
        """
        if not isinstance(content, Mapping):
            return None
        match message_type:
            case "stream":
                return self._feed_stream(content)
            case "display_data" | "execute_result":
                return self._feed_display(message_type, content)
            case "update_display_data":
                return self._feed_update(content)
            case "clear_output":
                return self._feed_clear(content)
            case "error":
                return self._feed_error(content)
            case "execute_input":
                self._count_execution(content)
        return None

    def feed_payload(self, payload: Any) -> Event | None:
        """Take one item of an execute_reply's `payload` list: a page (`obj?`) is shown as display data.

        All others are dropped; set_next_input would write into the user's notebook.
        """
        if not isinstance(payload, Mapping) or payload.get("source") != "page":
            return None
        data = payload.get("data", {"text/plain": payload.get("text")})
        return self._feed_display("display_data", {"data": data})

    def add_error(self, ename: str, evalue: str, traceback: Iterable[str] = ()) -> ErrorOutput:
        """Add the session's own error (KernelDied, CellTimeout). It is never cut, and never cleared."""
        error = ErrorOutput(clean_text(ename), clean_text(evalue), tuple(map(clean_text, traceback)))
        self._slots.append(_Error(error, own=True))
        return error

    def _feed_stream(self, content: Mapping[str, Any]) -> StreamOutput | None:
        text = content.get("text")
        if not isinstance(text, str) or not text:
            return None
        self._clear_if_due()
        text = clean_text(text)
        name = "stderr" if content.get("name") == "stderr" else "stdout"
        size = text_size(text)
        if self._cut.text:  # what came after a cut would read as if nothing was missing
            self._cut.text += size
            return None
        last = self._slots[-1] if self._slots else None
        stream = last if isinstance(last, _Stream) and last.name == name else None
        room = 0 if stream is None and self._is_full() else self._room()
        head = text if size <= room else text_head(text, room)
        kept = size if head is text else text_size(head)
        if head:
            self._write(stream, name, head, kept)
        if kept == size:
            return StreamOutput(name, text)
        self._place_marker()
        self._cut.text += size - kept
        return StreamOutput(name if head else "stderr", head + self._cut.live_text)

    def _write(self, stream: _Stream | None, name: str, text: str, size: int) -> None:
        if stream is None:
            stream = _Stream(name)
            self._append(stream, 0)
        stream.buffer.write(text)
        self._charge(stream, size)

    def _feed_display(self, message_type: str, content: Mapping[str, Any]) -> Event | None:
        self._count_execution(content)
        if not isinstance(content.get("data"), Mapping):
            return None
        display_id = clean_display_id(content.get("transient"))
        bundle = self._bundle(content)
        if not bundle.types and display_id is None:
            return None
        self._clear_if_due()
        if display_id is not None:
            self._session._update(display_id, bundle, self)
        if message_type == "execute_result":
            count = clean_count(content.get("execution_count"))
            return self._add_display(ExecuteResult(bundle.data, bundle.metadata, count, display_id), bundle)
        return self._add_display(DisplayData(bundle.data, bundle.metadata, display_id), bundle)

    def _feed_update(self, content: Mapping[str, Any]) -> Event | None:
        display_id = clean_display_id(content.get("transient"))
        if display_id is None or display_id not in self._session._displays:
            return None
        return self._session._update(display_id, self._bundle(content), self)

    def _feed_clear(self, content: Mapping[str, Any]) -> ClearOutput:
        self._clear_next = bool(content.get("wait"))
        if not self._clear_next:
            self._clear()
        return ClearOutput(self._clear_next)

    def _feed_error(self, content: Mapping[str, Any]) -> Event | None:
        self._clear_if_due()
        error = clean_error(content)
        size = error_size(error)
        if size <= self._room() and not self._is_full():
            self._append(_Error(error), size)
            return error
        if self._small_errors >= MAX_SMALL_ERRORS:
            return self._drop_output()
        self.overflowed = True
        self._small_errors += 1
        error = shrink_error(error)
        self._append(_Error(error), 0)
        return error

    def _count_execution(self, content: Mapping[str, Any]) -> None:
        count = clean_count(content.get("execution_count"))
        self.execution_count = self.execution_count if count is None else count

    def _bundle(self, content: Mapping[str, Any]) -> Bundle:
        # The limit of the cell, not the room left: a marker is to say how large the thing was. A flood gets no markers,
        # and what of it is not shown is not looked through either.
        is_marked = self._display_markers < MAX_DISPLAY_MARKERS or content.get("transient")
        limit = self._session.cell_limit if is_marked else self._room()
        return clean_bundle(content.get("data"), content.get("metadata"), limit)

    def _add_display(self, output: DisplayData | ExecuteResult, bundle: Bundle) -> Event | None:
        fits = bundle.whole and bundle.size <= self._room()
        if self._is_full() or (not fits and self._display_markers >= MAX_DISPLAY_MARKERS):
            return self._drop_output()
        if not fits:
            self._display_markers += 1
            self.overflowed = True
            output = self._marked(output, bundle)
        display = _Display(self, output)
        self._append(display, bundle.size if fits else 0)
        self._session._register(display)
        return output

    def _replace(self, display: _Display, bundle: Bundle, origin: CellOutputs) -> None:
        """Put an update in the place of what stands, and charge the difference."""
        fits = bundle.whole and bundle.size <= self._room() + display.size
        if fits:
            display.output = replace(display.output, data=bundle.data, metadata=bundle.metadata)
        else:
            origin.overflowed = True
            display.output = self._marked(display.output, bundle)
        self._charge(display, (bundle.size if fits else 0) - display.size)

    def _marked(self, output: DisplayData | ExecuteResult, bundle: Bundle) -> DisplayData | ExecuteResult:
        kinds = (", ".join(bundle.types[:3]) or "a display") + (", …" if len(bundle.types) > 3 else "")
        size = format_size(bundle.size) if bundle.whole else f"more than {format_size(bundle.size)}"
        text = f"[kernel-sandbox: {kinds} of {size} not shown ({self._limit_text()})]"
        return replace(output, data={"text/plain": text}, metadata={})

    def _drop_output(self) -> Event | None:
        """Count an output that is not even marked; the first time, say so."""
        self._cut.outputs += 1
        if self._cut.placed:
            return None
        self._place_marker()
        return StreamOutput("stderr", self._cut.live_text)

    def _place_marker(self) -> None:
        self.overflowed = True
        if self._cut.placed:  # for outputs that were dropped before: text is cut here, further down
            self._slots.remove(self._cut)
        self._cut.limit, self._cut.placed = self._limit_text(), True
        self._slots.append(self._cut)

    def _limit_text(self) -> str:
        if self._is_full():
            return f"limit {MAX_CELL_OUTPUTS:,} outputs a cell, {MAX_SESSION_OUTPUTS:,} a session"
        session = self._session
        if session.session_limit - session.used_bytes < session.cell_limit - self.used_bytes:
            return f"limit {format_size(session.session_limit)} a session"
        return f"limit {format_size(session.cell_limit)} a cell"

    def _room(self) -> int:
        session = self._session
        return min(session.cell_limit - self.used_bytes, session.session_limit - session.used_bytes)

    def _is_full(self) -> bool:
        return len(self._slots) >= MAX_CELL_OUTPUTS or self._session._count >= MAX_SESSION_OUTPUTS

    def _append(self, slot: _Stream | _Display | _Error, size: int) -> None:
        self._slots.append(slot)
        self._session._count += 1
        self._charge(slot, size)

    def _charge(self, slot: _Stream | _Display | _Error, size: int) -> None:
        slot.size += size
        self.used_bytes += size
        self._session.used_bytes += size

    def _clear_if_due(self) -> None:
        if self._clear_next:
            self._clear_next = False
            self._clear()

    def _clear(self) -> None:
        """Take back all but the session's own errors, and free what it was charged."""
        kept: list[_Stream | _Display | _Error | _Cut] = []
        for slot in self._slots:
            if isinstance(slot, _Error) and slot.own:
                kept.append(slot)
            elif not isinstance(slot, _Cut):
                self._session._count -= 1
                self._charge(slot, -slot.size)
            if isinstance(slot, _Display):
                self._session._unregister(slot)
        self._slots = kept
        self._forget_cuts()

    def _forget_cuts(self) -> None:
        self._cut = _Cut()
        self._display_markers = 0
        self._small_errors = 0
