"""The pool: sessions held ready, handed out by identifier, bounded, and ended by time, by death, or by name."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from kernel_sandbox import (
    Execution,
    ImageNotFound,
    KernelNotReady,
    PolicyError,
    PoolClosed,
    PooledSession,
    PoolFull,
    PoolSettings,
    SandboxSpec,
    SessionClosed,
    SessionNotFound,
    SessionPool,
)
from kernel_sandbox.pool import Histogram
from kernel_sandbox.pool.pool_metrics import BOUNDS

pytestmark = pytest.mark.anyio

PYTHON = SandboxSpec(image="python")
DIE = "import os; os._exit(7)"
DIED = "exited with status 7"
STOP_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"


@asynccontextmanager
async def opened(engine: str, **settings: Any) -> AsyncIterator[SessionPool]:
    """A pool that closes without waiting for cells."""
    pool = SessionPool(PoolSettings(**{"ready": 0, **settings}), spec=PYTHON, engine=engine)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.aclose(grace=0.001)


async def reach(pool: SessionPool, state: Callable[[], object], limit: float = 30) -> None:
    """Wait until the pool tells of a change after which `state` holds."""
    changed = asyncio.Event()
    pool.on_change = changed.set
    async with asyncio.timeout(limit):
        while not state():
            changed.clear()
            await changed.wait()


async def value(pool: SessionPool, identifier: str, source: str) -> str:
    async with pool.acquire(identifier) as pooled:
        return (await pooled.execute(source)).raise_for_error().text


async def hold(pool: SessionPool, identifier: str, held: asyncio.Event, release: asyncio.Event) -> PooledSession:
    async with pool.acquire(identifier) as pooled:
        held.set()
        await release.wait()
    return pooled


async def spare_runs(pool: SessionPool, source: str) -> str:
    """Run code in the pool's only spare behind its back; return the spare's id."""
    (spare,) = pool._stock._spares
    content = {"code": source, "silent": True, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    await spare.request("execute_request", content, timeout=0.05)
    return spare.id


async def test_acquire_hands_out_a_warm_session_in_less_than_a_millisecond(engine: str) -> None:
    spent = []
    async with opened(engine, ready=3, sessions=3) as pool:
        await reach(pool, lambda: pool.ready == 3)
        for identifier in ("a", "b", "c"):
            acquired = pool.acquire(identifier)
            began = time.thread_time()  # of this thread alone: other processes use the machine, too
            pooled = await acquired.__aenter__()
            spent.append(time.thread_time() - began)
            assert (await pooled.execute("6 * 7")).text == "42"
            await acquired.__aexit__(None, None, None)
        assert pool.metrics.warm_hits == 3
        assert pool.metrics.cold_starts == 0
    assert statistics.median(spent) < 0.001


async def test_pool_fills_itself_up_again(engine: str) -> None:
    async with opened(engine, ready=1, sessions=3) as pool:
        await reach(pool, lambda: pool.ready == 1)
        async with pool.acquire("a"):
            await reach(pool, lambda: pool.ready == 1)
        assert pool.metrics.refill_seconds.count == 2


async def test_identifier_keeps_its_session(quick: str) -> None:
    async with opened(quick) as pool:
        await value(pool, "a", "kept = 5")
        assert await value(pool, "a", "kept") == "5"
        assert await value(pool, "b", "'kept' in globals()") == "False"
        assert [pooled.cells for pooled in pool.sessions] == [2, 1]


async def test_simultaneous_acquires_of_a_new_identifier_give_one_session(quick: str) -> None:
    async with opened(quick) as pool:
        assert sorted(await asyncio.gather(*(value(pool, "a", "globals().get('n', 0)") for _ in range(5)))) == ["0"] * 5
        assert len(pool.sessions) == 1
        assert pool.metrics.cold_starts == 1
        assert pool.sessions[0].cells == 5


async def test_session_that_is_not_there_is_named_missing(quick: str) -> None:
    async with opened(quick) as pool:
        assert pool.find("a") is None
        with pytest.raises(SessionNotFound):
            async with pool.acquire("a", create=False):
                pass
        assert not pool.sessions


async def test_full_pool_refuses_after_a_deadline(quick: str) -> None:
    async with opened(quick, sessions=1, queue_timeout=0.2) as pool, pool.acquire("a") as pooled:
        began = time.monotonic()
        with pytest.raises(PoolFull, match=r"within 0\.2 s") as refused:
            await value(pool, "b", "1")
        assert time.monotonic() - began >= 0.2
        assert 1 <= refused.value.retry_after <= 60
        assert pool.sessions == (pooled,)
        assert pool.metrics.refused == 1
        assert await value(pool, "a", "1") == "1"


async def test_full_queue_refuses_at_once(quick: str) -> None:
    async with opened(quick, sessions=1, queue_timeout=60, queue_length=1) as pool, pool.acquire("a"):
        waiting = asyncio.create_task(value(pool, "b", "1"))
        await reach(pool, lambda: pool.metrics.sessions["waiting"] == 1)
        with pytest.raises(PoolFull, match="1 wait"):
            await value(pool, "c", "1")
        assert pool.metrics.sessions["waiting"] == 1
        waiting.cancel()


async def test_queue_is_served_in_its_order(quick: str) -> None:
    served: list[str] = []

    async def use(identifier: str) -> None:
        async with pool.acquire(identifier):
            served.append(identifier)

    async with opened(quick, sessions=1, queue_timeout=60) as pool:
        await use("a")
        tasks = [asyncio.create_task(use(identifier)) for identifier in "bcd"]
        for count, identifier in enumerate("abc", 2):
            assert await pool.shutdown(identifier)
            await reach(pool, lambda count=count: len(served) == count)  # type: ignore[misc]
        await asyncio.gather(*tasks)
    assert served == ["a", "b", "c", "d"]


async def test_cancelled_acquires_leave_nothing(quick: str) -> None:
    async with opened(quick, sessions=2, queue_timeout=60) as pool:
        tasks = [asyncio.create_task(value(pool, identifier, "1")) for identifier in "abcd"]
        await reach(pool, lambda: pool.metrics.sessions["waiting"] == 2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert not pool.sessions
        await reach(pool, lambda: not any(pool.metrics.sessions.values()))
        assert list(await asyncio.gather(value(pool, "a", "1"), value(pool, "e", "2"))) == ["1", "2"]


async def test_cancelled_acquire_leaves_the_session_to_the_others(quick: str) -> None:
    async with opened(quick) as pool:
        first, second = (asyncio.create_task(value(pool, "a", "8")) for _ in range(2))
        await reach(pool, lambda: pool.metrics.sessions["starting"] == 1)
        first.cancel()
        assert await second == "8"
        assert pool.metrics.cold_starts == 1


async def test_idle_session_ends_and_a_held_one_stays(quick: str) -> None:
    async with opened(quick, idle_timeout=0.3) as pool, pool.acquire("held") as held:
        await value(pool, "idle", "1")
        pooled = pool.find("idle")
        assert pooled is not None
        assert 0 < (pooled.expires_at - pooled.last_used_at).total_seconds() < 0.31
        await reach(pool, lambda: pool.metrics.expired == 1)
        await reach(pool, lambda: pooled not in pool.sessions)
        assert pool.sessions == (held,)
        assert (await held.execute("2")).text == "2"


async def test_session_is_not_idle_while_a_cell_runs(quick: str) -> None:
    async with opened(quick, idle_timeout=0.3) as pool:
        async with pool.acquire("a") as pooled:
            stream = pooled.stream("import time; time.sleep(1); 'slept'")
        assert pooled.state == "busy"
        async for _ in stream:
            pass
        assert stream.execution is not None
        assert stream.execution.text == "'slept'"
        await reach(pool, lambda: pool.metrics.expired == 1)


async def test_session_takes_no_cell_after_its_lifetime_and_ends_with_the_last(quick: str) -> None:
    async with opened(quick, max_lifetime=0.5) as pool, pool.acquire("a") as pooled:
        last = await pooled.execute("import time; time.sleep(1); 'over'")
        assert last.text == "'over'"
        with pytest.raises(SessionClosed, match="lifetime"):
            await pooled.execute("1")
        async with pool.acquire("a") as fresh:
            assert fresh is not pooled
            assert (await fresh.execute("2")).text == "2"
        await reach(pool, lambda: pooled not in pool.sessions)


async def test_cells_of_a_session_run_one_at_a_time_in_order(engine: str) -> None:
    source = "seen = [*globals().get('seen', []), {}]; import time; time.sleep(0.01); list(seen)"
    async with opened(engine) as pool, pool.acquire("a") as pooled:
        runs = [asyncio.create_task(pooled.execute(source.format(n))) for n in range(5)]
        results = [(await run).text for run in runs]
        assert results == [str(list(range(n + 1))) for n in range(5)]
        assert pooled.state == "idle"


async def test_dead_session_is_started_again_and_says_so(engine: str) -> None:
    async with opened(engine) as pool:
        async with pool.acquire("a") as pooled:
            await pooled.session.files.write("kept.txt", "here")
            assert (await pooled.execute(f"lost = 1\n{DIE}")).status == "dead"
            await reach(pool, lambda: pooled.state == "dead")
            assert DIED in str(pooled.death)
        async with pool.acquire("a") as again:
            assert again is pooled
            assert (again.session.generation, DIED in str(again.session.restarted_because)) == (2, True)
            assert (await again.execute("'lost' in globals(), open('kept.txt').read()")).text == "(False, 'here')"
        async with pool.acquire("a"):
            assert again.session.generation == 2
        assert (pool.metrics.deaths, pool.metrics.restarts) == (1, 1)


async def test_spare_that_died_is_never_handed_out(engine: str) -> None:
    async with opened(engine, ready=1, sessions=2) as pool:
        await reach(pool, lambda: pool.ready == 1)
        dead = await spare_runs(pool, DIE)
        await reach(pool, lambda: pool.metrics.deaths == 1)
        async with pool.acquire("a") as pooled:
            assert pooled.session.id != dead
            assert (await pooled.execute("3")).text == "3"


async def test_spare_that_does_not_answer_is_replaced(quick: str) -> None:
    async with opened(quick, ready=1, sessions=2, health_interval=1.0) as pool:
        await reach(pool, lambda: pool.ready == 1)
        frozen = await spare_runs(pool, STOP_ITSELF)
        await reach(pool, lambda: pool.metrics.refill_seconds.count == 2)
        async with pool.acquire("a") as pooled:
            assert pooled.session.id != frozen


async def test_session_gets_its_notebook_when_it_is_handed_out(quick: str, tmp_path: Path) -> None:
    place = tmp_path / "made" / "by the pool"
    async with SessionPool(PoolSettings(ready=1, sessions=2), spec=PYTHON, engine=quick, save_dir=place) as pool:
        await reach(pool, lambda: pool.ready == 1)
        assert list(place.iterdir()) == []
        for identifier in ("warm", "../cold"):
            await value(pool, identifier, f"'{identifier}'")
        kept = {each.identifier: each.session.transcript.path for each in pool.sessions}
    assert set(place.iterdir()) == {*kept.values()}
    assert not any("warm" in path.name or "cold" in path.name for path in place.iterdir())
    for identifier, path in kept.items():
        (cell,) = nbformat.read(path, as_version=4).cells  # type: ignore[no-untyped-call]
        assert cell.outputs[0].data["text/plain"] == repr(identifier)


async def test_preloaded_modules_are_there_and_leave_no_trace(quick: str) -> None:
    async with opened(quick, ready=1, preload=("wave", "xml.dom.minidom")) as pool:
        await reach(pool, lambda: pool.ready == 1)
        async with pool.acquire("a") as pooled:
            source = "import sys; {'wave', 'xml.dom.minidom'} <= set(sys.modules), 'wave' in globals(), In[1:-1]"
            ran = await pooled.execute(source)
            assert ran.text == "(True, False, [])"
            assert ran.execution_count == 1
            await pooled.session.restart()
            assert (await pooled.execute("import sys; 'wave' in sys.modules")).text == "True"


async def test_libraries_of_the_image_are_loaded_before_a_session_is_ready(engine: str) -> None:
    pool = SessionPool(PoolSettings(ready=0), spec=SandboxSpec(image="datascience"), engine=engine)
    async with pool, pool.acquire("a") as pooled:
        ran = await pooled.execute("import sys; {'numpy', 'pandas', 'matplotlib.pyplot'} - set(sys.modules)")
        assert ran.text == "set()"


async def test_module_that_cannot_be_preloaded_is_named(quick: str) -> None:
    async with opened(quick, preload=("no_such_module",), queue_timeout=0.1) as pool:
        with pytest.raises(KernelNotReady, match="no_such_module"):
            await value(pool, "a", "1")
        assert not pool.sessions


async def test_missing_image_is_told_at_once(quick: str) -> None:
    pool = SessionPool(PoolSettings(queue_timeout=600), spec=SandboxSpec(image="no-such-image"), engine=quick)
    async with pool:
        with pytest.raises(ImageNotFound):
            await value(pool, "a", "1")
        assert not pool.sessions


async def test_session_that_is_shut_down_ends_its_cells_and_frees_its_name(engine: str) -> None:
    async with opened(engine, sessions=2) as pool:
        async with pool.acquire("a") as pooled:
            running, waiting = (asyncio.create_task(pooled.execute(source)) for source in ("while True: pass", "1"))
            await reach(pool, lambda: pooled.cells == 2)
            assert await pool.shutdown("a")
            for run in (running, waiting):
                ended = await run
                assert ended.status == "dead"
                assert isinstance(ended.cause, SessionClosed)
            with pytest.raises(SessionClosed, match="shut down"):
                await pooled.execute("1")
        assert not await pool.shutdown("a")
        assert await value(pool, "a", "len(In)") == "2"
        assert pool.metrics.shut_down == 1


async def test_session_may_be_shut_down_while_it_starts(quick: str) -> None:
    async with opened(quick) as pool:
        asked = asyncio.create_task(value(pool, "a", "1"))
        await reach(pool, lambda: pool.metrics.sessions["starting"] == 1)
        assert await pool.shutdown("a")
        with pytest.raises(SessionClosed):
            await asked
        assert not pool.sessions
        assert await value(pool, "a", "2") == "2"


async def test_closing_lets_cells_end_and_refuses_new_ones(engine: str) -> None:
    async def run(pooled: PooledSession) -> Execution:
        async with pool.acquire("a"):
            return await pooled.execute("import time; time.sleep(0.5); 'ended'")

    pool = SessionPool(PoolSettings(ready=1, sessions=2), spec=PYTHON, engine=engine)
    async with pool:
        async with pool.acquire("a") as pooled:
            pass
        running = asyncio.create_task(run(pooled))
        await reach(pool, lambda: pooled.state == "busy")
    assert (await running).text == "'ended'"
    assert not pool.sessions
    assert not any(pool.metrics.sessions.values())
    with pytest.raises(PoolClosed):
        await value(pool, "a", "1")
    with pytest.raises(PoolClosed):
        await pooled.execute("1")


async def test_closing_ends_cells_that_outlast_its_grace_and_refuses_who_waits(quick: str) -> None:
    async with opened(quick, sessions=1, queue_timeout=60) as pool:
        async with pool.acquire("a") as pooled:
            stream = pooled.stream("while True: pass")
        queued = asyncio.create_task(value(pool, "b", "1"))
        await reach(pool, lambda: pool.metrics.sessions["waiting"] == 1)
        await pool.aclose(grace=0.1)
        async for _ in stream:
            pass
        assert stream.execution is not None
        assert stream.execution.status == "dead"
        with pytest.raises(PoolClosed):
            await queued
        assert not pool.sessions


async def test_pool_that_is_not_open_refuses() -> None:
    pool = SessionPool(spec=PYTHON)
    with pytest.raises(PoolClosed, match="not open"):
        await value(pool, "a", "1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"ready": -1},
        {"ready": 3, "sessions": 2},
        {"sessions": 0},
        {"sessions": True},
        {"queue_timeout": 0},
        {"queue_length": -1},
        {"idle_timeout": float("inf")},
        {"max_lifetime": -1},
        {"preload": ("os; import sys",)},
    ],
    ids=str,
)
def test_settings_refuse_what_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        PoolSettings(**wrong)


async def test_metrics_are_plain_values(quick: str) -> None:
    async with opened(quick, ready=1, sessions=2) as pool:
        await value(pool, "a", "1")
        found = json.loads(json.dumps(pool.metrics.as_dict()))
    assert found["sessions"]["idle"] == 1
    assert found["cold_starts"] + found["warm_hits"] == found["acquire_seconds"]["count"] == 1
    assert found["acquire_seconds"]["buckets"]["+Inf"] == 1


def test_histogram_counts_each_observation_below_its_bounds_and_stays_small() -> None:
    histogram = Histogram()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1e9):
        histogram.observe(seconds)
    buckets = histogram.as_dict()["buckets"]
    assert (buckets[str(BOUNDS[0])], buckets[str(BOUNDS[1])], buckets[str(BOUNDS[-1])], buckets["+Inf"]) == (2, 3, 3, 4)
    assert len(histogram.counts) == len(BOUNDS) + 1


async def test_pool_says_what_its_sessions_may_take_too_much_of(caplog: pytest.LogCaptureFixture) -> None:
    """Of open files, which the kernel counts for the machine as a whole."""
    most = int(Path("/proc/sys/fs/file-max").read_text()) // (128 * 1024)
    for sessions, said in ((min(most, 2), False), (most + 1, True)):
        caplog.clear()
        async with SessionPool(PoolSettings(ready=0, sessions=sessions), spec=PYTHON):
            pass
        assert ("open files: " in caplog.text) is said
