"""A session used from where it cannot work says so at once: another event loop, no loop, a copy of it."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kernel_sandbox import AsyncSession, PoolSettings, SandboxSpec, Session, SessionPool, WrongEventLoop
from kernel_sandbox.host.reactor import portal

Use = Callable[[Any], Awaitable[Any]]


async def at_once(use: Use, thing: Any, words: str) -> None:
    began = time.monotonic()
    with pytest.raises(WrongEventLoop, match=words):
        await use(thing)
    assert time.monotonic() - began < 0.5


def test_session_of_another_event_loop_says_so_at_once(engine: str) -> None:
    """It is opened in the reactor's loop, and used from one here; after that it still works where it belongs."""

    async def opened() -> AsyncSession:
        session = AsyncSession(engine=engine, image="python")
        await session.open()
        return session

    session = portal().call(opened)
    uses: list[Use] = [
        lambda s: s.execute("1"),
        lambda s: s.interrupt(),
        lambda s: s.restart(),
        lambda s: s.request("kernel_info_request", {}),
        lambda s: s.aclose(),
    ]
    for use in uses:
        asyncio.run(at_once(use, session, "run_coroutine_threadsafe.*or open another one here, or a Session"))
    with pytest.raises(WrongEventLoop):
        session.stream("1")
    assert asyncio.run(session.files.list()) == ()  # files are the reactor's: any loop will do
    assert portal().call(session.execute, "6 * 7").text == "42"
    portal().call(session.aclose)


def test_pool_of_an_event_loop_that_is_over_says_so_at_once() -> None:
    pool = SessionPool(PoolSettings(ready=0, sessions=1), spec=SandboxSpec(image="python"))
    asyncio.run(pool.open())
    uses: list[Use] = [lambda p: p.acquire("a").__aenter__(), lambda p: p.aclose()]
    for use in uses:
        asyncio.run(at_once(use, pool, "which is closed.*open another"))


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda function: function.__name__)
def test_session_is_not_copied(duplicate: Callable[[Any], Any]) -> None:
    session = Session(image="python")
    for thing in (session, session.files, AsyncSession(image="python"), SessionPool(PoolSettings(ready=0))):
        with pytest.raises(TypeError, match="cannot be pickled or copied: hand over its spec"):
            duplicate(thing)
