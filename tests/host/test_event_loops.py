"""Sessions on uvloop: in the caller's loop, and in the reactor's, whose loop the policy of the process makes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import AsyncSession, KernelDied
from kernel_sandbox.sandbox.gate import _End
from kernel_sandbox.sandbox.zmtp import FrameReader

CORE = (
    "../session/test_session.py::test_session_keeps_state_between_cells",
    "../session/test_session.py::test_sandbox_killed_from_outside_is_told_as_lost",
    "../session/test_session.py::test_restart_aborts_the_cells_that_run_or_wait",
    "../session/test_session.py::test_cancelled_execute_interrupts_its_cell",
    "../session/test_sync.py::test_session_works_inside_a_running_event_loop",
)
"""What a session is, in both its forms, and its ends: run once more where there is no loop but uvloop's."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.mark.anyio
async def test_session_runs_in_the_callers_loop(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        assert [event.text async for event in session.stream("x = 20\nprint(x)")] == ["20\n"]  # type: ignore[union-attr]
        await session.files.write("large", bytes(3_000_000))
        assert (await session.execute("len(open('large').read()) + x")).text == "3000020"
        assert (await session.execute("while True: pass", timeout=0.3)).status == "timeout"
        assert isinstance((await session.execute("import os; os._exit(3)")).cause, KernelDied)
        await session.restart()
        assert (await session.execute("'x' in globals()")).text == "False"


@pytest.mark.anyio
async def test_callback_that_fails_ends_its_connection_by_name() -> None:
    """An end whose check is broken: the kernel's side is cut, the reason is told, and the event loop hears nothing."""

    class Broken(FrameReader):
        def __init__(self) -> None: ...

        def feed(self, data: bytes) -> str:
            raise MemoryError(f"{len(data)} bytes")

    told: list[str] = []
    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    kernel, ours = socket.socketpair()
    await loop.create_connection(lambda: _End(Broken(), told.append), sock=ours)
    kernel.setblocking(False)
    await loop.sock_sendall(kernel, b"greeting")
    assert await asyncio.wait_for(loop.sock_recv(kernel, 1), 5) == b""
    kernel.close()
    assert told == ["what the gate could not pass on (MemoryError: 8 bytes)"]
    assert unhandled == []


def test_sessions_and_the_reactor_run_on_uvloop() -> None:
    """In a process whose policy is uvloop's, as after `uvloop.install()`."""
    chosen = [str(Path(__file__).parent / name) for name in CORE]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.host.under_uvloop", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
