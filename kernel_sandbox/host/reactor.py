"""The one event loop that everything below the provisioner lives in, on a thread of its own.

Jupyter's own tools call a provisioner from loops that come and go (a blocking KernelManager runs one only during
a call), while the gate and the link to the guest must go on in between. The sync facade runs its session here too.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from kernel_sandbox.host.forks import keep, renew, separate

T = TypeVar("T")

_lock = threading.Lock()
_portal: BlockingPortal | None = None
_loop: asyncio.AbstractEventLoop | None = None
_process = 0
_forked = False
WAKES = 0.05
"""Seconds after which a waiting loop of a forked child looks by itself."""


def _renew() -> None:
    """Leave the reactor to the parent, in a forked child; the lock anew, as another thread may have held it."""
    global _lock, _forked
    _lock, _forked = threading.Lock(), True
    keep((_portal, _loop))


renew(_renew)


def portal() -> BlockingPortal:
    """Return the portal into the reactor, and start its thread at the first call (in a forked child, anew)."""
    global _portal, _process
    with _lock:
        if _portal is None or _process != os.getpid():
            started: Future[BlockingPortal] = Future()
            # A daemon: an interpreter that ends must not wait for open sandboxes, which end with their stream.
            threading.Thread(target=anyio.run, args=(_serve, started), name="kernel-sandbox", daemon=True).start()
            _portal, _process = started.result(), os.getpid()
        return _portal


async def _serve(started: Future[BlockingPortal]) -> None:
    global _loop
    _loop = asyncio.get_running_loop()
    separate(_loop)
    async with BlockingPortal() as opened:
        started.set_result(opened)
        await opened.sleep_until_stopped()


def _submit(function: Callable[..., Awaitable[T]], *args: Any) -> tuple[Future[T], Future[None]]:
    """Start `function(*args)` in the reactor: its result, and a future that is done when it has really ended."""
    ended: Future[None] = Future()

    async def run() -> T:
        try:
            return await function(*args)
        finally:
            ended.set_result(None)

    return portal().start_task_soon(run), ended


async def result_of(future: Future[T]) -> T:
    """Await a future of the reactor's from any event loop, one that was inherited in a fork included.

    Such a loop shares with its parent and siblings what wakes it: whoever reads that byte first leaves the others
    asleep. jupyter_core keeps a loop for every thread, so that a fork has its parent's.
    """
    waiting = asyncio.wrap_future(future)
    while _forked and not waiting.done():
        await asyncio.wait([waiting], timeout=WAKES)
    return await waiting


async def on_reactor(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Await `function(*args)` in the reactor, from any event loop.

    Cancelling it cancels it there too, and waits until it has cleaned up.
    """
    if _loop is asyncio.get_running_loop():
        return await function(*args)
    process = os.getpid()
    result, ended = _submit(function, *args)
    try:
        return await result_of(result)
    except asyncio.CancelledError:
        if process == os.getpid():  # in a child that was forked meanwhile, it never ends
            result.cancel()
            await result_of(ended)
        raise


def call_reactor(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `function(*args)` in the reactor and wait, from sync code.

    Ctrl-C cancels it there, and waits until it has cleaned up; a second one does not wait.
    """
    result, ended = _submit(function, *args)
    try:
        return result.result()
    except KeyboardInterrupt:
        result.cancel()
        ended.result()
        raise
