"""The kernel application as far as it can stand before there is a kernel: without sockets, threads and event loop.

The zygote makes it before it imports anything of the image, and each kernel that is forked gives it its sockets. So
what a library asks when it is imported (IPython for its shell, the streams for their encoding) has the answers that it
gets in any Jupyter kernel, and what it hangs on them (hooks, log handlers) is there in the kernel.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import importlib
import inspect
import os
import select
import sys
import termios
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import zmq
from ipykernel import iostream, ipkernel, kernelapp
from jupyter_client.session import Session

from kernel_sandbox.inside import common_memory, debugging

QUEUE = 16
"""Messages that wait for the host in libzmq; then the thread that sends them waits."""
PATIENCE = 5.0
"""Seconds: where a client has stopped reading, outputs are kept in the kernel's own memory from then on."""
SETTLE = 0.1
"""Seconds that a cell which has ended waits for what its processes wrote."""
END = common_memory.KEPT + common_memory.READ
ARGUMENTS = [
    "--HistoryManager.hist_file=:memory:",
    "--Kernel._execute_sleep=0",
    "--IPCompleter.use_jedi=False",  # its first answer takes 1.2 s, and JupyterLab waits for one; live objects do
    "--IPKernelApp.parent_handle=1",  # no parent poller, and no banner about Ctrl-C in the first output
]
AHEAD = ("IPython.core.debugger", "IPython.extensions.storemagic", "faulthandler", "tornado.platform.asyncio")
"""What each kernel imports when it is made."""


class IPythonKernel(ipkernel.IPythonKernel):
    """A kernel whose sockets and threads come later than its shell."""

    @classmethod
    def instance(cls, *args: Any, **given: Any) -> Any:
        """Return the one kernel; what is given when it is there already replaces what it had."""
        there = cls.initialized()
        kernel = super().instance(*args, **given)
        if there:
            for name, value in given.items():
                if value is not None:
                    setattr(kernel, name, value)
            kernel._become_connected()
        return kernel

    async def do_execute(self, *args: Any, **named: Any) -> Any:
        """Run a cell, and wait until what its processes wrote has been read: its client may look at once."""
        try:
            reply = await super().do_execute(*args, **named)  # type: ignore[no-untyped-call]
        finally:
            self._transformed = None
        _wait_for_readers()
        return reply

    _transformed: tuple[str, str] | None = None
    """The cell that is being run: as it came, and as Python."""

    def _prepare_cells_once(self) -> None:
        """Spare cells what ipykernel does to see whether they await, and IPython once more when it runs them."""
        shell: Any = self.shell
        transform, run = shell.transform_cell, type(shell).run_cell_async

        def transform_cell(raw: str) -> str:
            if self._transformed is None or self._transformed[0] is not raw:
                self._transformed = raw, transform(raw)
            return self._transformed[1]

        shell.transform_cell = transform_cell
        run.__signature__ = inspect.signature(run)  # ipykernel asks for it before each cell

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Answer in any case: an interrupt between the cell's code and its reply would otherwise cost the reply."""
        try:
            await super().execute_request(stream, ident, parent)  # type: ignore[no-untyped-call]
        except KeyboardInterrupt as exc:
            content = {"status": "error", "ename": type(exc).__name__, "evalue": "", "traceback": []}
            content["execution_count"] = self.execution_count
            session: Any = self.session
            session.send(stream, "execute_reply", content, parent, ident=ident)

    @property
    def kernel_info(self) -> dict[str, Any]:
        """The answer to a kernel_info_request. It names the debugger where there is debugpy, loaded or not."""
        info: dict[str, Any] = super().kernel_info
        features = {*info["supported_features"], *(["debugger"] if debugging.is_there() else [])}
        return {**info, "supported_features": sorted(features)}

    async def do_debug_request(self, msg: Any) -> Any:
        if not debugging.is_there():
            return None
        return await debugging.of_kernel(self).process_request(msg)

    async def poll_stopped_queue(self) -> None:
        if hasattr(self, "debugger"):
            await super().poll_stopped_queue()  # type: ignore[no-untyped-call]

    def _become_connected(self) -> None:
        shell: Any = self.shell
        shell.profile_dir, shell.config, shell.starting_dir = self.profile_dir, self.config, os.getcwd()
        shell.save_sys_module_state()
        self._prepare_cells_once()
        shell.init_environment()  # of its own: the zygote's was not this kernel's
        for publisher in (shell.displayhook, shell.display_pub):
            publisher.session, publisher.pub_socket = self.session, self.iopub_socket


class IPKernelApp(kernelapp.IPKernelApp):
    """Waits where the host takes outputs slowly: at its mark, a socket that publishes drops, `idle` too."""

    kernel_class = IPythonKernel
    _has_parsed = False

    def parse_command_line(self, argv: Any = None) -> None:
        """Parse the command line, which is each kernel's, once: in `prepare`."""
        if not self._has_parsed:
            super().parse_command_line(argv)
            self._has_parsed = True

    def init_iopub(self, context: Any) -> None:
        for option, value in ((zmq.SNDHWM, QUEUE), (zmq.XPUB_NODROP, 1), (zmq.SNDTIMEO, int(PATIENCE * 1000))):
            context.setsockopt(option, value)
        super().init_iopub(context)  # type: ignore[no-untyped-call]

    def init_io(self) -> None:
        """Make the streams of `prepare` the kernel's own, where libraries may have kept them."""
        made = dict(_streams)
        stream_class = iostream.OutStream

        def make(session: Any, thread: Any, name: str, **given: Any) -> Any:
            stream = made.get(name) or stream_class.__new__(stream_class)
            stream_class.__init__(stream, session, thread, name, **given)  # type: ignore[no-untyped-call]
            return stream

        iostream.OutStream = make  # type: ignore[misc, assignment]
        try:
            super().init_io()  # type: ignore[no-untyped-call]
        finally:
            iostream.OutStream = stream_class  # type: ignore[misc]


def _watch(stream: Any) -> None:
    """Publish what is written to the descriptor of a stream. (In place of OutStream's own method.)

    What a process says at the moment of its death is then still in the pipe, or in the memory that it shares with
    PID 1, which finds it in either place.
    """
    errors = stream.name == "stderr"
    piece: Any = (ctypes.c_char * common_memory.READ).from_buffer(
        common_memory.own_words() if errors else bytearray(END), common_memory.KEPT
    )
    read = ctypes.PyDLL(None).read  # which keeps the interpreter's lock
    waiting: Any = select.poll()
    waiting.register(stream._fid, select.POLLIN)
    while waiting.poll():
        _reading.add(stream.name)
        count = read(stream._fid, piece, common_memory.READ)
        if count <= 0 or not stream._should_watch:
            break
        said = piece[:count]
        if errors:
            common_memory.keep_words(said)
        ctypes.memset(piece, 0, count)
        stream.write(said.decode(errors="replace"))
        _reading.discard(stream.name)


def errors() -> Any:
    """Return the kernel's standard error."""
    return _streams["stderr"]


def nothing_is_read() -> None:
    """Take note that no thread reads the streams' descriptors: those of the kernel that this is a copy of do not."""
    _reading.clear()


def _wait_for_readers() -> None:
    """Wait until nothing is under way from the streams' descriptors; not for ever, since a process may write on."""
    end = time.monotonic() + SETTLE
    for stream in _streams.values():
        while _is_under_way(stream) and time.monotonic() < end:
            time.sleep(0.0005)


def _is_under_way(stream: Any) -> bool:
    """Return whether bytes wait in a stream's descriptor, or have been read and are not published yet."""
    if stream._fid is None:  # with PYTEST_CURRENT_TEST in the environment, ipykernel leaves descriptors to pytest
        return False
    waiting = array.array("i", [0])
    with contextlib.suppress(OSError):  # a cell may have closed it
        fcntl.ioctl(stream._fid, termios.FIONREAD, waiting)
    return waiting[0] > 0 or stream.name in _reading


def streams() -> Iterable[Any]:
    """Return the kernel's standard output and its standard error."""
    return _streams.values()


class _Nowhere(iostream.IOPubThread):
    """Publishes nothing: what a module prints when it is imported before there is a kernel."""

    def __init__(self) -> None:
        self.thread: Any = None
        self.io_loop: Any = None

    def schedule(self, f: Any) -> None:
        pass


_streams: dict[str, Any] = {}
_reading: set[str] = set()
"""The streams of which something has been read that is not published yet."""


def prepare(workdir: str) -> None:
    """Make the application, its kernel and its shell. Nothing that would not survive a fork."""
    with contextlib.suppress(OSError):  # the kernel itself will say so
        os.chdir(workdir)
    app: Any = IPKernelApp.instance()
    app.parse_command_line(ARGUMENTS)
    iostream.OutStream._watch_pipe_fd = _watch  # type: ignore[method-assign]
    threads = threading.active_count()
    for name in ("stdout", "stderr"):
        stream_class: Any = iostream.OutStream
        _streams[name] = stream_class(Session(key=b""), _Nowhere(), name, watchfd=False)
    with debugging.kept_out():
        IPythonKernel.instance(parent=app, log=app.log, user_ns=None)
    for module in AHEAD:
        with contextlib.suppress(ImportError):  # another version's
            importlib.import_module(module)
    assert threading.active_count() == threads, "a fork would lose a thread"
    os.chdir("/")


@contextlib.contextmanager
def as_in_a_cell() -> Iterator[None]:
    """Give what is imported in the block the names and streams that a cell has."""
    shell: Any = IPythonKernel.instance().shell if IPythonKernel.initialized() else None
    if shell is None:
        yield
        return
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _streams["stdout"], _streams["stderr"]
    try:
        with shell.builtin_trap, shell.display_trap:
            yield
    finally:
        sys.stdout, sys.stderr = kept
