"""What other clients of a session's kernel have it do: `jupyter console --existing`, a notebook that attached itself.

A kernel tells every client whose request it is busy with (the Jupyter messaging protocol, "Kernel status"). A cell of
the session is not sent meanwhile: its time would pass while another's code runs, and an interrupt would hit that.

The kernel's word is taken only where there is another client: hostile code could name one that is not there, and no
cell would ever be sent or run out of its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel_sandbox.session.cell import RunningCell

MOST_REQUESTS = 1000
"""Requests of others that are counted at a time; an honest kernel is busy with one, and with one on its control
channel."""


class OtherClients:
    """Which requests of other clients one kernel is busy with."""

    def __init__(self, exist: Callable[[], bool]) -> None:
        self._exist = exist
        self._busy: set[str] = set()
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self.on_change: Callable[[], None] | None = None
        """Called when `busy` has changed."""

    @property
    def exist(self) -> bool:
        """Whether this kernel has had another client beside the session."""
        return self._exist()

    @property
    def busy(self) -> bool:
        """Whether the kernel runs something for another client."""
        return bool(self._busy)

    def note(self, request: str, state: object) -> None:
        """Take a status whose request is not the session's."""
        before = self.busy
        if state == "busy" and self.exist and len(self._busy) < MOST_REQUESTS:
            self._busy.add(request)
            self._at_rest.clear()
        elif state == "idle":
            self._busy.discard(request)
            if not self._busy:
                self._at_rest.set()
        if self.on_change is not None and self.busy != before:  # else a kernel could put a cell's time limit off
            self.on_change()

    async def rest(self, cell: RunningCell) -> None:
        """Wait until the kernel does nothing for others, or the cell is over before that."""
        while self._busy and not cell.over.is_set():
            waits = [asyncio.ensure_future(self._at_rest.wait()), asyncio.ensure_future(cell.over.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
