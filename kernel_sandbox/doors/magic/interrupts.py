"""The notebook's stop button while a sandbox works: the first press interrupts the sandbox, the second one the magic.

A handler rather than KeyboardInterrupt caught around the loop: the exception could strike between an event that was
taken and its showing, and the event would be lost.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class StopButton:
    """Takes SIGINT while it is entered. Off the main thread (a subshell of ipykernel's) it does nothing.

    The first press calls `action`, in a thread of its own; the second one raises KeyboardInterrupt.
    """

    def __init__(self, action: Callable[[], object]) -> None:
        self.presses = 0
        self.action = action
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def change(self, action: Callable[[], object]) -> None:
        """Do something else at the next press, for something else runs; the count begins anew."""
        self.presses, self.action = 0, action

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.presses += 1
        if self.presses > 1:
            raise KeyboardInterrupt
        # Not here: the main thread may hold a lock that the call needs.
        threading.Thread(target=self._act, args=(self.action,), name="kernel-sandbox-stop", daemon=True).start()

    def _act(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:  # noqa: BLE001 (a sandbox that is gone has nothing to interrupt)
            return
