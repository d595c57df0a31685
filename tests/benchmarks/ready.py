"""A session of the pool: from acquire to the first result, beside a warm cell of a bare local kernel."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
from functools import partial

from kernel_sandbox import PooledSession, PoolSettings, SandboxSpec, SessionPool
from kernel_sandbox.sandbox.engines import NAMES
from tests.benchmarks.rows import Row
from tests.benchmarks.sides import IMAGE, LOCAL, Local, tell, timed
from tests.benchmarks.starts import BETWEEN

CELL = "1 + 1"
READY = 2
WARM = 7
"""Cells of the bare kernel before each session's."""


def settings(ready: int, sessions: int) -> PoolSettings:
    return PoolSettings(ready=ready, sessions=sessions, queue_timeout=600, idle_timeout=3600)


async def filled(pool: SessionPool, count: int) -> None:
    """Wait until so many sessions are ready, and nothing is being started or ended."""
    changed = asyncio.Event()
    pool.on_change = changed.set
    async with asyncio.timeout(1800):
        while pool.ready < count or pool.metrics.sessions["filling"] or pool.metrics.sessions["closing"]:
            changed.clear()
            await changed.wait()


async def answer(pooled: PooledSession) -> None:
    assert (await pooled.execute(CELL)).text == "2"


async def acquire(pool: SessionPool, identifier: str) -> None:
    """Take a session and run its first cell."""
    async with pool.acquire(identifier) as pooled:
        await answer(pooled)


async def first_results(rounds: int, row: Row) -> None:
    """Take a session of a pool that is full and at rest, between cells of a bare kernel."""
    async with contextlib.AsyncExitStack() as stack:
        local = await stack.enter_async_context(contextlib.aclosing(Local()))
        await local.open()
        spec = SandboxSpec(image=IMAGE)
        pools = {
            engine: await stack.enter_async_context(SessionPool(settings(READY, 2 * READY), spec=spec, engine=engine))
            for engine in NAMES
        }
        for number in range(rounds):
            tell("pool", number, rounds)
            bare: list[float] = []
            for engine, pool in pools.items():
                for other in pools.values():
                    await filled(other, READY)
                await asyncio.sleep(BETWEEN)
                bare += [await timed(partial(local.execute, CELL)) for _ in range(WARM)]
                row.add(engine, await timed(partial(acquire, pool, "somebody")))
                await pool.shutdown("somebody")
            row.add(LOCAL, statistics.median(bare))
