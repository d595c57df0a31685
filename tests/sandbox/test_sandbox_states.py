"""What a sandbox and its kernel are at, as whoever holds the sandbox sees it: each state, and each way to the next."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kernel_sandbox import KernelDied, ProtocolViolation, SandboxError, SandboxLost, SandboxSpec
from kernel_sandbox.sandbox.engines.base import new_session_id
from kernel_sandbox.sandbox.sandbox import LiveSandbox
from tests.faults.census import first_process, seconds_until_none, traces

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(engine: str) -> AsyncIterator[LiveSandbox]:
    live = LiveSandbox(SandboxSpec(image="python"), engine, new_session_id())
    await live.open()
    try:
        yield live
    finally:
        await live.aclose()


async def start(live: LiveSandbox) -> None:
    await live.start_kernel(b"key", "hmac-sha256", own_session=False)


async def death(live: LiveSandbox) -> SandboxError:
    async with asyncio.timeout(10):
        return await asyncio.wrap_future(live.death)


async def test_kernel_that_ends_is_followed_by_another(engine: str) -> None:
    async with opened(engine) as live:
        assert (live.lost, live.kernels) == (None, {})
        await live.signal_kernel(signal.SIGKILL)  # there is none
        await start(live)
        assert (live.generation, live.exit_code, live.death.done()) == (1, None, False)
        first = live.death
        await live.signal_kernel(signal.SIGKILL)
        assert isinstance(await death(live), KernelDied)
        assert live.exit_code == -signal.SIGKILL
        await live.stop_kernel()
        assert live.exit_code == -signal.SIGKILL
        await start(live)
        assert live.death is not first
        assert list(live.kernels) == ["k2"]
        assert [live.generation, live.lost, live.exit_code, live.death.done()] == [2, None, None, False]
    assert (live.exit_code, str(await death(live))) == (0, "The session was closed.")


async def test_kernel_that_exits_by_itself_leaves_its_exit_code(engine: str) -> None:
    async with opened(engine) as live:
        await start(live)
        await live.signal_kernel(signal.SIGABRT)
        assert isinstance(await death(live), KernelDied)
        await start(live)  # what the first has left is ended before
        assert (live.generation, live.exit_code) == (2, None)
        await live.stop_kernel()
        await live.stop_kernel()
        assert live.exit_code is not None
        assert live.exit_code < 0


async def test_sandbox_that_is_gone_says_why_and_starts_nothing(engine: str) -> None:
    async with opened(engine) as live:
        await start(live)
        os.kill(first_process(engine, live.session_id), signal.SIGKILL)
        gone = await death(live)
        assert isinstance(gone, SandboxLost)
        assert (live.lost, live.exit_code) == (gone, 1)
        live.violated("a word too many")
        assert live.lost is gone
        with pytest.raises(SandboxLost, match="is gone"):
            await start(live)
        await live.stop_kernel()
        assert live.exit_code == 1
    seconds_until_none(lambda: traces(live.session_id), 5)


async def test_sandbox_that_is_ended_for_what_it_sent_says_so(engine: str) -> None:
    async with opened(engine) as live:
        await start(live)
        await live.end_for_violation("a word too many")
        ended = await death(live)
        assert isinstance(ended, ProtocolViolation)
        assert (live.lost, live.exit_code) == (ended, 1)
        with pytest.raises(ProtocolViolation, match="a word too many"):
            await start(live)
    seconds_until_none(lambda: traces(live.session_id), 5)


async def test_sandbox_that_was_closed_starts_nothing(engine: str) -> None:
    async with opened(engine) as live:
        pass
    await live.aclose()
    await live.stop_kernel()
    await live.end_for_violation("a word too many")
    with pytest.raises(SandboxLost, match="was closed"):
        await start(live)
    assert (live.generation, live.kernels) == (0, {})
    seconds_until_none(lambda: traces(live.session_id), 5)
