"""What a running cell tells while it runs: how long it has been running, and its last line. At a bounded rate."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from kernel_sandbox.session.outputs import Event, StreamOutput
from kernel_sandbox.text.ansi import remove_ansi
from kernel_sandbox.text.characters import visible

INTERVAL = 1.0
"""Seconds between two reports."""
MAX_LINE = 200
"""Characters of the last line."""

Report = Callable[[float, str], Awaitable[None]]
"""Told the seconds so far and a line of text."""


class CellProgress:
    """Takes the events of one call, and reports while it is entered."""

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._begun = time.monotonic()
        self._tail = ""

    def take(self, event: Event) -> None:
        """Remember the end of what is written."""
        if self._report is not None and isinstance(event, StreamOutput):
            self._tail = (self._tail + event.text)[-2 * MAX_LINE :]

    @contextlib.asynccontextmanager
    async def reporting(self) -> AsyncIterator[None]:
        """Report until the block is left; nothing where nobody listens."""
        if self._report is None:
            yield
            return
        task = asyncio.ensure_future(self._keep_reporting(self._report))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _keep_reporting(self, report: Report) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            seconds = time.monotonic() - self._begun
            line = self.last_line
            await report(seconds, f"{seconds:.0f} s{': ' + line if line else ''}")

    @property
    def last_line(self) -> str:
        """The last line that says something, as a terminal would show it."""
        lines = remove_ansi(self._tail).replace("\r", "\n").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return visible(last)[-MAX_LINE:]
