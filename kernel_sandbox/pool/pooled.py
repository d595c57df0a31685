"""A session that was handed out under an identifier: what it does now, since when, and until when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from kernel_sandbox.errors import SandboxError, SessionClosed
from kernel_sandbox.host.affinity import NotCopied
from kernel_sandbox.session.cell import CellStream
from kernel_sandbox.session.outputs import Execution
from kernel_sandbox.session.session import AsyncSession, Timeout
from kernel_sandbox.session.shell_commands import ShellResult
from kernel_sandbox.spec.pool import PoolSettings

SessionState = Literal["starting", "idle", "busy", "stopping", "dead"]
"""What a session of a pool does now."""


class PooledSession(NotCopied):
    """A session of a pool, with its identifier. Run cells through it, so that it counts as used.

    Files, interrupts and the rest are `session`'s. Whoever holds it by `acquire` may use it; others may look.
    """

    def __init__(self, identifier: str, settings: PoolSettings, used: Callable[[PooledSession], None]) -> None:
        self.identifier = identifier
        self.cells = 0
        """How many cells were begun."""
        self.created_at = self.last_used_at = datetime.now(UTC)
        self.holders = 0
        """How many hold it now."""
        self.running = 0
        """How many cells run or wait for their turn."""
        self.refusal: SandboxError | None = None
        """Why it takes no more cells, if it does not."""
        self.opening: asyncio.Task[None] | None = None
        """Done when it can be used, while it cannot yet."""
        self.ended = asyncio.Event()
        """Set when nothing of it is left."""
        self.stopping = False
        self._settings = settings
        self._noted = used
        self._session: AsyncSession | None = None
        self._born = self._used = time.monotonic()

    @property
    def session(self) -> AsyncSession:
        """The session itself. Raises SessionClosed while it is started."""
        if self._session is None:
            raise self.refusal or SessionClosed("The session is being started.")
        return self._session

    @session.setter
    def session(self, session: AsyncSession) -> None:
        self._session = session
        self.created_at, self._born = datetime.now(UTC), time.monotonic()

    @property
    def is_new(self) -> bool:
        """Whether it waits for its first sandbox."""
        return self._session is None

    @property
    def state(self) -> SessionState:
        if self.stopping:
            return "stopping"
        if self._session is None or self.opening is not None:
            return "starting"
        if self._session.death is not None:
            return "dead"
        return "busy" if self.running else "idle"

    @property
    def error(self) -> SandboxError | None:
        """Why it is dead, if it is."""
        return self._session.death if self.state == "dead" and self._session is not None else None

    async def execute(self, source: str, *, timeout: Timeout = "default") -> Execution:
        """Run one cell, after those that were begun before it. See AsyncSession.execute."""
        self._begin()
        try:
            return await self.session.execute(source, timeout=timeout)
        finally:
            self._end()

    def stream(self, source: str, *, timeout: Timeout = "default") -> CellStream:
        """Run one cell and iterate over its outputs as they come. See AsyncSession.stream."""
        self._begin()
        try:
            stream = self.session.stream(source, timeout=timeout)
        except BaseException:
            self._end()
            raise
        stream.run.add_done_callback(lambda _: self._end())
        return stream

    async def run_command(
        self, command: str | Sequence[str], *, timeout: Timeout = "default", posix: bool = False
    ) -> ShellResult:
        """Run a shell command, as a cell. See AsyncSession.run_command."""
        self._begin()
        try:
            return await self.session.run_command(command, timeout=timeout, posix=posix)
        finally:
            self._end()

    def _begin(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.cells += 1
        self.running += 1
        self.touch()

    def _end(self) -> None:
        self.running -= 1
        self.touch()

    def touch(self) -> None:
        """Count as used now."""
        self.last_used_at, self._used = datetime.now(UTC), time.monotonic()
        self._noted(self)

    # When it ends

    @property
    def in_use(self) -> bool:
        return bool(self.holders or self.running)

    @property
    def idle_for(self) -> float:
        """Seconds since it was last used."""
        return 0.0 if self.in_use else time.monotonic() - self._used

    @property
    def seconds_left(self) -> float:
        """Until it ends if nobody uses it before; below 0 where it is due."""
        left = self._settings.idle_timeout - self.idle_for
        return left if self.lifetime_left is None else min(left, self.lifetime_left)

    @property
    def lifetime_left(self) -> float | None:
        longest = self._settings.max_lifetime
        return None if longest is None else self._born + longest - time.monotonic()

    @property
    def expires_at(self) -> datetime:
        """When it ends if nobody uses it before. Moves on while it is used."""
        return datetime.now(UTC) + timedelta(seconds=max(0.0, self.seconds_left))
