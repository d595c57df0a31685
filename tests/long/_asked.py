"""What the command line asks of an entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.sandbox.engines import NAMES


@dataclass(frozen=True)
class Asked:
    """What an entry may use; what it has no use for it leaves."""

    cache: Path
    """A directory for what it fetches and makes, which may still be there from the last time."""
    engines: tuple[str, ...] = NAMES
    count: int | None = None
    """How many sessions, where not as many as the entry has by itself."""
    minutes: float | None = None
    """How long, where not as long as the entry takes by itself."""
