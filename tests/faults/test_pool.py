"""A pool whose engine crashes comes back by itself; a pool whose host is killed leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel_sandbox import EngineError, PoolSettings, SandboxSpec, SessionPool
from tests.faults.census import alive, collect, containers_made, left_at, seconds_until_none, traces
from tests.faults.conftest import Fault
from tests.faults.private_engine import PrivateEngine

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


@pytest.fixture
def crashing(
    private_engine: PrivateEngine, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[PrivateEngine]:
    """The engine that may be killed takes the place of the one that all other tests use."""
    monkeypatch.setenv("DOCKER_HOST", private_engine.host)
    caplog.set_level(logging.CRITICAL, "traitlets")  # a captured exception would keep a socket to the end
    yield private_engine
    gc.collect()


async def reach(pool: SessionPool, state: Callable[[], object], limit: float = 60) -> None:
    changed = asyncio.Event()
    pool.on_change = changed.set
    async with asyncio.timeout(limit):
        while not state():
            changed.clear()
            await changed.wait()


# docker-py leaves a socket that did not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_pool_comes_back_after_its_engine_was_killed(crashing: PrivateEngine, fault: Fault) -> None:
    fault.fault, fault.engine = "engine killed under a pool, then restarted", "docker"
    settings = PoolSettings(ready=1, sessions=3, queue_timeout=0.5)
    pool = SessionPool(settings, spec=SandboxSpec(image="python"), engine="docker")
    async with pool:
        async with pool.acquire("a") as pooled:
            await pooled.execute("lost = 1")
        await reach(pool, lambda: pool.ready == 1)
        killed = time.monotonic()
        crashing.kill()
        await reach(pool, lambda: pooled.state == "dead" and pool.ready == 0 and pool.metrics.start_failures)
        fault.detected_s = time.monotonic() - killed
        with pytest.raises(EngineError):  # a new session waits for `queue_timeout`, then is told why
            async with pool.acquire("b"):
                pass
        with pytest.raises(EngineError):
            async with pool.acquire("a"):
                pass
        await asyncio.to_thread(crashing.start)
        await reach(pool, lambda: pool.ready == 1)
        async with pool.acquire("b") as fresh:
            assert (await fresh.execute("6 * 7")).text == "42"
        async with pool.acquire("a") as again:
            assert "does not answer any more" in str(again.session.restarted_because)
            assert (await again.execute("'lost' in globals()")).text == "False"
    seconds_until_none(lambda: list(map(str, crashing.control_groups())), 10)


def test_killed_host_of_a_pool_leaves_nothing(engine: str, place: Path, fault: Fault) -> None:
    fault.fault, started = "host process with a pool killed", time.time()
    command = [sys.executable, "-m", "tests.faults.pool_host", engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    ids = done.stdout.split()
    assert len(ids) == 4
    fault.detected_s = seconds_until_none(lambda: [found for one in ids for found in alive(engine, one)], 10)
    words = [word for one in ids for word in containers_made(one, started)] if engine == "docker" else []
    collect(engine)
    left = [found for one in ids for found in traces(one, words)] + left_at(place)
    fault.leaked = len(left)
    assert not left
