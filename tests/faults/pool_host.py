"""A host process with a pool that is killed: `python -m tests.faults.pool_host ENGINE`.

Prints the ids of all its sessions: one that runs a cell, one that is idle, one that waits for somebody, one that
starts. Then it kills itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from kernel_sandbox import PoolSettings, SandboxSpec, SessionPool


async def main(engine: str) -> None:
    pool = SessionPool(PoolSettings(ready=2, sessions=4), spec=SandboxSpec(image="python"), engine=engine)
    made = []
    make, pool._stock._make = pool._stock._make, lambda: made.append(make()) or made[-1]  # type: ignore[func-returns-value]
    changed = asyncio.Event()
    pool.on_change = changed.set
    await pool.open()
    async with pool.acquire("busy") as busy, pool.acquire("idle"):
        await anext(busy.stream("print('on', flush=True)\nwhile True: pass"))
        while pool.ready < 1 or len(made) < 4:
            changed.clear()
            await changed.wait()
        print(*(session.id for session in made), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
