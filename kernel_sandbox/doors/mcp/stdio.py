"""The process's standard input and output as the protocol's wire, which nothing else of the process can touch.

The wire's descriptors are private copies; what else writes to standard output gets to standard error, and what reads
standard input finds its end. The reading and the writing are done in daemon threads, since neither can be cancelled,
and the process must end while they wait.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import queue
import threading
from collections.abc import Callable
from typing import Self

import anyio

PIECE = 64 * 1024


def take_wire() -> tuple[Lines, Writer]:
    """Make standard input and output the protocol's own, once in a process. Needs a running event loop."""
    source, target = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Lines(source), Writer(target)


class Lines:
    """The lines that come in: an asynchronous iterator, which ends with the input, or when it is told to."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._taken = threading.Semaphore(16)
        """How many lines may wait: a client that sends faster than it is served waits itself."""
        self.on_end: Callable[[], None] = lambda: None
        """Called when there is no more, before the iteration ends."""
        self._ended = False
        threading.Thread(target=self._read, name="kernel-sandbox-stdin", daemon=True).start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        buffer: list[str] = []
        while piece := self._read_piece():
            *lines, rest = decoder.decode(piece).split("\n")
            for line in lines:
                self._taken.acquire()
                self._post("".join([*buffer, line]))
                buffer.clear()
            buffer.append(rest)
        self._post(None)

    def _read_piece(self) -> bytes:
        try:
            return os.read(self._descriptor, PIECE)
        except OSError:  # a terminal that is gone
            return b""

    def _post(self, line: str | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._take, line)
        except RuntimeError:  # the loop has ended
            return

    def _take(self, line: str | None) -> None:
        if line is None:
            self.end()
        elif not self._ended:
            self._lines.put_nowait(line)

    def end(self) -> None:
        """End the input, whatever still comes."""
        if not self._ended:
            self._ended = True
            self.on_end()
            self._lines.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        line = None if self._ended else await self._lines.get()
        if line is None:
            raise StopAsyncIteration
        self._taken.release()
        return line


class Writer:
    """Writes texts, one after the other, in the order of the calls."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._texts: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._waiting: set[asyncio.Future[None]] = set()
        self._abandoned = False
        threading.Thread(target=self._write_all, name="kernel-sandbox-stdout", daemon=True).start()

    async def write(self, text: str) -> None:
        """Write a text, and return when the reader's pipe has it all. Raises ClosedResourceError without a reader."""
        if self._abandoned:
            raise anyio.ClosedResourceError
        written: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(written)
        self._texts.put((text.encode("utf-8", "replace"), written))
        try:
            await written
        finally:
            self._waiting.discard(written)

    async def flush(self) -> None:
        """Do nothing: what is written is on its way."""

    def abandon(self) -> None:
        """Wait no more for a reader that does not read."""
        self._abandoned = True
        for written in self._waiting:
            _settle(written, anyio.ClosedResourceError())

    def _write_all(self) -> None:
        while True:
            data, written = self._texts.get()
            problem: Exception | None = None
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                problem = anyio.ClosedResourceError()
            try:
                self._loop.call_soon_threadsafe(_settle, written, problem)
            except RuntimeError:  # the loop has ended
                return


def _settle(written: asyncio.Future[None], problem: Exception | None) -> None:
    if written.done():
        return
    if problem is None:
        written.set_result(None)
    else:
        written.set_exception(problem)
