"""How a live kernel is copied: PID 1 orders it, the kernel forks while it is idle, and the copy goes on by itself.

Runs in the kernel. The copy keeps the shell, the variables and the very streams; its sockets, threads, event loop and
key are its own. What it inherited of these is shared with the kernel that it is a copy of: it touches nothing of that,
puts /dev/null where descriptors of it were, and never frees the objects. PID 1 waits for nobody here: it ends by name
what does not answer in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

from zmq.eventloop.zmqstream import ZMQStream

from kernel_sandbox.inside import application, common_memory, leaving, randomness

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
AGAIN, PATIENCE = 0.001, 3.0
"""Seconds between two looks at the process between a kernel and its copy, and until it is killed."""
PAUSE_HARD = 2
"""omp_pause_hard (OpenMP 5.0, 3.2.44): threads are ended, and started again when they are needed."""


class Copied(SystemExit):
    """Leaves the event loop of a copy, which cannot go on with what it inherited. Event loops let a SystemExit pass."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(0)
        self.order = order


def copy_when_asked(app: Any) -> None:
    """Obey PID 1's orders from the event loop, where no cell runs."""
    asyncio.get_event_loop().add_signal_handler(common_memory.COPY, _obey, app)


def _obey(app: Any) -> None:
    """Fork a copy, where one is ordered. In the copy, raises Copied once it may go on."""
    order = common_memory.ordered(os.getpid())
    if order is None:
        return  # it came too late
    if app.kernel._main_asyncio_lock.locked():
        common_memory.tell(0, token=order["token"], refused="a cell runs in it")
        return
    if _polars_has_threads():
        common_memory.tell(0, token=order["token"], refused="polars is imported in it, and would hang in a copy")
        return
    for stream in application.streams():
        stream.flush()
    _pause_openmp()
    between = _fork(order)
    if between is not None:
        _look_after(between, time.monotonic() + PATIENCE)
        return
    leaving.become_a_kernel()
    _cover(app)
    raise Copied(_wait_as_a_copy(order) if order["park"] else order)


def _polars_has_threads() -> bool:
    """Return whether polars has its threads, as from its import on: a fork has none, and it waits for them."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as name:
            if name.read().startswith("polars-"):
                return True
    return False


def _pause_openmp() -> None:
    """Have libgomp end its idle threads: a copy that inherits the list of them would wait for them for ever.

    LLVM's library looks after itself in a fork, and must not be told.
    """
    with open("/proc/self/maps") as file:
        paths = {line.split(maxsplit=5)[-1].strip() for line in file if "/libgomp" in line}
    for path in paths:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(path).omp_pause_resource_all(PAUSE_HARD)


def _fork(order: dict[str, Any]) -> int | None:
    """Fork twice, so that the copy is a child of PID 1. Returns the process between, and None in the copy."""
    between = _fork_once(order)
    if between != 0:
        return between
    copy = _fork_once(order)
    if copy != 0:
        if copy > 0:
            common_memory.tell(0, token=order["token"], pid=copy)
        os._exit(0)
    os.setsid()
    return None


def _fork_once(order: dict[str, Any]) -> int:
    """Fork; -1 where there is no room for a process, which PID 1 is told."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: it counts the kernel's own threads
            return os.fork()
    except OSError as exc:
        common_memory.tell(0, token=order["token"], refused=f"its fork failed ({exc.strerror})")
        return -1


def _look_after(between: int, deadline: float) -> None:
    """Collect the process between without waiting for it: what a cell registered for forks may hang there."""
    if between > 0 and not _has_ended(between, deadline):
        asyncio.get_event_loop().call_later(AGAIN, _look_after, between, deadline)


def _has_ended(between: int, deadline: float) -> bool:
    try:
        if os.waitpid(between, os.WNOHANG)[0]:
            return True
    except ChildProcessError:
        return True  # a cell collects every child
    if time.monotonic() > deadline:
        os.kill(between, signal.SIGKILL)
    return False


def _wait_as_a_copy(order: dict[str, Any]) -> dict[str, Any]:
    """Wait without threads and sockets. Each further order makes a copy of this copy, in which this returns."""
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {common_memory.COPY})
    while True:
        _set_oom_score(900)
        common_memory.tell(1, token=order["token"], pid=os.getpid())
        order = _copied_again()
        if not order["park"]:
            break
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {common_memory.COPY})
    _set_oom_score(500)
    return order


def _copied_again() -> dict[str, Any]:
    """Obey orders; return the order in the copy."""
    while True:
        signal.sigwait({common_memory.COPY})
        order = common_memory.ordered(os.getpid())
        if order is None:
            continue
        between = _fork(order)
        if between is None:
            return order
        deadline = time.monotonic() + PATIENCE
        while between > 0 and not _has_ended(between, deadline):
            time.sleep(AGAIN)


def _set_oom_score(score: int) -> None:
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(score))


def _cover(app: Any) -> None:
    """Put /dev/null where the parent's event loops, wake-ups, sockets and pipes were: they are shared with it.

    An epoll and an eventfd belong to whoever has them: what a copy took out of one would be lost to the parent.
    """
    _keep([app.context, app.heartbeat, app.iopub_thread, app.control_thread, app.shell_channel_thread, app.io_loop])
    _keep([asyncio.get_event_loop(), app.shell_socket, app.stdin_socket, app.control_socket, app.debugpy_socket])
    _keep([app.debug_shell_socket, app.kernel.shell_stream, app.kernel.control_stream, app.kernel.debugpy_stream])
    null, own = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), {*_loop_ends(app)}
    for stream in application.streams():
        if stream._fid is not None:
            own |= {stream._fid, stream._original_stdstream_fd}
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        with contextlib.suppress(OSError):
            if number in own or (number > 2 and _is_shared(number, app)):
                os.dup2(null, number, inheritable=number <= 2)
    os.close(null)


def _keep(things: list[Any]) -> None:
    """Never free an object, nor what it holds."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(things))


def _loop_ends(app: Any) -> Iterator[int]:
    """Yield the sockets by which each event loop wakes itself."""
    for holder in (app, app.control_thread, app.shell_channel_thread, app.iopub_thread):
        loop = holder.io_loop.asyncio_loop
        for end in (loop._ssock, loop._csock):
            if end is not None:
                yield end.fileno()


def _is_shared(number: int, app: Any) -> bool:
    """Return whether a descriptor is an epoll, an eventfd, or a socket of the kernel's own."""
    target = os.readlink(f"/proc/self/fd/{number}")
    if target.startswith("socket:"):
        with socket.socket(fileno=os.dup(number)) as found:
            name = found.getsockname()
        if isinstance(name, tuple):
            return name == ("127.0.0.1", getattr(app.iopub_thread, "_pipe_port", None))
        return isinstance(name, str) and name.startswith(f"{app.ip}-")
    return target in ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")


def begin_anew(app: Any, order: dict[str, Any]) -> None:
    """Give a copy sockets, threads and an event loop of its own; what else it has is as the parent had it."""
    common_memory.use(order["slot"])
    signal.set_wakeup_fd(-1)
    asyncio.set_event_loop(asyncio.new_event_loop())
    randomness.renew()
    _leave_processes()
    _connect(app, order)
    for stream in application.streams():
        _renew_stream(stream, app.iopub_thread)
    _renew_kernel(app)


def _connect(app: Any, order: dict[str, Any]) -> None:
    """Bind new sockets and start their threads; from now on messages are signed with the copy's own key."""
    connection = {**order["connection"], "ip": f"{order['sockets']}/s"}
    app.connection_file = os.path.join(os.environ.get("HOME", "/"), f".{order['kernel']}.json")
    with contextlib.suppress(OSError):  # the home may be full, or gone: the kernel itself does without
        descriptor = os.open(app.connection_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            json.dump(connection, file)
    app.session.key, app.session.pid, app.session.session = connection["key"].encode(), os.getpid(), order["token"]
    app.ip, app.context, app.heartbeat = connection["ip"], None, None
    for channel in CHANNELS:
        setattr(app, f"{channel}_port", connection[f"{channel}_port"])
    handlers = logging.getLogger("tornado").handlers[:]
    mask = os.umask(0)  # as in a kernel's start: the host's user must be able to connect
    app.init_sockets()
    app.init_heartbeat()
    os.umask(mask)
    logging.getLogger("tornado").handlers[:] = handlers  # it would have one more with each copy


def _renew_stream(stream: Any, thread: Any) -> None:
    """Publish through the new thread. The object stays: loggers and cells hold it."""
    stream.pub_thread, stream._io_loop = thread, thread.io_loop
    stream._master_pid, stream._local, stream._buffer_lock = os.getpid(), threading.local(), threading.RLock()
    stream._flush_pending = stream._subprocess_flush_pending = False
    stream._near = None
    if stream._fid is None:
        return
    reader, writer = os.pipe()
    os.dup2(writer, stream._original_stdstream_fd)
    os.dup2(reader, stream._fid, inheritable=False)
    os.close(reader)
    os.close(writer)
    application.nothing_is_read()
    stream.watch_fd_thread = threading.Thread(target=stream._watch_pipe_fd, daemon=True)
    stream.watch_fd_thread.start()


def _renew_kernel(app: Any) -> None:
    """Give the kernel and its shell the new sockets. (As IPKernelApp.init_kernel, for a kernel that is there.)"""
    kernel, shell = app.kernel, app.shell
    shell_stream = ZMQStream(app.shell_socket, app.shell_channel_thread.io_loop)
    app.shell_channel_thread.shell_stream = shell_stream
    kernel.control_stream = ZMQStream(app.control_socket, app.control_thread.io_loop)
    kernel.debugpy_stream = ZMQStream(app.debugpy_socket, app.control_thread.io_loop)
    kernel.shell_stream, kernel.debug_shell_socket = shell_stream, app.debug_shell_socket
    app.control_thread.start()
    app.shell_channel_thread.start()
    kernel.control_thread, kernel.shell_channel_thread = app.control_thread, app.shell_channel_thread
    kernel.iopub_thread, kernel.iopub_socket, kernel.stdin_socket = app.iopub_thread, app.iopub_socket, app.stdin_socket
    for publisher in (app.displayhook, shell.displayhook, shell.display_pub):
        publisher.pub_socket = app.iopub_socket
    kernel._main_asyncio_lock, kernel._aborting = asyncio.Lock(), False
    kernel.set_parent([], {}, channel="shell")
    kernel.record_ports({f"{channel}_port": getattr(app, f"{channel}_port") for channel in CHANNELS})


def _leave_processes() -> None:
    """Leave the parent's processes and threads to it: pools start their own when they are next asked."""
    loky: Any = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and loky._executor is not None:
        _keep([loky._executor])
        loky._executor = None
    processes: Any = sys.modules.get("multiprocessing.process")
    if processes is not None:
        processes._children = set()
    threads: Any = sys.modules.get("concurrent.futures.thread")
    if threads is not None:
        _count_threads_again(threads.ThreadPoolExecutor)


def _count_threads_again(pool_class: Any) -> None:
    """Have thread pools of the parent's start threads here: those that they count as idle are not in a copy."""
    process, adjust = os.getpid(), pool_class._adjust_thread_count

    def adjust_thread_count(pool: Any) -> None:
        if os.getpid() == process and any(not thread.is_alive() for thread in pool._threads):
            pool._threads = {thread for thread in pool._threads if thread.is_alive()}
            pool._idle_semaphore = threading.Semaphore(0)
        adjust(pool)

    pool_class._adjust_thread_count = adjust_thread_count
