"""Which kernel of a session one client knows. Every door that runs cells for somebody keeps one for each client.

A client is told once, with its first cell in a kernel that it did not know, that variables from before are gone and
why. What a restart asked for by the client itself has started, it knows already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Sent(Protocol):
    """A cell that may have been sent: a CellStream or an AsyncCellStream."""

    @property
    def generation(self) -> int | None:
        """Which kernel it was sent to."""

    @property
    def restarted_because(self) -> str | None:
        """Why that one was started."""


@dataclass(slots=True)
class KnownKernel:
    """The newest kernel that a client knows."""

    generation: int
    """As `session.generation` counts them."""

    def news(self, cell: Sent) -> str | None:
        """Return why the kernel of a cell was started, if the client does not know of it yet."""
        if cell.generation is None or cell.generation <= self.generation:
            return None
        self.generation = cell.generation
        return cell.restarted_because
