"""What `service` tells of a session and of its cells. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kernel_sandbox.service.clients import Meeting
from kernel_sandbox.service.ownership import Address
from kernel_sandbox.session.cell import AsyncCellStream
from kernel_sandbox.session.outputs import Execution


@dataclass(frozen=True, slots=True, repr=False)
class SessionView:
    """A session as it is told about."""

    address: Address
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    """When it ends if nobody uses it before."""
    cells: int
    state: str
    last_status: str | None = None
    """How its last cell ended; None before the first."""


@dataclass(frozen=True, slots=True)
class ServedExecution:
    """An execution, and what it took to get there."""

    execution: Execution
    session_id: str
    """The sandbox's own id: not the identifier, and no secret."""
    new_session: bool
    preparation: float
    """Seconds before the cell was sent: for a session, and for its turn."""
    restarted_because: str | None = None
    """Why the kernel that ran it was started, if the client did not know of that: earlier variables are lost."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """A cell whose outputs are iterated over as they come."""

    cell: AsyncCellStream
    meeting: Meeting
    """Of its client and the session."""
    session_id: str
    new_session: bool
    """Whether the session began for this cell: nothing from before is in it."""

    def news(self) -> str | None:
        """Return why the kernel that ran it was started, if the client does not know of that yet. Ask at its end."""
        return self.meeting.news(self.cell)
