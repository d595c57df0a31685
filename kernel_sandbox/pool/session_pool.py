"""SessionPool: sessions by identifier, as many as there may be, each until it is shut down, idle or old."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kernel_sandbox.errors import PoolClosed, PoolFull, SandboxError, SessionClosed, SessionNotFound
from kernel_sandbox.host import forks
from kernel_sandbox.host.affinity import Affinity, NotCopied
from kernel_sandbox.pool.pool_metrics import PoolMetrics
from kernel_sandbox.pool.pooled import Entry, PooledSession
from kernel_sandbox.pool.ready_sessions import Order, Stock
from kernel_sandbox.pool.saving import make_save_dir, new_notebook
from kernel_sandbox.pool.stages import Closing, Finishing, Ready, Reviving, Starting
from kernel_sandbox.session.session import AsyncSession
from kernel_sandbox.setup.capacity import shortages
from kernel_sandbox.spec.forms import require, require_policy
from kernel_sandbox.spec.pool import PoolSettings
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.text.quoting import quoted

logger = logging.getLogger(__name__)

FORKED = "The pool was opened before this process was forked, and is the parent's: open another one here."
GRACE = 10.0
"""Seconds that cells get to end when the pool closes."""
LEAST_RETRY, MOST_RETRY = 1.0, 60.0
"""Seconds: what a refusal advises to wait is between these."""


class SessionPool(NotCopied):
    """Hands out sessions by identifier, from some that are held ready. Use it as an async context manager.

    All sessions are alike: `spec` and `engine` are those of AsyncSession. In `save_dir`, a directory, the cells of each
    session are kept as a notebook, whose name tells nothing of the identifier: `session.transcript.path` is it.
    `on_change`, where set, is called after every change that `sessions` or `metrics` show.

    `open` returns at once: sessions start in the background. Where the engine fails they are tried again. With `prove`
    one is started, and tried again, even if none is to be held ready: `proven` says whether one can be.
    """

    def __init__(
        self,
        settings: PoolSettings | None = None,
        *,
        spec: SandboxSpec | None = None,
        engine: str | None = None,
        save_dir: str | Path | None = None,
        prove: bool = False,
    ) -> None:
        require_policy("settings", settings, (PoolSettings, type(None)), "PoolSettings, such as PoolSettings(ready=1)")
        require_policy("spec", spec, (SandboxSpec, type(None)), "a SandboxSpec")
        require("engine", engine, (str, type(None)), "'docker', 'bubblewrap' or None")
        require("save_dir", save_dir, (str, Path, type(None)), "the path of a directory")
        self.settings = settings or PoolSettings()
        spec = spec or SandboxSpec()
        self.spec = replace(spec, preload=(*(spec.preload or ()), *self.settings.preload))
        """As given; but libraries are loaded before a session is ready, which nobody waits for."""
        self.metrics = PoolMetrics(self._states)
        self.on_change: Callable[[], None] | None = None
        self._engine = engine
        self._save_dir = None if save_dir is None else Path(save_dir).expanduser()
        self._entries: dict[str, Entry] = {}
        self._leaving: set[Entry] = set()
        """Those whose end is on its way. Their identifiers are free."""
        self._background: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._at_rest = asyncio.Event()
        self._opened = False
        self._stock = Stock(self.settings, self._make, self.metrics, self._changed, self._retry_after, prove=prove)
        self._refusal: SandboxError | None = PoolClosed("The pool is not open: use it in an `async with` block.")
        self._is_the_parents = False
        self._affinity = Affinity("pool", "open another one here")
        forks.tell(self)

    def __repr__(self) -> str:
        kind = type(self).__name__
        if "_affinity" not in vars(self):  # the last that is set: its constructor has failed
            return f"<{kind}>"
        state = "new" if not self._opened else "open" if self._refusal is None else "closed"
        known = self._engine or next((entry.session.engine for entry in self.sessions if not entry.is_new), "")
        engine = f"engine {quoted(known)}, " if known else ""
        handed = f"{len(self.sessions)} of {self.settings.sessions} sessions handed out"
        return f"<{kind}: {state}, {engine}image {quoted(self.spec.image)}, {handed}>"

    def after_fork(self) -> None:
        """Leave the sessions to the parent. What is not open yet can be opened here."""
        if self._opened:
            self._is_the_parents, self._refusal, self._affinity = True, PoolClosed(FORKED), Affinity("", "")

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Begin to fill the pool, and return at once. Raises TranscriptError where `save_dir` cannot be made."""
        if self._opened:
            raise PoolClosed("A pool opens once: make a new one.")
        if self._save_dir is not None:
            make_save_dir(self._save_dir)
        self._affinity.bind()
        self._opened, self._refusal = True, None
        for shortage in shortages(self.settings.sessions, self.spec.limits):
            logger.warning("The sessions may exhaust this machine. %s", shortage)
        self._stock.open()

    async def aclose(self, *, grace: float = GRACE) -> None:
        """Refuse what is new, give the cells that run `grace` seconds to end, then end all sessions."""
        if self._is_the_parents:
            return
        self._affinity.check()
        self._refusal = PoolClosed("The pool is closed.")
        self._stock.refuse_all()
        self._changed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._at_rest.wait()
        if self._timer is not None:
            self._timer.cancel()
        for entry in list(self._entries.values()):
            self._end(entry)
        await asyncio.gather(*(entry.ended.wait() for entry in self._leaving), self._stock.aclose())

    # Looking

    def find(self, identifier: str) -> PooledSession | None:
        """Give the session of an identifier, if there is one, without counting as a use of it."""
        entry = self._entries.get(identifier)
        return entry.pooled if entry is not None else None

    @property
    def sessions(self) -> tuple[PooledSession, ...]:
        """All that were handed out, those that are ending included."""
        return tuple(entry.pooled for entry in (*self._entries.values(), *self._leaving))

    @property
    def ready(self) -> int:
        """How many sessions wait for somebody."""
        return self._stock.ready

    @property
    def proven(self) -> bool:
        """Whether the last session that was started did start; False before the first."""
        return self._stock.proven

    @property
    def failure(self) -> Exception | None:
        """Why the last session did not start, until one does."""
        return self._stock.failure

    def _states(self) -> Mapping[str, int]:
        names = ("starting", "idle", "busy", "restarting", "dead", "closing")
        found = Counter(dict.fromkeys(names, 0))
        found.update(entry.state for entry in self.sessions)
        return {**found, "ready": self._stock.ready, "filling": self._stock.filling, "waiting": self._stock.waiting}

    # Handing out

    @contextlib.asynccontextmanager
    async def acquire(self, identifier: str, *, create: bool = True) -> AsyncIterator[PooledSession]:
        """Hold the session of an identifier: while it is held, it does not count as idle.

        There may be several holders at once. Where there is no such session it is made, or (without `create`)
        SessionNotFound is raised. A session that has died is started again: `session.generation` has grown then, and
        `session.restarted_because` says why.
        Raises PoolFull, PoolClosed, and what AsyncSession.open raises.
        """
        require("identifier", identifier, str, "a text")
        entry = await self._hold(identifier, create)
        try:
            yield entry.pooled
        finally:
            self._let_go(entry)

    async def _hold(self, identifier: str, create: bool) -> Entry:
        self._affinity.check()
        began = time.perf_counter()
        entry = self._entries.get(identifier)
        while entry is not None and entry.refusal is not None and self._refusal is None:
            await self._outlive(entry)
            entry = self._entries.get(identifier)
        if self._refusal is not None:
            raise self._refusal
        if entry is None:
            if not create:
                raise SessionNotFound("There is no session of this identifier.")
            entry = self._add(identifier, began)
        elif isinstance(entry.stage, Ready) and entry.session.death is not None:
            self._revive(entry, entry.stage)
        entry.holders += 1
        try:
            await self._opened_by_now(entry)
        except BaseException:
            self._let_go(entry)
            raise
        entry.touch()
        return entry

    async def _opened_by_now(self, entry: Entry) -> None:
        if isinstance(entry.stage, Starting | Reviving):
            opening = entry.stage.opening
            await asyncio.wait([opening])  # a holder that goes away leaves it to the others
            if not opening.cancelled():
                opening.result()
        if entry.refusal is not None:
            raise entry.refusal

    async def _outlive(self, entry: Entry) -> None:
        """Wait until a session that takes no more cells has ended."""
        try:
            async with asyncio.timeout(self.settings.queue_timeout):
                await entry.ended.wait()
        except TimeoutError as exc:
            self.metrics.refused += 1
            raise PoolFull(
                "The session has reached its lifetime, and its last cell still runs. Try again later.",
                retry_after=self._retry_after(),
            ) from exc

    def _add(self, identifier: str, began: float) -> Entry:
        path = None if self._save_dir is None else new_notebook(self._save_dir)
        got = self._stock.take()
        entry = Entry(identifier, self.settings, self._refusal_of_cells, self._used)
        self._entries[identifier] = entry
        if isinstance(got, Order):
            entry.stage = Starting(self._in_background(self._fetch(entry, got, path, began)))
        else:
            entry.stage = Ready(got)
            self._prepare(got, path)
            self.metrics.note_acquired(time.perf_counter() - began, warm=True)
        self._changed()
        return entry

    async def _fetch(self, entry: Entry, order: Order, path: Path | None, began: float) -> None:
        try:
            session = await self._stock.wait(order)
        except BaseException:
            self._take_out(entry)
            entry.ended.set()
            self._changed()
            raise
        entry.give(session)
        self._prepare(session, path)
        self.metrics.note_acquired(time.perf_counter() - began, warm=False)

    def _prepare(self, session: AsyncSession, path: Path | None) -> None:
        session.transcript.path = path
        session.transcript.private = True  # it is one of many callers', perhaps in a directory that all may read
        session.on_death = lambda cause: self._died()
        self._schedule()

    def _let_go(self, entry: Entry) -> None:
        entry.holders -= 1
        if entry.holders == 0 and isinstance(entry.stage, Starting):
            self._take_out(entry)  # nobody waits for it any more
            entry.stage.opening.cancel()
        entry.touch()
        self._schedule()

    def _take_out(self, entry: Entry) -> None:
        if self._entries.get(entry.identifier) is entry:
            del self._entries[entry.identifier]

    def _revive(self, entry: Entry, dead: Ready) -> None:
        """Start a dead session again: a fresh kernel, in its sandbox where that still stands."""

        async def restart() -> None:
            try:
                await dead.session.restart_if_dead()
                self.metrics.restarts += 1
            finally:
                if isinstance(entry.stage, Reviving):
                    entry.stage = entry.stage.revived()
                self._changed()

        entry.stage = dead.reviving(self._in_background(restart()))

    def _died(self) -> None:
        self.metrics.deaths += 1
        self._changed()

    # Ending

    async def shutdown(self, identifier: str) -> bool:
        """End a session, and say whether there was one. The next `acquire` of its identifier gives a fresh one."""
        entry = self._entries.get(identifier)
        if entry is None:
            return False
        if self._is_the_parents and self._refusal is not None:
            raise self._refusal
        self._affinity.check()
        self.metrics.shut_down += 1
        self._end(entry)
        await entry.ended.wait()
        return True

    def _end(self, entry: Entry) -> None:
        """Take a session out, and end it in the background."""
        if isinstance(entry.stage, Closing):
            return
        why = entry.refusal or SessionClosed("The session was shut down. Acquire it again for a fresh one.")
        self._take_out(entry)
        entry.stage = Closing(why, entry.stage)
        self._leaving.add(entry)
        self._in_background(self._close(entry, entry.stage))
        self._changed()

    async def _close(self, entry: Entry, closing: Closing) -> None:
        if isinstance(closing.before, Starting | Reviving):
            closing.before.opening.cancel()
            await asyncio.wait([closing.before.opening])
        if not entry.is_new:
            await self._stock.close(entry.session)
            self._stock.returned()
        self._leaving.discard(entry)
        entry.ended.set()
        self._changed()

    def _expire(self) -> None:
        """End the sessions whose time is over, and look again when the next one's may be."""
        self._timer = None
        for entry in list(self._entries.values()):
            if entry.seconds_left <= 0:
                if isinstance(entry.stage, Ready):
                    entry.stage = entry.stage.finishing(SessionClosed("The session has reached its lifetime."))
                self._end_if_over(entry)
        self._schedule()

    def _end_if_over(self, entry: Entry) -> None:
        """End a session that takes no more cells, once its last one is over."""
        if isinstance(entry.stage, Finishing) and not entry.running and self._refusal is None:
            self.metrics.expired += 1
            self._end(entry)

    def _schedule(self) -> None:
        """Look at the sessions when the first may be due."""
        waiting = [entry for entry in self._entries.values() if isinstance(entry.stage, Ready)]
        if self._timer is None and waiting and self._refusal is None:
            soonest = min(entry.seconds_left for entry in waiting)
            self._timer = asyncio.get_running_loop().call_later(max(0.0, soonest), self._expire)

    def _used(self, entry: Entry) -> None:
        self._end_if_over(entry)
        self._changed()

    def _retry_after(self) -> float:
        """In how many seconds there may be room: when the first session ends if nobody uses it."""
        soonest = min((entry.seconds_left for entry in self._entries.values()), default=LEAST_RETRY)
        return min(max(soonest, LEAST_RETRY), MOST_RETRY)

    # The rest

    def _refusal_of_cells(self) -> SandboxError | None:
        """Return why no session takes a cell any more; in a forked child each says that itself."""
        return None if self._is_the_parents else self._refusal

    def _make(self) -> AsyncSession:
        return AsyncSession(engine=self._engine, spec=self.spec)

    def _changed(self) -> None:
        if self._refusal is not None and not any(entry.running for entry in self._entries.values()):
            self._at_rest.set()
        if self.on_change is not None:
            self.on_change()

    def _in_background(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # who waits for it is told
