"""Many sessions at once that come and go in every way: `python -m tests.faults.crowd ENGINE COUNT SEED SECONDS`.

What happens to each, and when, is drawn from SEED; SECONDS is the span in which it happens. Prints the sessions' ids
first, and at the end what became of each, and what this process held before and after, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread

from kernel_sandbox import AsyncSession, KernelError, SandboxLost
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import shelf
from tests.faults.census import first_process, own_descriptors

ENDLESS = "import time\nprint('on', flush=True)\ntime.sleep(600)"


class Life:
    """One session from its making to its end."""

    def __init__(self, engine: str, chance: random.Random, span: float) -> None:
        self.engine = engine
        self.session = AsyncSession(engine=engine, image="python")
        self.moment = chance.uniform(0, span)
        self.fate = chance.choice(list(FATES))
        self.end = "open"

    async def live(self) -> None:
        try:
            self.end = await FATES[self.fate](self)
        finally:  # a restart may be refused on a machine that has too much to do
            await self.session.aclose()

    async def cut(self, work: Awaitable[object]) -> str:
        """Cancel what runs at the moment that was drawn for it; tell whether it was over by then."""
        task = asyncio.ensure_future(work)
        await asyncio.wait([task], timeout=self.moment)
        over = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if over:
            task.result()
        return "done" if over else "cancelled"

    async def works(self) -> str:
        return "works" if (await self.session.execute("6 * 7")).text == "42" else "WRONG"


async def use(life: Life) -> str:
    await life.session.open()
    return await life.works()


async def cancel_opening(life: Life) -> str:
    return await life.cut(life.session.open())


async def close_while_opening(life: Life) -> str:
    opening = asyncio.ensure_future(life.session.open())
    await asyncio.wait([opening], timeout=life.moment)
    await life.session.aclose()
    (ended,) = await asyncio.gather(opening, return_exceptions=True)
    return "done" if ended is None else "refused"


async def close_twice_at_once(life: Life) -> str:
    await life.session.open()
    running = asyncio.ensure_future(life.session.execute(ENDLESS))
    await asyncio.sleep(life.moment / 10)
    await asyncio.gather(life.session.aclose(), life.session.aclose())
    return (await running).status


async def cancel_cell(life: Life) -> str:
    await life.session.open()
    life.moment /= 10
    await life.cut(life.session.execute(ENDLESS))
    return await life.works()


async def cancel_restart(life: Life) -> str:
    await life.session.open()
    life.moment /= 30
    await life.cut(life.session.restart())
    await life.session.restart()
    return await life.works()


async def kill_kernel(life: Life) -> str:
    await life.session.open()
    died = await life.session.execute("import os; os.kill(os.getpid(), 9)")
    assert isinstance(died.cause, KernelError)
    await life.session.restart()
    return await life.works()


async def kill_sandbox(life: Life) -> str:
    await life.session.open()
    stream = life.session.stream(ENDLESS)
    await anext(stream)
    pid = await anyio.to_thread.run_sync(first_process, life.engine, life.session.id)
    os.kill(pid, signal.SIGKILL)
    async for _ in stream:
        pass
    assert stream.execution is not None
    assert isinstance(stream.execution.cause, SandboxLost)
    await life.session.restart()
    return await life.works()


FATES: dict[str, Callable[[Life], Awaitable[str]]] = {
    function.__name__: function
    for function in (
        use,
        cancel_opening,
        close_while_opening,
        close_twice_at_once,
        cancel_cell,
        cancel_restart,
        kill_kernel,
        kill_sandbox,
    )
}


def held() -> dict[str, Any]:
    """What this process holds, but for its templates."""
    shelf().end_all()
    tasks = portal().call(lambda: len(asyncio.all_tasks()))
    workers = sum("worker thread" in thread.name for thread in threading.enumerate())
    return {"descriptors": own_descriptors(), "tasks": tasks, "threads": threading.active_count() - workers}


async def live_all(engine: str, count: int, seed: int, span: float) -> list[dict[str, str]]:
    chance = random.Random(seed)
    lives = [Life(engine, chance, span) for _ in range(count)]
    print(json.dumps([life.session.id for life in lives]), flush=True)
    ends = await asyncio.gather(*(life.live() for life in lives), return_exceptions=True)
    return [
        {"fate": life.fate, "end": life.end if ended is None else f"{type(ended).__name__}: {ended}"}
        for life, ended in zip(lives, ends, strict=True)
    ]


async def warm_up(engine: str) -> None:
    """Make what a first session makes for all others, and fill the engine client's pool."""
    async with AsyncSession(engine=engine, image="python") as session:
        await session.execute("1")


def main(engine: str, count: str, seed: str, span: str) -> None:
    portal().call(warm_up, engine)
    before = held()
    ends = portal().call(live_all, engine, int(count), int(seed), float(span))
    print(json.dumps({"ends": ends, "before": before, "after": held()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
