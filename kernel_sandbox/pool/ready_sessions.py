"""The sessions that wait for somebody, and those who wait for a session; started in the background, a few at a time.

Everybody who wants a session stands in one line. Who has room gets the next session that is ready; who has none waits
until some session has ended, for `queue_timeout`. Nothing here knows an identifier.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kernel_sandbox.errors import ImageNotFound, KernelNotReady, PolicyError, PoolClosed, PoolFull, SandboxError
from kernel_sandbox.pool.pool_metrics import PoolMetrics
from kernel_sandbox.session.session import AsyncSession
from kernel_sandbox.spec.pool import PoolSettings

logger = logging.getLogger(__name__)

STARTS = 2
"""How many sessions are started at once: a start takes a processor for a while, and cells run beside it."""
REFILL_AFTER = 0.05
"""Seconds after a session was taken: its first cell goes first."""
CLOSES = 4
"""How many are closed at once."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds before the next start after one that failed; they double each time."""
HEALTH_PATIENCE = 5.0
"""Seconds, but no longer than until the next question, in which the kernel of a ready session answers one."""
FIRST_CELL = {"code": "", "silent": True, "store_history": False, "allow_stdin": False, "user_expressions": {}}
"""What a kernel answers before it counts as ready, unnoticed. Python's has run a cell by then (inside/rehearsal.py)."""
PERMANENT = (ImageNotFound, PolicyError)
"""Failures that the next attempt would only repeat: nobody waits for it."""


@dataclass(eq=False)
class Order:
    """Somebody who waits for a session."""

    session: asyncio.Future[AsyncSession]
    timer: asyncio.TimerHandle = field(init=False)
    """Ends their patience."""
    has_room: bool = False
    """Whether it is only the start that they wait for."""
    impatient: bool = False
    """Whether the next failure is theirs."""


class Stock:
    """Keeps `settings.ready` sessions ready, and at most `settings.sessions` in all, those in use included."""

    def __init__(
        self,
        settings: PoolSettings,
        make: Callable[[], AsyncSession],
        metrics: PoolMetrics,
        changed: Callable[[], None],
        soonest: Callable[[], float],
        *,
        prove: bool = False,
    ) -> None:
        """`changed` is told of every change here; `soonest` says in how many seconds there may be room.

        With `prove` a session is started where none has to be: at the beginning, and after one that failed.
        """
        self.settings = settings
        self.metrics = metrics
        self._make, self._changed, self._soonest = make, changed, soonest
        self.out = 0
        """How many sessions somebody has, or are being closed."""
        self._spares: deque[AsyncSession] = deque()
        self._queue: deque[Order] = deque()
        """Those without room, the first come first."""
        self._orders: deque[Order] = deque()
        """Those whose session is started now or next."""
        self._starts: set[asyncio.Task[None]] = set()
        self._disposals: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._closes = asyncio.Semaphore(CLOSES)
        self._pause = 0.0
        self._resume: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._prove = prove
        self.proven = False
        """Whether the last start succeeded; False before the first."""
        self.failure: Exception | None = None
        """Why the last start failed, until one succeeds."""
        self._closed = False

    @property
    def ready(self) -> int:
        return sum(spare.death is None for spare in self._spares)

    @property
    def filling(self) -> int:
        return len(self._starts)

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._queue)

    def open(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._watch_health())
        self._top_up()

    async def aclose(self) -> None:
        """End all that is not handed out, and refuse who waits."""
        self.refuse_all()
        ending = [task for task in (*self._starts, self._watch) if task is not None]
        for task in ending:
            task.cancel()
        for timer in (self._resume, self._later):
            if timer is not None:
                timer.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        while (spare := self._pop()) is not None:
            self._dispose(spare)
        await asyncio.gather(*self._disposals)

    def refuse_all(self) -> None:
        """Start nothing more, and refuse those who wait."""
        self._closed = True
        for order in (*self._queue, *self._orders):
            self._fail(order, PoolClosed("The pool was closed while a session was waited for."))
        self._queue.clear()
        self._orders.clear()

    # Handing out

    def take(self) -> AsyncSession | Order:
        """Give a session that is ready, or a place in the line. Raises PoolFull."""
        spare = self._pop() if not self._queue else None
        if spare is None:
            return self._line_up()
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(REFILL_AFTER, self._refill)
        return spare

    def _line_up(self) -> Order:
        loop = asyncio.get_running_loop()
        order = Order(loop.create_future())
        order.timer = loop.call_later(self.settings.queue_timeout, self._run_out, order)
        self._queue.append(order)
        self._admit()
        if not order.has_room and len(self._queue) > self.settings.queue_length:
            self._queue.remove(order)
            order.timer.cancel()
            raise self._full(f"and {self.settings.queue_length} wait for room already")
        self._top_up()
        return order

    async def wait(self, order: Order) -> AsyncSession:
        """Wait for the session. Raises PoolFull, PoolClosed, or why it did not start. Cancelled, it leaves nothing."""
        try:
            return await order.session
        except asyncio.CancelledError:
            order.timer.cancel()
            if not order.session.cancelled() and order.session.exception() is None:
                self.out -= 1
                self._place(order.session.result())
            for line in (self._queue, self._orders):
                with contextlib.suppress(ValueError):
                    line.remove(order)
            self._next()
            raise

    async def close(self, session: AsyncSession) -> None:
        """End a session. Never fails: what an engine cannot end while it is down it ends when it comes back."""
        async with self._closes:
            try:
                await session.aclose()
            except Exception as exc:  # noqa: BLE001 - whatever it is, the pool goes on
                logger.warning("A session did not close cleanly: %s", type(exc).__name__)

    def returned(self) -> None:
        """Note that a session that was handed out is gone: its room is free."""
        self.out -= 1
        self._next()

    def _next(self) -> None:
        self._admit()
        self._top_up()
        self._changed()

    def _pop(self) -> AsyncSession | None:
        """Take the oldest that lives: its libraries have been loaded for the longest."""
        while self._spares:
            spare = self._spares.popleft()
            self.out += 1
            if spare.death is None:
                return spare
            self._dispose(spare)
        return None

    def _admit(self) -> None:
        """Give room to those who wait for it, in their order, as long as there is some."""
        while self._queue:
            spare = self._pop()
            if spare is None and not self._has_room():
                return
            order = self._queue.popleft()
            order.has_room = True
            if spare is None:
                self._orders.append(order)
            else:
                self._hand(order, spare)

    def _has_room(self) -> bool:
        started = max(len(self._orders) + 1, len(self._starts))
        return self.out + len(self._spares) + started <= self.settings.sessions

    def _hand(self, order: Order, session: AsyncSession) -> None:
        order.timer.cancel()
        order.session.set_result(session)

    def _fail(self, order: Order, failure: Exception) -> None:
        order.timer.cancel()
        if not order.session.done():
            order.session.set_exception(failure)

    def _run_out(self, order: Order) -> None:
        """Refuse who has waited long enough for room, or for an engine that fails."""
        if not order.has_room:
            self._queue.remove(order)
            self._fail(order, self._full(f"and there was no room within {self.settings.queue_timeout:g} s"))
        elif self.failure is not None and order in self._orders:
            self._orders.remove(order)
            self._fail(order, self.failure)
        else:
            order.impatient = True

    def _full(self, why: str) -> PoolFull:
        self.metrics.refused += 1
        used = f"All {self.settings.sessions} sessions of the pool are in use"
        return PoolFull(f"{used}, {why}. Try again later, or shut one down.", retry_after=self._soonest())

    # Starting

    def _refill(self) -> None:
        self._later = None
        self._top_up()

    def _top_up(self) -> None:
        """Start what is missing, as far as there is room."""
        if self._closed or self._resume is not None:
            return
        room = self.settings.sessions - self.out - len(self._spares) - len(self._orders)
        wanted = len(self._orders) + max(0, min(self.settings.ready - len(self._spares), room))
        if self._prove and not self.proven and room > 0:
            wanted = max(wanted, 1)
        while len(self._starts) < min(STARTS, wanted):
            task = asyncio.get_running_loop().create_task(self._start())
            self._starts.add(task)
            task.add_done_callback(self._started)

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starts.discard(task)
        if not task.cancelled() and isinstance(failure := task.exception(), Exception):
            self._start_failed(failure)
        if not self._closed:
            self._next()

    async def _start(self) -> None:
        began, session = time.monotonic(), self._make()
        try:
            await session.open()
            if await session.request("execute_request", FIRST_CELL) is None:
                raise KernelNotReady("The kernel started, but did not run a cell.")
        except asyncio.CancelledError:
            await self.close(session)
            raise
        except Exception as exc:  # noqa: BLE001 - those who wait are told, whatever it is
            await self.close(session)
            self._start_failed(exc)
        else:
            self.proven, self.failure, self._pause = True, None, 0.0
            self.metrics.refill_seconds.observe(time.monotonic() - began)
            self._place(session)

    def _start_failed(self, failure: Exception) -> None:
        if self.failure is None:
            logger.warning("A session did not start: %s", type(failure).__name__)
        self.proven, self.failure = False, failure
        self.metrics.start_failures += 1
        lasting = isinstance(failure, PERMANENT) or not isinstance(failure, SandboxError)
        for order in [order for order in self._orders if lasting or order.impatient]:
            self._orders.remove(order)
            self._fail(order, failure)
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE)
        if self._resume is None:
            self._resume = asyncio.get_running_loop().call_later(self._pause, self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        self._next()

    def _place(self, session: AsyncSession) -> None:
        """Give a session to the first who waits, or keep it; one too many is closed."""
        if session.death is None and self._orders:
            self.out += 1
            self._hand(self._orders.popleft(), session)
        elif session.death is None and len(self._spares) < self.settings.ready and not self._closed:
            session.on_death = lambda cause: self._spare_died(session)
            self._spares.append(session)
        else:
            self.out += 1
            self._dispose(session)
        self._changed()

    def _dispose(self, session: AsyncSession) -> None:
        """Close a session that is counted as out."""

        async def close() -> None:
            await self.close(session)
            self.returned()

        task = asyncio.get_running_loop().create_task(close())
        self._disposals.add(task)
        task.add_done_callback(self._disposals.discard)

    # Health

    def _spare_died(self, session: AsyncSession) -> None:
        if session in self._spares:
            self.metrics.deaths += 1
            self._spares.remove(session)
            self.out += 1
            self._dispose(session)
            self._next()

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(self.settings.health_interval)
            await asyncio.gather(*(self._examine(spare) for spare in list(self._spares)))

    async def _examine(self, spare: AsyncSession) -> None:
        """Ask a spare's kernel something; what does not answer is replaced."""
        answer: dict[str, Any] | None = None
        with contextlib.suppress(SandboxError):
            patience = min(HEALTH_PATIENCE, self.settings.health_interval)
            answer = await spare.request("kernel_info_request", {}, timeout=patience)
        if answer is None:
            self._spare_died(spare)
