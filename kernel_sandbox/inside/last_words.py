"""The last that a kernel wrote to standard error, kept in PID 1 for the message about its end.

A kernel of ours shows what comes to its descriptor 2, through a pipe of its own. Beside that it keeps the last of it in
memory that PID 1 has too (common_memory.py), and what is still in the pipe when it dies (the C library's reason to
abort, faulthandler's traceback) is read here. Descriptor 2 of any other kernel is a pipe of PID 1, read a piece at a
time with a pause after each: who writes without end waits.
"""

from __future__ import annotations

import asyncio
import os
import stat

from kernel_sandbox.inside import common_memory

PIECE = 64 * 1024
PAUSE = 0.02
"""Seconds after each piece: 3 MB a second at most."""
AT_THE_END = 16
"""Pieces of each pipe: as much as one can hold. Other processes of the kernel's may go on writing."""


class LastWords:
    """What one kernel said last."""

    def __init__(self, slot: int) -> None:
        """`slot` is where the kernel keeps them (common_memory.py)."""
        self._shared = common_memory.words(slot)
        self._shared[:] = bytes(len(self._shared))
        self._kept = b""
        self._readers: list[int] = []

    def listen(self) -> int:
        """Return a descriptor for the kernel to write to."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        self._readers.append(reader)
        self._wait(reader)
        return writer

    def _wait(self, reader: int) -> None:
        if reader in self._readers:
            asyncio.get_running_loop().add_reader(reader, self._hear, reader)

    def _hear(self, reader: int) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(reader)
        if self._take(reader):
            loop.call_later(PAUSE, self._wait, reader)

    def _take(self, reader: int) -> bool:
        """Read a piece. Returns whether there was any."""
        try:
            piece = os.read(reader, PIECE)
        except OSError:
            piece = b""
        self._kept = (self._kept + piece)[-common_memory.KEPT :]
        return bool(piece)

    def also(self, pid: int, number: str) -> None:
        """Read a pipe of the kernel's own at its end, too: its descriptor of that number, before any cell has run."""
        try:
            reader = os.open(f"/proc/{pid}/fd/{int(number)}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return  # an engine whose /proc cannot do that: only the very last words are missing then
        if stat.S_ISFIFO(os.fstat(reader).st_mode):
            self._readers.append(reader)
        else:
            os.close(reader)

    def said(self) -> bytes:
        """Return what was kept, with all that waits to be read by now."""
        kept, read = (
            bytes(self._shared[: common_memory.KEPT]).rstrip(b"\0"),
            bytes(self._shared[common_memory.KEPT :]).rstrip(b"\0"),
        )
        self._kept += kept if kept.endswith(read) else kept + read
        self._shared[:] = bytes(len(self._shared))
        for reader in self._readers:
            for _ in range(AT_THE_END):
                if not self._take(reader):
                    break
        return self._kept[-common_memory.KEPT :]

    def close(self) -> None:
        """Close the pipes; whoever still writes to them gets an error."""
        for reader in self._readers:
            asyncio.get_running_loop().remove_reader(reader)
            os.close(reader)
        self._readers = []
