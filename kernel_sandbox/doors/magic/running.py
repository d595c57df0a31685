"""One `%%sandbox` cell: its events go to the notebook as they come, and its end is the magic's."""

from __future__ import annotations

from typing import Any

from kernel_sandbox.doors.magic.bundles import Display, safe_bundle
from kernel_sandbox.doors.magic.front_end import Bundle, Front
from kernel_sandbox.doors.magic.sessions import Slot
from kernel_sandbox.doors.magic.shown_errors import failed_cell, failure
from kernel_sandbox.session.outputs import (
    ClearOutput,
    DisplayUpdate,
    ErrorOutput,
    Event,
    Execution,
    StreamOutput,
    fresh_kernel,
)
from kernel_sandbox.session.session import Timeout
from kernel_sandbox.terminal.interrupts import Interrupts
from kernel_sandbox.text.ansi import StreamCleaner, clean_terminal_text


class CellShow:
    """Shows the events of one cell of a session."""

    def __init__(self, front: Front, session_id: str, display: Display) -> None:
        self._front = front
        self._prefix = session_id
        self._display = display
        self._cleaners = {"stdout": StreamCleaner(), "stderr": StreamCleaner()}
        self._updates: dict[str, Bundle] = {}
        self.error: ErrorOutput | None = None
        """The last error of the cell, which is shown as the magic's own."""

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, StreamOutput):
            self._front.write(self._cleaners[event.name].feed(event.text), event.name)
        elif isinstance(event, ErrorOutput):
            self._show_error()
            self.error = event
        elif isinstance(event, ClearOutput):
            self._front.clear(wait=event.wait)
        else:
            bundle = safe_bundle(event.data, event.metadata, self._display)
            self._show_bundle(bundle, event.display_id, update=isinstance(event, DisplayUpdate))

    def _show_bundle(self, bundle: Bundle, display_id: str | None, *, update: bool) -> None:
        # Display ids are the whole notebook's: without the prefix a sandbox could change the user's own displays.
        named = f"{self._prefix}-{display_id}" if display_id else None
        if update and not self._front.rich:
            self._updates[display_id or ""] = bundle  # a terminal cannot update: the last state is shown at the end
        else:
            self._front.publish(bundle, named, update=update)

    def _show_error(self) -> None:
        """Show an error after which the cell went on: a display that failed, say."""
        if self.error is not None:
            text = "\n".join(self.error.traceback) or f"{self.error.ename}: {self.error.evalue}"
            self._front.write(clean_terminal_text(text) + "\n", "stderr")
        self.error = None

    def finish(self, execution: Execution) -> None:
        """Show what is left. Raises MagicFailed for a cell that did not end well."""
        for bundle in self._updates.values():
            self._front.publish(bundle)
        if execution.status != "ok":
            raise failed_cell(execution, self.error) from None
        self._show_error()


def run_cell(front: Front, slot: Slot, source: str, timeout: Timeout, display: Display) -> Execution:
    """Run a cell and show it live. Raises MagicFailed where it fails.

    The stop button interrupts the sandbox's cell, or gives it up where it has not begun; pressed again it gives up
    waiting, and the cell may run on.
    """
    session, show = slot.session, CellShow(front, slot.session.id, display)
    stream: Any = None

    def stop() -> None:
        if stream is not None and stream.is_waiting:
            stream.close()
        else:
            session.interrupt()

    def tell_news() -> None:
        if (because := slot.known.news(stream)) is not None:
            front.write(f"{fresh_kernel(because)}\n", "stderr")

    try:
        with Interrupts(stop):
            stream = session.stream(source, timeout=timeout)
            for event in stream:
                tell_news()
                show.show(event)
            tell_news()
    except KeyboardInterrupt:
        raise failure(
            "KeyboardInterrupt",
            "Not waited for any longer: the sandbox's cell may still run. `%sandbox restart` ends it.",
        ) from None
    execution: Execution = stream.result()
    show.finish(execution)
    return execution
