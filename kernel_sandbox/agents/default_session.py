"""The session that agents share when they were given none, and the way into a session's own event loop."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kernel_sandbox.host.reactor import call_reactor, on_reactor
from kernel_sandbox.session.session import AsyncSession
from kernel_sandbox.session.sync import Session

T = TypeVar("T")
AnySession = Session | AsyncSession

IMAGE = "datascience"


class _Shared:
    """The one open session of this process. Its methods run in the reactor only."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._session: AsyncSession | None = None
        self._opening = asyncio.Lock()

    async def get(self) -> AsyncSession:
        async with self._opening:
            if self._session is None:
                session = AsyncSession(image=IMAGE)
                await session.open()
                self._session = session
            return self._session

    async def close(self) -> None:
        async with self._opening:
            session, self._session = self._session, None
            if session is not None:
                await session.aclose()


_shared: _Shared | None = None


async def _use_shared(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    global _shared
    if _shared is None or _shared.process != os.getpid():  # a forked child has no part in its parent's session
        _shared = _Shared()
        atexit.register(close_default_session)
    return await work(await _shared.get())


async def with_session(session: AnySession | None, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Await `work(session)` in the event loop that the session lives in; None is the default session.

    A Session lives in the reactor; an AsyncSession in the loop that opened it, which must be the caller's.
    """
    if isinstance(session, AsyncSession):
        return await work(session)
    if session is None:
        return await on_reactor(_use_shared, work)
    return await on_reactor(work, session._session)


def close_default_session() -> None:
    """Close the session that agents share, if it is open. The next that needs one opens a new one."""
    if _shared is not None and _shared.process == os.getpid():
        call_reactor(_shared.close)
