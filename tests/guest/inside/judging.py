"""How a program in the guest tells what it saw: figures as they are, and what is wrong behind a mark."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

MARK = "WRONG: "
"""Before what is wrong, a sentence a line; checks.py reads it."""


def figure(text: str) -> None:
    print(text, flush=True)


def expect(kept: bool, sentence: str) -> None:
    """Say what is wrong, unless it is right."""
    if not kept:
        print(f"{MARK}{sentence}", flush=True)


def comes(state: Callable[[], bool], seconds: float) -> bool:
    """Wait for a state, and return whether it came."""
    deadline = time.monotonic() + seconds
    while not state() and time.monotonic() < deadline:
        time.sleep(0.2)
    return state()


def available() -> int:
    """Return the bytes that the machine could still give to programs."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
