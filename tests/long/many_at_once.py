"""A hundred datascience sessions at once: each answers a cell with pandas, and what they hold is measured.

They are opened by turns of a few at a time, in one process, without a pool. Their memory is the proportional sets (PSS)
of all processes of their sandboxes, what they share counted once, with containerd's shims where Docker runs them.
Closed again, nothing of them may be left.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from kernel_sandbox import AsyncSession, Limits
from tests.benchmarks.holding import available, inside, proportional, sandbox_processes
from tests.faults.holdings import left, private_place
from tests.long._asked import Asked

COUNT = 100
TOGETHER = 4
"""Sessions that are opened or closed at the same time."""
MOST_GB = {"docker": 9.0, "bubblewrap": 6.0}
"""Of a hundred; of others their share."""
SETTLING = 5.0
"""Seconds in which the last of them have done what they do in the background."""
GB, MB = 1024**3, 1024**2


def run(asked: Asked) -> list[str]:
    """Hold them, an engine after the other."""
    wrong = []
    for engine in asked.engines:
        with private_place() as place:
            wrong += asyncio.run(hold(engine, asked.count or COUNT, place))
    return wrong


async def hold(engine: str, count: int, place: Path) -> list[str]:
    """Open so many, ask each, measure, and close them."""
    limits = Limits(memory="512m")
    sessions = [AsyncSession(engine=engine, image="datascience", limits=limits) for _ in range(count)]
    wrong: list[str] = []
    before, host = available(), proportional(os.getpid())
    started = time.monotonic()
    try:
        await each(sessions, open_and_answer, f"{engine}: open and have answered")
        print(f"{engine}: {count} sessions in {time.monotonic() - started:.0f} s, each with pandas", flush=True)
        await asyncio.sleep(SETTLING)
        await tell_answers(engine, sessions)
        wrong += tell_memory(engine, [one.id for one in sessions], before, host)
    finally:
        await asyncio.shield(each(sessions, lambda number, one: one.aclose(), f"{engine}: closed"))
    return wrong + await remains(engine, {one.id for one in sessions}, place, before)


async def each(
    sessions: Sequence[AsyncSession], act: Callable[[int, AsyncSession], Awaitable[object]], told: str
) -> None:
    """Do it with all of them, a few at a time, and tell how far it is."""
    turn, done = asyncio.Semaphore(TOGETHER), 0

    async def one(number: int, session: AsyncSession) -> None:
        nonlocal done
        async with turn:
            await act(number, session)
        done += 1
        if done % 10 == 0 or done == len(sessions):
            print(f"  {told}: {done} of {len(sessions)}, {available() / GB:.1f} GB available", flush=True)

    async with asyncio.TaskGroup() as group:
        for number, session in enumerate(sessions):
            group.create_task(one(number, session))


async def open_and_answer(number: int, session: AsyncSession) -> None:
    await session.open()
    await answer(number, session)


async def answer(number: int, session: AsyncSession) -> None:
    """Have a frame of its own summed up. Raises AssertionError for another's sum."""
    cell = f"import pandas as pd; int(pd.DataFrame({{'a': range({number}, {number + 1000})}})['a'].sum())"
    assert (await session.execute(cell)).text == str(1000 * number + 499_500)


async def tell_answers(engine: str, sessions: Sequence[AsyncSession]) -> None:
    alone = []
    for number, session in enumerate(sessions):
        began = time.perf_counter()
        await answer(number, session)
        alone.append((time.perf_counter() - began) * 1000)
    began = time.perf_counter()
    await asyncio.gather(*(answer(number, session) for number, session in enumerate(sessions)))
    together = (time.perf_counter() - began) * 1000
    most = f"median {statistics.median(alone):.1f} ms, worst {max(alone):.1f} ms"
    print(f"{engine}: a cell in each, one after the other: {most}; in all at the same time: {together:.0f} ms")


def tell_memory(engine: str, ids: Sequence[str], before: int, host: int) -> list[str]:
    """Print what they hold; return what is wrong with it."""
    pids = sandbox_processes(engine, ids)
    all_of_it, own = sum(map(proportional, pids)), sum(map(proportional, inside(pids)))
    less = before - available()
    print(
        f"{engine}: PSS of {len(pids)} processes {all_of_it / GB:.2f} GB, {all_of_it / len(ids) / MB:.1f} MB each",
        end="",
    )
    print(f" ({own / GB:.2f} GB without shims)")
    print(f"{engine}: the machine has {less / GB:.2f} GB less available, {less / len(ids) / MB:.1f} MB each", end="")
    print(f"; this process holds {(proportional(os.getpid()) - host) / MB:.0f} MB more", flush=True)
    most = MOST_GB[engine] * len(ids) / COUNT
    told = f"{all_of_it / GB:.2f} GB for {len(ids)} sessions"
    print(f"{engine}: {told}: {'met' if all_of_it <= most * GB else 'MISSED'} (goal {most:g} GB)", flush=True)
    return [] if all_of_it <= most * GB else [f"{engine}: {told}, more than {most:g} GB"]


async def remains(engine: str, ids: set[str], place: Path, before: int) -> list[str]:
    """Return what is still there ten seconds after the end."""
    deadline = time.monotonic() + 10
    while (there := left(ids, place, docker=engine == "docker")) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    told = f"{available() / GB:.1f} GB available, before {before / GB:.1f}"
    print(f"{engine}: all are closed, {len(there) or 'nothing'} left; {told}", flush=True)
    return [f"{engine}: {one} is left" for one in there]
