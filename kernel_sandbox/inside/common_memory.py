"""Memory that PID 1 and the kernels that are forked from it have in common: a kernel's last words."""

from __future__ import annotations

import mmap

KEPT, READ = 4096, 16 * 1024
WORDS = mmap.mmap(-1, KEPT + READ)
"""The last that a kernel read of what came to its standard error, and what it has read just now. A kernel holds no
descriptor whose other end is PID 1's."""


def keep_words(said: bytes) -> None:
    """Add to the last words of a kernel."""
    WORDS[:KEPT] = (WORDS[:KEPT].rstrip(b"\0") + said)[-KEPT:].ljust(KEPT, b"\0")
