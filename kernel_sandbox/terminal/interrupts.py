"""Ctrl-C and a notebook's stop button while cells run: the first one interrupts the cell, the second one ends more."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from kernel_sandbox.errors import SandboxError

Hints = tuple[str, str, str]
"""What a user is told before the first Ctrl-C, after it, and after the second."""


class Interrupts:
    """Takes SIGINT while it is entered. Off the main thread (a subshell of ipykernel's) it does nothing.

    A handler rather than KeyboardInterrupt caught around the loop: the exception could strike between an event that
    was taken and its showing, and the event would be lost.
    """

    def __init__(self, interrupt: Callable[[], None], again: Callable[[], None] | None = None) -> None:
        """Call `interrupt` at the first Ctrl-C, in a thread of its own, and `again` at the later ones.

        Without `again`, the later ones raise KeyboardInterrupt.
        """
        self.count = 0
        self._interrupt = interrupt
        self._again = again
        ends = "ends the run" if again is None else "stops it by force"
        self._hints: Hints = ("Ctrl-C interrupts", f"interrupting; Ctrl-C again {ends}", "stopping by force")
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    @property
    def hint(self) -> str:
        """What the user can do now, or is waiting for."""
        return self._hints[min(self.count, 2)]

    def change(self, interrupt: Callable[[], None], again: Callable[[], None], hints: Hints = ("", "", "")) -> None:
        """Do something else from now on, for something else runs; the count begins anew."""
        self.count, self._interrupt, self._again, self._hints = 0, interrupt, again, hints

    @contextlib.contextmanager
    def passed_on(self) -> Any:
        """Make Ctrl-C raise KeyboardInterrupt while the user is asked something."""
        if self._previous is None:
            yield
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, self._handle)

    def interrupt(self) -> None:
        """Do what the first Ctrl-C does."""
        self._handle(signal.SIGINT, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        action = self._interrupt if self.count == 1 else self._again
        if action is None:
            raise KeyboardInterrupt
        # Not here: the main thread may hold a lock that the call needs.
        threading.Thread(target=_run, args=(action,), name="kernel-sandbox-interrupt", daemon=True).start()


def _run(action: Callable[[], None]) -> None:
    with contextlib.suppress(SandboxError):
        action()
