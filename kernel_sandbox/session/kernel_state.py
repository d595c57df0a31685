"""What a session's kernel is at, as one value: each case holds what only it has, and its methods say what may follow.

    New ─ Opening ─ Open ─ Dead ─ Restarting ─ Open     a restart may also come at once, without a death
                                  Restarting ─ NotRestarted ─ Restarting
    KernelClosed may follow each, and nothing follows it

SessionKernel makes the values and ends what they hold; nothing here waits or starts anything.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

from kernel_sandbox.errors import SandboxError, SessionClosed
from kernel_sandbox.session.channels import Channels

NOT_OPEN = "The session is not open: use it in a `with` block."

Stage = Literal["new", "starting", "open", "restarting", "dead", "closed"]
"""How far a session has come, in a word."""


SessionState = Literal["new", "starting", "idle", "busy", "restarting", "dead", "closing", "closed"]
"""What a session does now, in a word. "closing" is a pool's session that is shut down, until nothing of it is left."""


class KernelRestarting(SandboxError):
    """Why no cell can run while a fresh kernel is started."""


def _not_open() -> SandboxError:
    return SessionClosed(NOT_OPEN)


def _restarting() -> SandboxError:
    return KernelRestarting("The kernel is being restarted.")


@dataclass(frozen=True, eq=False)
class KernelConnection:
    """What the session has of one kernel that answered."""

    channels: Channels
    watching: asyncio.Task[None]
    """Waits for the kernel's end."""

    async def close(self) -> None:
        """Leave the kernel: nobody is told how one ended that was restarted."""
        self.watching.cancel()
        await self.channels.close()


@dataclass(frozen=True, eq=False)
class New:
    """Nothing was started."""

    stage: ClassVar[Stage] = "new"
    why_no_cell: SandboxError = field(default_factory=_not_open)

    def opening(self, start: asyncio.Future[None]) -> Opening:
        return Opening(start, self.why_no_cell)


@dataclass(frozen=True, eq=False)
class Opening:
    """The first kernel is started."""

    stage: ClassVar[Stage] = "starting"
    start: asyncio.Future[None]
    why_no_cell: SandboxError

    def connected(self, connection: KernelConnection) -> Open:
        return Open(connection)


@dataclass(frozen=True, eq=False)
class Open:
    """Cells run."""

    stage: ClassVar[Stage] = "open"
    connection: KernelConnection
    why_no_cell: None = None

    def died(self, cause: SandboxError) -> Dead:
        return Dead(cause, self.connection)

    def restarting(self, because: str) -> Restarting:
        return Restarting(because)


@dataclass(frozen=True, eq=False)
class Dead:
    """The kernel has ended, or is heard no more. What it has shown last may still come."""

    stage: ClassVar[Stage] = "dead"
    why_no_cell: SandboxError
    connection: KernelConnection

    def restarting(self, because: str) -> Restarting:
        return Restarting(because)


@dataclass(frozen=True, eq=False)
class Restarting:
    """Another kernel is started."""

    stage: ClassVar[Stage] = "restarting"
    because: str
    why_no_cell: SandboxError = field(default_factory=_restarting)

    def connected(self, connection: KernelConnection) -> Open:
        return Open(connection)

    def failed(self, cause: SandboxError) -> NotRestarted:
        return NotRestarted(cause, self.because)


@dataclass(frozen=True, eq=False)
class NotRestarted:
    """No other kernel has started. The next restart is for the same reason: this failure is none."""

    stage: ClassVar[Stage] = "dead"
    why_no_cell: SandboxError
    because: str

    def restarting(self, because: str) -> Restarting:
        return Restarting(self.because)


@dataclass(frozen=True, eq=False)
class KernelClosed:
    """The session is closed, did not open, or is that of the process from which this one was forked."""

    stage: ClassVar[Stage] = "closed"
    why_no_cell: SandboxError


KernelState: TypeAlias = New | Opening | Open | Dead | Restarting | NotRestarted | KernelClosed
