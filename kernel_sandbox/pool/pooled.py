"""A session that was handed out under an identifier: what its users see of it, and what the pool knows of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from kernel_sandbox.errors import SandboxError, SessionClosed
from kernel_sandbox.host.affinity import NotCopied
from kernel_sandbox.pool.stages import Closing, Finishing, Reviving, Stage, Starting
from kernel_sandbox.session.cell import AsyncCellStream
from kernel_sandbox.session.kernel_state import SessionState
from kernel_sandbox.session.outputs import Execution
from kernel_sandbox.session.session import AsyncSession, Timeout
from kernel_sandbox.session.shell_commands import CommandResult
from kernel_sandbox.spec.pool import PoolSettings


class PooledSession(NotCopied):
    """A session of a pool, with its identifier. Run cells through it, so that it counts as used.

    Files, interrupts and the rest are `session`'s. Whoever holds it by `acquire` may use it; others may look.
    """

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    @property
    def identifier(self) -> str:
        return self._entry.identifier

    @property
    def session(self) -> AsyncSession:
        """The session itself. Raises SessionClosed while it is started."""
        return self._entry.session

    @property
    def is_new(self) -> bool:
        """Whether it waits for its first sandbox."""
        return self._entry.is_new

    @property
    def state(self) -> SessionState:
        """What it does now."""
        return self._entry.state

    @property
    def death(self) -> SandboxError | None:
        """Why it is dead, if it is."""
        return self.session.death if self.state == "dead" else None

    @property
    def cells(self) -> int:
        """How many cells were begun."""
        return self._entry.cells

    @property
    def created_at(self) -> datetime:
        """When it was handed out for the first time."""
        return self._entry.created_at

    @property
    def last_used_at(self) -> datetime:
        return self._entry.last_used_at

    @property
    def expires_at(self) -> datetime:
        """When it ends if nobody uses it before. Moves on while it is used."""
        return datetime.now(UTC) + timedelta(seconds=max(0.0, self._entry.seconds_left))

    async def execute(self, source: str, *, timeout: Timeout = "default") -> Execution:
        """Run one cell, after those that were begun before it. See AsyncSession.execute."""
        self._entry.begin()
        try:
            return await self.session.execute(source, timeout=timeout)
        finally:
            self._entry.end()

    def stream(self, source: str, *, timeout: Timeout = "default") -> AsyncCellStream:
        """Run one cell and iterate over its outputs as they come. See AsyncSession.stream."""
        self._entry.begin()
        try:
            stream = self.session.stream(source, timeout=timeout)
        except BaseException:
            self._entry.end()
            raise
        stream.run.add_done_callback(lambda _: self._entry.end())
        return stream

    async def run_command(
        self, command: str | Sequence[str], *, timeout: Timeout = "default", posix: bool = False
    ) -> CommandResult:
        """Run a shell command, as a cell. See AsyncSession.run_command."""
        self._entry.begin()
        try:
            return await self.session.run_command(command, timeout=timeout, posix=posix)
        finally:
            self._entry.end()


class Entry:
    """The pool's side of one PooledSession: what it is at, who uses it, and until when."""

    def __init__(
        self,
        identifier: str,
        settings: PoolSettings,
        refusal: Callable[[], SandboxError | None],
        used: Callable[[Entry], None],
    ) -> None:
        """`refusal` says why the pool takes no more cells, if it does not; `used` is told of every use."""
        self.identifier = identifier
        self.pooled = PooledSession(self)
        self.stage: Stage
        """Given by the pool before anybody sees it."""
        self.holders = 0
        """How many hold it now."""
        self.running = 0
        """How many cells run or wait for their turn."""
        self.cells = 0
        self.ended = asyncio.Event()
        """Set when nothing of it is left."""
        self.created_at = self.last_used_at = datetime.now(UTC)
        self._born = self._used = time.monotonic()
        self._settings, self._refusal, self._noted = settings, refusal, used

    def give(self, session: AsyncSession) -> None:
        """Have the session that was waited for. Its time begins now."""
        if isinstance(self.stage, Starting | Closing):
            self.stage = self.stage.given(session)
            self.created_at, self._born = datetime.now(UTC), time.monotonic()

    @property
    def is_new(self) -> bool:
        return isinstance(self.stage.before if isinstance(self.stage, Closing) else self.stage, Starting)

    @property
    def session(self) -> AsyncSession:
        stage = self.stage.before if isinstance(self.stage, Closing) else self.stage
        if isinstance(stage, Starting):
            raise self.refusal or SessionClosed("The session is being started.")
        return stage.session

    @property
    def state(self) -> SessionState:
        if isinstance(self.stage, Closing):
            return "closed" if self.ended.is_set() else "closing"
        if isinstance(self.stage, Starting):
            return "starting"
        if isinstance(self.stage, Reviving):
            return "restarting"
        if (state := self.stage.session.state) in ("idle", "busy"):
            return "busy" if self.running else "idle"  # a cell that waits for its turn counts
        return state

    @property
    def refusal(self) -> SandboxError | None:
        """Why it takes no more cells, if it does not."""
        if isinstance(self.stage, Closing):
            return self.stage.why
        return self._refusal() or (self.stage.why if isinstance(self.stage, Finishing) else None)

    def begin(self) -> None:
        """Count a cell. Raises why none may begin."""
        if (refusal := self.refusal) is not None:
            raise refusal
        self.cells += 1
        self.running += 1
        self.touch()

    def end(self) -> None:
        """Count a cell as over."""
        self.running -= 1
        self.touch()

    def touch(self) -> None:
        """Count as used now."""
        self.last_used_at, self._used = datetime.now(UTC), time.monotonic()
        self._noted(self)

    @property
    def idle_for(self) -> float:
        """Seconds since it was last used."""
        return 0.0 if self.holders or self.running else time.monotonic() - self._used

    @property
    def seconds_left(self) -> float:
        """Until it ends if nobody uses it before; below 0 where it is due."""
        left = self._settings.idle_timeout - self.idle_for
        longest = self._settings.max_lifetime
        return left if longest is None else min(left, self._born + longest - time.monotonic())
