"""A thousand sessions are opened and closed: nothing of this process or of the machine grows with their number.

Each runs a cell. After every part of them all are closed, and what there is then is a sample; a line is fitted to each
measure over the number of sessions, and judged by its standard error and a bound.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from kernel_sandbox import AsyncSession
from tests.faults.holdings import holdings, left, private_place
from tests.faults.slopes import judged, line, table
from tests.long._asked import Asked

COUNT = 1000
PARTS = 25
TOGETHER = 2
TOLERANCES = {
    "memory MB": (12, 8),
    "descriptors": (0, 2),
    "threads": (0, 1),
    "children": (0, 1),
    "tasks": (0, 2),
    "containers": (0, 1),
    "control groups": (0, 1),
    "mounts left": (0, 1),
    "run directories": (0, 1),
}
"""For each measure: what may be there at the end beside what was there at the start, and what a line may rise by."""


def run(asked: Asked) -> list[str]:
    """Open and close them, an engine after the other."""
    with private_place() as place:
        return [f"{engine}: {one}" for engine in asked.engines for one in churn(engine, asked.count or COUNT, place)]


def churn(engine: str, count: int, place: Path) -> list[str]:
    """Open and close so many; return what grew."""
    ids: set[str] = set()
    part = max(count // PARTS, TOGETHER)
    asyncio.run(some(engine, 2 * TOGETHER, ids))  # what is made once, is made
    samples = [sample(engine, 0, ids, place)]
    started = time.monotonic()
    for done in range(part, count + 1, part):
        asyncio.run(some(engine, part, ids))
        samples.append(sample(engine, done, ids, place))
        each = (time.monotonic() - started) / done
        print(f"  {engine}: {done} of {count}, {each:.2f} s each, {samples[-1]['memory MB']:.1f} MB", flush=True)
    first, last = samples[0], samples[-1]
    lines = [
        judged(line(name, samples, first[name], last[name], along="sessions"), *bounds)
        for name, bounds in TOLERANCES.items()
    ]
    print(f"\n{engine}\n{table(lines, per='a thousand', units=1000)}\n", flush=True)
    grown = [
        f"{one.name}: {one.before:.1f}, then {one.after:.1f}, {one.slope * 1000:+.2f} a thousand"
        for one in lines
        if one.verdict != "ok"
    ]
    return grown + [f"{one} is left" for one in left(ids, place, docker=engine == "docker")]


async def some(engine: str, count: int, ids: set[str]) -> None:
    """Open so many, a few at a time, run a cell in each, and close them."""
    turn = asyncio.Semaphore(TOGETHER)

    async def one() -> None:
        async with turn, AsyncSession(engine=engine, image="datascience") as session:
            ids.add(session.id)
            assert (await session.execute("6 * 7")).text == "42"

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())


def sample(engine: str, done: int, ids: set[str], place: Path) -> dict[str, float]:
    """Look when nothing of them is left any more, or two seconds have passed: engines end theirs in the background."""
    deadline = time.monotonic() + 2
    while left(ids, place, docker=engine == "docker") and time.monotonic() < deadline:
        time.sleep(0.05)
    return {"sessions": done, **holdings(ids, place, docker=engine == "docker")}
