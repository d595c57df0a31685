"""What the tools need of whoever has the sessions: `local` has one, `hosted` has those of a service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.session.outputs import Event, Execution

OnEvent = Callable[[Event], None]


class CallRefused(SandboxError):
    """A call that is not done, for a reason that its caller may read as it stands."""


@dataclass(frozen=True, slots=True)
class CallExecution:
    """An execution, and what became of its session."""

    execution: Execution
    new_session: bool
    """Whether the session was begun for this cell: nothing from before is there."""
    note: str = ""
    """What else the caller must know, in a sentence."""
    restarted_because: str | None = None
    """Why the kernel that ran it was started, if the caller did not know of that."""


@dataclass(frozen=True, slots=True)
class SessionLine:
    """A session, as a list of them shows it."""

    identifier: str
    state: str
    cells: int
    created_at: datetime
    last_used_at: datetime


class ToolSession(Protocol):
    """One session, which need not have begun: the first use begins it. All methods raise SandboxErrors."""

    @property
    def key(self) -> str:
        """What tells it from every other one. Never shown."""

    @property
    def identifier(self) -> str:
        """By what its caller may address it; empty where there is only one."""

    async def run(self, source: str, timeout: float, on_event: OnEvent) -> CallExecution:
        """Run a cell after those before it, for at most `timeout` seconds. A cancelled call interrupts it."""

    async def list_files(self, directory: str) -> tuple[FileInfo, ...]:
        """List the tree below a directory of /mnt/data."""

    async def read_file(self, name: str, limit: int) -> bytes:
        """Give a file's bytes; FileError for more than `limit`."""

    async def write_file(self, name: str, data: bytes) -> FileInfo:
        """Write a file, replacing one of that name."""

    async def restart(self) -> str:
        """Start a fresh kernel, and say in a sentence what is lost and what stays."""

    async def shutdown(self) -> str:
        """End the sandbox, and say in a sentence what is lost. The next use begins another."""

    async def transcript(self) -> bytes:
        """Give the notebook as it stands."""


class SessionHolder(Protocol):
    """Who has the sessions."""

    @property
    def takes_identifiers(self) -> bool:
        """Whether a caller may have several."""

    @property
    def max_timeout(self) -> float:
        """The most seconds that a caller may ask for a cell."""

    def session(self, caller: Any, identifier: str | None) -> ToolSession:
        """Find the caller's session of that identifier, or the one without. `caller` is what the transport knows."""

    def sessions(self, caller: Any) -> Sequence[SessionLine]:
        """List the caller's sessions."""

    def explain(self, exc: Exception) -> str:
        """Return what an exception means, in words that the caller may read."""
