"""What a long piece of work says of itself while it runs: the image builder tells it, a door shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One moment of the work."""

    stage: str
    """What is being done, in words: "pull base", "make Debian root", "download packages", "build"."""
    detail: str = ""
    """One line of what happens right now."""
    done: int | None = None
    total: int | None = None
    """How much of the stage there is (bytes, packages or steps), where that is known.

    `done` without a `total` marks a moment that is worth showing only where the next one takes its place.
    """


Report = Callable[[Progress], None]
"""Takes each moment as it comes; it must return soon, since the work waits for it."""
