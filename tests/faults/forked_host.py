"""A host that opens a session, forks, and dies: `python -m tests.faults.forked_host ENGINE KIND END`.

KIND is how the session is held: sync, async, pool, or multiprocessing (sync, and the child made by that). The child
prints its id and what each use of the session says, then lives on. END is what the parent does then: "killed", or
"goes on" after it has told the child to end; then it prints what a cell of its own shows.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from kernel_sandbox import AsyncSession, PoolSettings, SandboxError, SandboxSpec, Session, SessionPool


def child(uses: list[Callable[[], Any]], told: int) -> None:
    """Use the session that is the parent's, then one of its own, and wait for the word to end."""
    said = []
    for use in uses:
        try:
            said.append(repr(use()))
        except SandboxError as exc:
            said.append(type(exc).__name__ + (" forked" if "before this process was forked" in str(exc) else ""))
    with Session(engine=sys.argv[1], image="python") as own:
        said.append(own.execute("6 * 7").text)
    print(os.getpid(), *said, flush=True)
    os.read(told, 1)
    sys.exit(0)  # with all that an interpreter does at its end


def fork(uses: list[Callable[[], Any]]) -> tuple[int, int]:
    """Return the child's id, and the descriptor by which it is told to end."""
    told, tell = os.pipe()
    if sys.argv[2] == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=child, args=(uses, told))
        process.start()
        assert process.pid is not None
        return process.pid, tell
    pid = os.fork()
    if pid == 0:
        child(uses, told)
    return pid, tell


def end(pid: int, tell: int) -> None:
    """Die where that is asked for, once the child has said all; else see it end."""
    if sys.argv[3] == "killed":
        sys.stdin.read(1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(tell, b"x")
    os.waitpid(pid, 0)


def hold_sync(engine: str) -> None:
    with Session(engine=engine, image="python") as session:
        session.execute("kept = 'kept'")
        print(session.id, flush=True)
        uses: list[Callable[[], Any]] = [
            lambda: session.execute("1"),
            session.files.list,
            session.restart,
            session.usage,
            session.close,
        ]
        end(*fork(uses))
        session.execute("kept").raise_for_error()
        session.restart()
        print(session.execute("'went on'").text, flush=True)


async def hold_async(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        print(session.id, flush=True)
        end(*fork([lambda: session.stream("1"), lambda: session.connection_file]))
        print((await session.execute("'went on'")).text, flush=True)


async def hold_pool(engine: str) -> None:
    pool = SessionPool(PoolSettings(ready=0, sessions=1), spec=SandboxSpec(image="python"), engine=engine)
    async with pool, pool.acquire("one") as held:
        print(held.session.id, flush=True)
        end(
            *fork(
                [
                    lambda: asyncio.run(pool.shutdown("one")),
                    lambda: held.stream("1"),
                    lambda: asyncio.run(pool.aclose()),
                ]
            )
        )
        print((await held.execute("'went on'")).text, flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "async":
        asyncio.run(hold_async(sys.argv[1]))
    elif sys.argv[2] == "pool":
        asyncio.run(hold_pool(sys.argv[1]))
    else:
        hold_sync(sys.argv[1])
