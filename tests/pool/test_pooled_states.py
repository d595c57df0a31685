"""What a pool's session is at, as its users see it: each state, each way from one to the next, and nothing else."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from kernel_sandbox import (
    KernelDied,
    PoolClosed,
    PooledSession,
    PoolSettings,
    SandboxLost,
    SandboxSpec,
    SessionClosed,
    SessionPool,
)
from tests.faults.census import seconds_until_none, traces
from tests.pool.test_pool import DIE, hold, opened, reach, value

pytestmark = pytest.mark.anyio

USERS = {"identifier", "session", "is_new", "state", "death", "cells", "execute", "stream", "run_command"}
USERS |= {"created_at", "last_used_at", "expires_at"}


async def test_pooled_session_shows_what_its_users_may_use(quick: str) -> None:
    async with opened(quick) as pool, pool.acquire("a") as pooled:
        assert {name for name in dir(pooled) if not name.startswith("_")} == USERS
        for name in USERS - {"execute", "stream", "run_command"}:
            with pytest.raises(AttributeError):
                setattr(pooled, name, None)


async def test_states_follow_each_other(quick: str) -> None:
    async with opened(quick) as pool:
        held, release = asyncio.Event(), asyncio.Event()
        holding = asyncio.create_task(hold(pool, "a", held, release))
        await reach(pool, lambda: pool.find("a") is not None)
        pooled = pool.find("a")
        assert pooled is not None
        assert (pooled.state, pooled.is_new, pooled.death) == ("starting", True, None)
        with pytest.raises(SessionClosed, match="being started"):
            await pooled.execute("1")
        await held.wait()
        assert [pooled.state, pooled.is_new] == ["idle", False]
        stream = pooled.stream("import time; time.sleep(0.1)")
        states = [pooled.state]
        async for _ in stream:
            pass
        assert [*states, pooled.state] == ["busy", "idle"]
        await pooled.execute(DIE)
        await reach(pool, lambda: pooled.state == "dead")
        assert isinstance(pooled.death, KernelDied)
        again = asyncio.create_task(value(pool, "a", "6 * 7"))
        await asyncio.sleep(0)
        assert [pooled.state, pooled.is_new, pooled.death] == ["restarting", False, None]
        assert await again == "42"
        assert (pooled.state, pooled.session.generation) == ("idle", 2)
        closing = asyncio.create_task(pool.shutdown("a"))
        await asyncio.sleep(0)
        assert (pooled.state, pool.find("a"), pool.sessions) == ("closing", None, (pooled,))
        assert await closing
        assert (pooled.state, pool.sessions) == ("closed", ())
        with pytest.raises(SessionClosed, match="was shut down"):
            await pooled.execute("1")
        release.set()
        assert await holding is pooled


async def dead(pool: SessionPool) -> PooledSession:
    async with pool.acquire("a") as pooled:
        await pooled.execute(DIE)
        await reach(pool, lambda: pooled.state == "dead")
    return pooled


async def test_session_that_cannot_be_started_again_is_dead_until_it_can(quick: str) -> None:
    async with opened(quick) as pool:
        pooled = await dead(pool)
        shutil.rmtree(pooled.session.connection_file.parent)
        with pytest.raises(SandboxLost, match="was removed") as failed:
            await value(pool, "a", "1")
        assert (pooled.state, pooled.death) == ("dead", failed.value)
        assert await value(pool, "a", "6 * 7") == "42"
        assert (pooled.state, pool.find("a"), pool.metrics.restarts) == ("idle", pooled, 1)


async def test_session_may_be_shut_down_while_it_is_started_again(quick: str) -> None:
    async with opened(quick, sessions=1) as pool:
        pooled = await dead(pool)
        again = asyncio.create_task(value(pool, "a", "1"))
        await asyncio.sleep(0.01)
        assert pooled.state == "restarting"
        assert await pool.shutdown("a")
        with pytest.raises(SessionClosed, match="was shut down"):
            await again
        assert not pool.sessions
        seconds_until_none(lambda: traces(pooled.session.id), 2)
        assert await value(pool, "a", "2") == "2"


async def test_session_that_is_shut_down_just_when_it_comes_leaves_its_room(quick: str) -> None:
    """That comes between the moment when the session is there and the one when it is handed on."""
    async with opened(quick, sessions=1) as pool:
        asked = asyncio.create_task(value(pool, "a", "1"))
        while pool.metrics.refill_seconds.count == 0:
            await asyncio.sleep(0)
        pooled = pool.find("a")
        assert pooled is not None
        assert pooled.is_new
        assert await pool.shutdown("a")
        with pytest.raises(SessionClosed, match="was shut down"):
            await asked
        seconds_until_none(lambda: traces(pooled.session.id), 2)
        assert await value(pool, "b", "2") == "2"


@pytest.mark.parametrize("stage", ["starting", "restarting", "in its last cell"])
async def test_pool_that_closes_refuses_the_session_whatever_it_is_at(quick: str, stage: str) -> None:
    lifetime = 0.4 if stage == "in its last cell" else None
    pool = SessionPool(PoolSettings(ready=0, max_lifetime=lifetime), spec=SandboxSpec(image="python"), engine=quick)
    await pool.open()
    asked = None
    if stage == "restarting":
        await dead(pool)
    if stage == "in its last cell":
        async with pool.acquire("a") as pooled:
            stream = pooled.stream("while True: pass")
            await asyncio.sleep(0.5)
            assert pooled.state == "busy"
            with pytest.raises(SessionClosed, match="lifetime"):
                await pooled.execute("1")
    else:
        asked = asyncio.create_task(value(pool, "a", "1"))
        await asyncio.sleep(0.01)
        found = pool.find("a")
        assert found is not None
        pooled = found
        assert pooled.state == stage
    closing = asyncio.create_task(pool.aclose(grace=0.1))
    await asyncio.sleep(0)
    with pytest.raises(PoolClosed):
        await pooled.execute("1")
    await closing
    if asked is None:
        async for _ in stream:
            pass
    else:
        with pytest.raises(PoolClosed):
            await asked
    with pytest.raises(PoolClosed):
        await pooled.execute("1")
    assert not pool.sessions
