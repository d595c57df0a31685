"""Measure the pool beside bare local ipykernels, in one run: `python -m tests.benchmarks.pool [--quick]`.

Three things: how soon a cell's first result comes from a session that was held ready; what a hundred sessions that
live at once cost, and how soon each answers; how many cells a second several sessions run beside as many bare kernels.
The reference is `Local` of tests/benchmarks: jupyter_client on the python3 kernel of this environment.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from kernel_sandbox import Limits, PooledSession, SandboxSpec, SessionPool
from kernel_sandbox.sandbox.engines import NAMES
from tests.benchmarks.holding import available, proportional, sandbox_processes
from tests.benchmarks.ready import CELL, answer, filled, settings
from tests.benchmarks.sides import Local

MOST_MILLISECONDS = 12.0
"""From acquire to the first result, warm."""
MOST_RATIO = 3.0
"""The same, beside a bare kernel's warm cell."""
OWN_MILLISECONDS = 1.0
"""Of acquire alone, in the host's own thread."""
READY = 4
PARALLEL = 8
MANY = 100
MB = 1024 * 1024


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1000


def quantile(values: Iterable[float], share: float) -> float:
    found = sorted(values)
    return found[min(len(found) - 1, int(share * len(found)))]


def verdict(*, met: bool, goal: str) -> str:
    return f"   {'met' if met else 'MISSED'} (goal {goal})"


async def first_results(engine: str, image: str, rounds: int) -> int:
    """Acquire a ready session and run its first cell, between cells of a bare kernel.

    The first of each round finds the pool full and at rest; those after it compete with the start of others.
    """
    bare: list[float] = []
    rest: list[float] = []
    busy: list[float] = []
    own: list[float] = []
    local = Local()
    await local.open()

    async def first(pool: SessionPool, identifier: str, times: list[float]) -> None:
        began, spent = time.perf_counter(), time.thread_time()
        async with pool.acquire(identifier) as pooled:
            own.append((time.thread_time() - spent) * 1000)
            await answer(pooled)
            times.append((time.perf_counter() - began) * 1000)

    async with SessionPool(settings(READY, 2 * READY), spec=SandboxSpec(image=image), engine=engine) as pool:
        for _ in range(rounds):
            await filled(pool, READY)
            bare += [await timed(lambda: local.execute(CELL)) for _ in range(3)]
            for number in range(READY):
                await first(pool, str(number), busy if number else rest)
            for number in range(READY):
                await pool.shutdown(str(number))
    await local.aclose()
    name = f"{engine}, {image}"
    print(f"{'  while others start, ' + name:<49}{_spread(busy)}")
    spent = statistics.median(own)
    print(f"{'  acquire alone, of its own thread':<49}p50 {spent:5.2f} ms", end="")
    print(verdict(met=spent < OWN_MILLISECONDS, goal=f"{OWN_MILLISECONDS:g} ms"), flush=True)
    return _report_first(name, statistics.median(bare), rest) + (spent >= OWN_MILLISECONDS)


def _report_first(name: str, cell: float, first: Sequence[float]) -> int:
    median = statistics.median(first)
    met = median <= MOST_MILLISECONDS and median / cell <= MOST_RATIO
    print(
        f"acquire to first result, {name:<25}{_spread(first)}; {median / cell:.2f} times a bare warm cell's {cell:.1f}",
        end="",
    )
    print(verdict(met=met, goal=f"{MOST_MILLISECONDS:g} ms, {MOST_RATIO:g} times"), flush=True)
    return int(not met)


def _spread(times: Sequence[float]) -> str:
    return f"p50 {statistics.median(times):5.1f} ms, p99 {quantile(times, 0.99):5.1f} ms"


# A hundred at once


async def many(engine: str, image: str, count: int) -> int:
    """Measure what `count` sessions hold, and how fast each answers alone and all do at the same time."""
    before, host = available(), proportional(os.getpid())
    spec = SandboxSpec(image=image, limits=Limits(memory="512m"))
    async with SessionPool(settings(0, count), spec=spec, engine=engine) as pool:
        began = time.perf_counter()

        async def have(number: int) -> PooledSession:
            async with pool.acquire(str(number)) as pooled:
                return pooled

        sessions = await asyncio.gather(*(have(number) for number in range(count)))
        started = time.perf_counter() - began
        answers = [await timed(lambda one=one: answer(one)) for one in sessions for _ in range(3)]  # type: ignore[misc]
        burst = await timed(lambda: asyncio.gather(*(answer(one) for one in sessions)))
        used = [(await one.session.usage()).memory or 0 for one in sessions]
        share = sum(map(proportional, sandbox_processes(engine, [one.session.id for one in sessions])))
        taken, mine = before - available(), proportional(os.getpid()) - host
    print(f"{count} sessions at once, {engine}, {image}: all answer")
    print(f"  started in {started:.0f} s, {started / count:.2f} s each")
    print(f"  a cell in each, one after the other: {_spread(answers)}")
    print(f"  a cell in all at the same time: {burst:.0f} ms, {burst / count:.1f} ms each")
    found = {"PSS": share / count, "control group": statistics.median(used)}
    found |= {"of this process": mine / count, "less on the machine": taken / count}
    print(f"  memory of each, MB: {', '.join(f'{name} {size / MB:.1f}' for name, size in found.items())}", flush=True)
    return 0


# Cells a second


async def rate(works: Sequence[Callable[[], Awaitable[object]]], seconds: float) -> float:
    """Run all again and again at the same time; return how often all of them together did, per second."""
    done, ends = 0, time.perf_counter() + seconds

    async def repeat(work: Callable[[], Awaitable[object]]) -> None:
        nonlocal done
        while time.perf_counter() < ends:
            await work()
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*map(repeat, works))
    return done / (time.perf_counter() - began)


async def throughput(engine: str, image: str, seconds: float, rounds: int) -> int:
    """Cells a second of several sessions beside as many bare kernels, in turns."""
    kernels = [Local() for _ in range(PARALLEL)]
    for kernel in kernels:
        await kernel.open()
    async with SessionPool(settings(0, PARALLEL), spec=SandboxSpec(image=image), engine=engine) as pool:
        sessions = []
        for number in range(PARALLEL):
            async with pool.acquire(str(number)) as pooled:
                sessions.append(pooled)
        for count in (1, PARALLEL):
            bare, ours = [], []
            for _ in range(rounds):
                bare.append(await rate([lambda one=one: one.execute(CELL) for one in kernels[:count]], seconds))  # type: ignore[misc]
                ours.append(await rate([lambda one=one: answer(one) for one in sessions[:count]], seconds))  # type: ignore[misc]
            left, right = statistics.median(ours), statistics.median(bare)
            print(f"cells a second, {count} at once, {engine:<12}", end="")
            print(f"{left:6.0f}; bare kernels {right:6.0f}; {left / right:4.2f} times", flush=True)
    for kernel in kernels:
        await kernel.aclose()
    return 0


async def main(*, quick: bool, only: str | None) -> int:
    missed = 0
    for engine in NAMES if only in (None, "first") else ():
        for image in ("python", "datascience"):
            missed += await first_results(engine, image, 5 if quick else 50)
    for engine in NAMES if only in (None, "rate") else ():
        missed += await throughput(engine, "python", 1 if quick else 3, 2 if quick else 5)
    for engine in NAMES if only in (None, "many") else ():
        for image in ("python",) if quick else ("python", "datascience"):
            missed += await many(engine, image, 10 if quick else MANY)
    return missed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("--only", choices=["first", "rate", "many"], help="one of the three")
    asked = parser.parse_args()
    raise SystemExit(asyncio.run(main(quick=asked.quick, only=asked.only)))
