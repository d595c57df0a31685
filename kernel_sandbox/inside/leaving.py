"""How a kernel ends: as any Python program does, when PID 1 asks; and what becomes of its copies that a cell forked.

Runs in the kernel. ipykernel's own exit is not used: it can wait for ever for its control thread, and takes seconds
where a client has gone. Nothing here is a promise to the host: PID 1 kills what has not ended in time.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import functools
import gc
import io
import os
import selectors
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from kernel_sandbox.inside import common_memory, loaded_libraries

END = signal.SIGRTMAX - 3
"""PID 1 asks with it: one that no library uses for itself."""
AGAIN = 0.002
"""Seconds between two looks whether the cell that was running has ended."""
SENDING = 0.05
"""Seconds that the last messages have on their way to libzmq."""
FILES = {io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair}
UNBUFFERED = {io.StringIO, io.BytesIO, io.FileIO, io.BufferedReader}
FRAMES: dict[type, str] = {CoroutineType: "cr_code", GeneratorType: "gi_code", AsyncGeneratorType: "ag_code"}
"""Code that waits half-way, and where it is named."""
OF_EACH_KERNEL = ("asyncio", "_asyncio", "socket", "zmq", "tornado")
"""Modules of classes that have objects in each kernel. What these do when they are freed matters to nobody else."""
LIBRARIES = (sys.prefix, sys.base_prefix, "/usr/", "<frozen ")


def end_when_asked(app: Any) -> None:
    """Leave the event loop on PID 1's signal, once no cell runs."""
    loop = asyncio.get_event_loop()

    def end() -> None:
        if app.kernel._main_asyncio_lock.locked():
            loop.call_later(AGAIN, end)
        else:
            loop.stop()

    loop.add_signal_handler(END, end)


def finish(app: Any) -> None:
    """End this process as an interpreter ends: what was registered for the exit runs, open files are written out.

    An interpreter takes every module apart then, which takes longer than all else that a restart does. It is left out
    where nothing waits for it.
    """
    for own in (app.close, app.iopub_thread.stop):
        atexit.unregister(own)
    steps = (
        functools.partial(_let_variables_go_first, app.shell),
        threading._shutdown,  # type: ignore[attr-defined]
        atexit._run_exitfuncs,
        functools.partial(_send_all, app.iopub_thread),
    )
    del app, own
    for step in steps:
        with contextlib.suppress(BaseException):  # all of it is within a cell's reach
            step()
    if _is_all_written():
        # Ports and locks are free before PID 1 hears of it: at an exit they come after the memory.
        with contextlib.suppress(OSError):
            os.closerange(3, 1 + max(map(int, os.listdir("/proc/self/fd"))))
        common_memory.set_over(True)
        with contextlib.suppress(OSError):
            os.kill(os.getppid(), signal.SIGCHLD)  # PID 1 need not wait until the memory has been given back
        os._exit(0)
    with contextlib.suppress(Exception):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for cells that run
        common_memory.set_ending()
    ctypes.pythonapi.Py_Exit(0)


def _let_variables_go_first(shell: Any) -> None:
    """Have IPython collect no garbage before it lets the variables go: it would find none."""
    shell.displayhook.do_full_cache = False


def _send_all(publisher: Any) -> None:
    """Give the last messages to libzmq, which sends them by itself."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    sent = threading.Event()
    publisher.schedule(sent.set)
    sent.wait(SENDING)


def _is_all_written() -> bool:
    """Write open files out, and return whether nothing that is left has something to do when it is freed.

    What the zygote made is not looked at: it is frozen (gc.freeze), and no cell's.
    """
    objects = gc.get_objects()
    kinds = list(map(type, objects))
    try:
        there = set(kinds)
        for kind in there & FILES:
            for one in _of(kind, kinds, objects):
                with contextlib.suppress(OSError, ValueError):  # it is closed, say
                    one.flush()
        ctypes.CDLL(None).fflush(None)  # what libraries in C have open
        if not loaded_libraries.have_nothing_to_do() or any(map(_does_more_at_its_end, there)):
            return False
        writers = loaded_libraries.writers()
        if any(issubclass(kind, writers) for kind in there):
            return False
        for kind in there & FRAMES.keys():
            names = (getattr(one, FRAMES[kind]).co_filename for one in _of(kind, kinds, objects))
            if not all(name.startswith(LIBRARIES) for name in names):
                return False
    except Exception:  # noqa: BLE001 - a class of a cell's may raise anything
        return False
    return True


def _of(kind: type, kinds: list[type], objects: list[Any]) -> Iterator[Any]:
    """Yield the objects of a kind: in few steps, as they are many."""
    place = -1
    with contextlib.suppress(ValueError):  # there is no other
        while True:
            place = kinds.index(kind, place + 1)
            yield objects[place]


def _does_more_at_its_end(kind: type) -> bool:
    if kind in FILES or kind in UNBUFFERED or kind in FRAMES:
        return False
    return hasattr(kind, "__del__") and kind.__module__.partition(".")[0] not in OF_EACH_KERNEL


def end_copies(app: Any) -> None:
    """End a forked process where its cell has ended: it shares the kernel's sockets, and must not serve them.

    Until then its event loop waits for nothing of the kernel's, whose events would wake both.
    """
    global _served
    is_first, loop = _served is None, asyncio.get_event_loop()
    own = frozenset(key.fd for key in _selector(loop).get_map().values())
    _served = _Served(os.getpid(), threading.get_ident(), loop, own)
    if not is_first:  # a copy of a kernel, whose kernel looks out for copies already
        return
    do_execute = app.kernel.do_execute

    async def execute(*args: Any, **kwargs: Any) -> Any:
        reply = await do_execute(*args, **kwargs)
        if _served and os.getpid() != _served.process:
            _leave()
        return reply

    def part() -> None:
        if _served and _served.loop is not None and threading.get_ident() == _served.thread:
            _wait_for_others(_served.loop, _served.own)

    app.kernel.do_execute = execute
    os.register_at_fork(after_in_child=part)


def become_a_kernel() -> None:
    """Take note that this process, which was forked, is a kernel itself and has no event loop yet."""
    global _served
    _served = _Served(os.getpid(), threading.get_ident(), None, frozenset())


@dataclass(frozen=True)
class _Served:
    """What a kernel is, as against its copies."""

    process: int
    thread: int
    loop: Any
    own: frozenset[int]
    """What its loop waits for at its start."""


_served: _Served | None = None


def _leave() -> None:
    """End a copy: what it printed is sent, its own threads end first, and the kernel's files are not written twice."""
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        threading._shutdown()  # type: ignore[attr-defined]
    finally:
        os._exit(0)


def _selector(loop: Any) -> Any:
    return loop._selector


def _wait_for_others(loop: Any, own: frozenset[int]) -> None:
    """Give a copy's event loop a selector of its own, without what the kernel waits for."""
    known = list(_selector(loop).get_map().values())
    loop._selector = selectors.DefaultSelector()
    for key in known:
        if key.fd not in own:
            loop._selector.register(key.fd, key.events, key.data)
    loop._ssock, loop._csock = None, None
    loop._make_self_pipe()
    signal.set_wakeup_fd(loop._csock.fileno())
