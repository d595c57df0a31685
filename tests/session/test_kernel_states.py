"""What a session's kernel is at, as who uses the session sees it: each state, and each way from one to the next."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys

import pytest

from kernel_sandbox import AsyncSession, ImageNotFound, KernelDied, SandboxError, SandboxLost, SessionClosed
from tests.faults.census import first_process, seconds_until_none, traces

pytestmark = pytest.mark.anyio

SLOW_EXIT = "import atexit, time; atexit.register(time.sleep, 60)"
"""A kernel that is given the 0.3 s that an exit may take."""


async def test_session_opens_once(engine: str) -> None:
    session = AsyncSession(engine=engine, image="python")
    async with session:
        with pytest.raises(SessionClosed, match="opens once"):
            await session.open()
        assert (await session.execute("6 * 7")).text == "42"
    with pytest.raises(SessionClosed, match="opens once"):
        await session.open()


async def test_session_that_was_closed_before_it_opened_does_not_open() -> None:
    session = AsyncSession(image="python")
    assert isinstance(session.death, SessionClosed)
    await session.aclose()
    with pytest.raises(SessionClosed, match="opens once"):
        await session.open()
    with pytest.raises(SessionClosed, match="is closed"):
        await session.execute("1")


async def test_session_that_could_not_open_is_closed(engine: str) -> None:
    session = AsyncSession(engine=engine, image="no-such-image")
    with pytest.raises(ImageNotFound):
        await session.open()
    with pytest.raises(SessionClosed, match="is closed"):
        await session.execute("1")
    await session.aclose()


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1])
@pytest.mark.parametrize("end", ["closed", "cancelled"])
async def test_session_that_ends_while_it_opens_leaves_nothing(engine: str, end: str, delay: float) -> None:
    session = AsyncSession(engine=engine, image="python")
    opening = asyncio.create_task(session.open())
    await asyncio.sleep(delay)
    if end == "closed":
        with pytest.raises(SessionClosed, match="not open"):
            await session.execute("1")
        await session.aclose()
        with pytest.raises(SessionClosed, match="closed while it opened"):
            await opening
    else:
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    assert isinstance(session.death, SessionClosed)
    assert session.generation == 0
    seconds_until_none(lambda: traces(session.id), 2)


async def test_dead_kernel_is_followed_by_another(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        assert session.death is None
        await session.execute("import os; os._exit(3)")
        assert isinstance(session.death, KernelDied)
        assert (await session.execute("1")).cause is session.death
        with pytest.raises(KernelDied):
            await session.request("kernel_info_request", {})
        await session.restart()
        assert (session.death, session.generation) == (None, 2)
        assert (await session.execute("6 * 7")).text == "42"


async def test_restart_that_failed_says_why_and_the_next_is_for_the_first_reason(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        await session.execute("import os; os._exit(3)")
        shutil.rmtree(session.connection_file.parent)
        with pytest.raises(SandboxLost, match="was removed") as failed:
            await session.restart()
        assert session.death is failed.value
        assert (await session.execute("1")).cause is failed.value
        assert (session.generation, session.restarted_because, session.kept_by_restart) == (1, None, "nothing")
        await session.restart()
        assert (await session.execute("6 * 7")).text == "42"
        assert session.generation == 2
        assert "exited with status 3" in str(session.restarted_because)
        await session.restart()
        assert (session.restarted_because, session.kept_by_restart) == ("The kernel was restarted.", "files")


async def test_sandbox_that_ends_while_its_kernel_restarts_is_replaced(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        (await session.execute(SLOW_EXIT)).raise_for_error()
        pid = first_process(engine, session.id)
        restart = asyncio.create_task(session.restart())
        await asyncio.sleep(0.05)
        assert session.death is None
        with pytest.raises(SandboxError, match="is being restarted"):
            await session.request("kernel_info_request", {})
        os.kill(pid, signal.SIGKILL)
        ended = (await asyncio.gather(restart, return_exceptions=True))[0]
        if ended is not None:
            assert isinstance(ended, SandboxLost)
            assert session.death is ended
            await session.restart()
        assert (session.restarted_because, session.kept_by_restart) == ("The kernel was restarted.", "nothing")
        assert (await session.execute("6 * 7")).text == "42"


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.35])
async def test_session_that_is_closed_while_it_restarts_leaves_nothing(engine: str, delay: float) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        (await session.execute(SLOW_EXIT)).raise_for_error()
        restart = asyncio.create_task(session.restart())
        await asyncio.sleep(delay)
        await session.aclose()
        assert isinstance(session.death, SessionClosed)
        seconds_until_none(lambda: traces(session.id), 2)
        await asyncio.gather(restart, return_exceptions=True)
        with pytest.raises(SessionClosed, match="is closed"):
            await session.restart()
        assert isinstance(session.death, SessionClosed)


FORKS = """
import os, sys
from kernel_sandbox import Session, SessionClosed
new, closed, held = (Session(engine=sys.argv[1], image="python") for _ in range(3))
with closed, held:
    closed.close()
    if not (child := os.fork()):
        for session in (closed, held):
            try:
                session.execute("1")
            except SessionClosed as exc:
                print(exc, flush=True)
        with new:
            print(new.execute("6 * 7").text, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(held.execute("'went on'").text)
"""


def test_forked_child_opens_what_was_new_and_leaves_the_rest(engine: str) -> None:
    command = [sys.executable, "-c", FORKS, engine]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert "is closed" in said[0]
    assert "before this process was forked" in said[1]
    assert said[2:] == ["42", "'went on'"]
