"""What `ps` shows of our processes: a few words instead of the sources that they were started with."""

from __future__ import annotations

import ctypes


def show_as(*words: str) -> None:
    """Write words over this process's arguments, where /proc reads them (proc(5), stat, fields 48 and 49)."""
    try:
        with open("/proc/self/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        text = b"\0".join(word.encode() for word in words)
        if start and end - start > len(text):
            ctypes.memset(start, 0, end - start)
            ctypes.memmove(start, text, len(text))
    except (OSError, ValueError, IndexError):
        pass  # a kernel that does not say where they are
