"""PID 1 of a sandbox: starts and reaps kernels, answers the host's operations, and ends with its input.

Its standard input and output are the one stream to the host (`kernel_sandbox.mux`): a channel is one operation, a
JSON line that asks, then the operation's own bytes. The operations are start, stop, signal, watch, usage, connect
and those of files.py. When the stream ends, the host is gone or has closed the session, and the sandbox ends.

Code in the sandbox runs as the same user. It can send no signal to PID 1 that PID 1 does not handle (it is the init
of its pid namespace), cannot trace it or open its descriptors (it is not dumpable), and finds no socket of it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import stat
import sys
from typing import Any

from kernel_sandbox.guest import zygote

PR_SET_DUMPABLE = 4
LINK_IN, LINK_OUT = 3, 4
PIPE_SIZE = 1024 * 1024
FRESH_PLACES = ("/home/sandbox", "/tmp", "/dev/shm")
HOME_SKELETON = "/opt/kernel-sandbox/home"
ZYGOTE_PATIENCE = 10.0
"""Seconds in which a zygote must have forked: 20 times what a first import takes, then another is started."""


def run() -> None:
    """Serve the host until its stream ends. Never returns to the boot code."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.umask(0o022)
    _take_standard_streams()
    _copy_skeleton()
    # Before asyncio is imported here, so that both imports run at the same time.
    zygote_process = zygote.start()
    import asyncio

    guest = Guest(*zygote_process)
    try:
        asyncio.run(guest.serve())
    finally:
        guest.kill_everything()
        os._exit(0)


def _take_standard_streams() -> None:
    """Move the host's stream to descriptors that no child inherits, and leave /dev/null in their place."""
    for standard, link in ((0, LINK_IN), (1, LINK_OUT)):
        os.dup2(standard, link, inheritable=False)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    import fcntl

    for link in (LINK_IN, LINK_OUT):
        try:
            fcntl.fcntl(link, 1031, PIPE_SIZE)  # F_SETPIPE_SZ: fewer wake-ups for a large file
        except OSError:
            pass  # not a pipe, or the user's share of pipe memory is used up


def _copy_skeleton() -> None:
    """Give the home directory what the image prepared for it (matplotlib's font list, for one)."""
    if os.path.isdir(HOME_SKELETON):
        shutil.copytree(HOME_SKELETON, FRESH_PLACES[0], dirs_exist_ok=True)


def _empty(place: str) -> None:
    """Remove all that a directory holds, whatever modes a cell gave it."""

    def retry(function: Any, path: str, _: Any) -> None:
        try:
            os.chmod(os.path.dirname(path), 0o700)
            function(path)
        except OSError:
            pass  # a file that cannot be removed stays; the kernel's own start does not depend on it

    with os.scandir(place) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, onerror=retry)
            else:
                os.unlink(entry.path)


def oom_kills() -> int:
    """How many processes the memory limit has killed in this sandbox so far (cgroup v2, then v1)."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            with open(path) as file:
                return int(dict(line.split() for line in file if line.count(" ") == 1).get("oom_kill", 0))
        except (OSError, ValueError):
            continue
    return 0


def memory_used() -> int | None:
    """Bytes that count against the memory limit, as far as the sandbox can see its own control group."""
    for path in ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes"):
        try:
            with open(path) as file:
                return int(file.read())
        except (OSError, ValueError):
            continue
    return None


class Kernel:
    """One kernel: its process group, its sockets, and how it ended."""

    def __init__(self, name: str, pid: int, sockets: str) -> None:
        self.name = name
        self.pid = pid
        self.sockets = sockets
        self.oom_kills = oom_kills()
        self.exit_code: int | None = None


class Guest:
    """The state of PID 1, and the host's operations on it."""

    def __init__(self, zygote_pid: int, zygote_socket: socket.socket) -> None:
        self.kernels: dict[str, Kernel] = {}
        self.exits: dict[int, int] = {}
        """Exit codes of children that no kernel is known for yet; a kernel may die before its id is told."""
        self.watchers: list[Any] = []
        self._set_zygote(zygote_pid, zygote_socket)

    def _set_zygote(self, pid: int, control: socket.socket) -> None:
        self.zygote_pid, self.zygote_socket = pid, control
        control.settimeout(ZYGOTE_PATIENCE)

    async def serve(self) -> None:
        import asyncio

        from kernel_sandbox import mux

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self.reap)
        reader = asyncio.StreamReader(limit=PIPE_SIZE)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(LINK_IN, "rb", 0))
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(LINK_OUT, "wb", 0)
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        tasks: set[Any] = set()

        def accept(channel: mux.Channel, payload: bytes) -> None:
            task = loop.create_task(self.answer(channel, payload))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await mux.Mux(lambda: reader.read(PIPE_SIZE), send, accept).run()

    async def answer(self, channel: Any, payload: bytes) -> None:
        """Run one operation, and answer with what went wrong if it fails before its answer."""
        from kernel_sandbox import mux
        from kernel_sandbox.guest import files

        request = json.loads(payload)
        operation = getattr(self, "do_" + request["op"], None) or files.OPERATIONS[request["op"]]
        try:
            try:
                await operation(channel, request)
            except files.Refused as exc:
                await files.answer(channel, ok=False, error="refused", message=str(exc))
            except OSError as exc:
                if isinstance(exc, mux.MuxError):
                    raise
                await files.answer(channel, ok=False, error=f"errno-{exc.errno}", message=exc.strerror or str(exc))
            except (RuntimeError, LookupError, ValueError) as exc:
                await files.answer(channel, ok=False, error="failed", message=f"{type(exc).__name__}: {exc}")
            await channel.send_eof()
        except mux.MuxError:
            pass  # the host gave the operation up

    # Kernels

    async def do_start(self, channel: Any, request: dict[str, Any]) -> None:
        """Start a kernel and answer when its five sockets are there."""
        from kernel_sandbox.guest import files

        sockets = request["sockets"]
        os.makedirs(sockets, mode=0o700, exist_ok=True)
        connection_file = os.path.join(FRESH_PLACES[0], f".{request['kernel']}.json")
        with open(connection_file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump({**request["connection"], "ip": f"{sockets}/s"}, file)
        os.chmod(connection_file, 0o600)
        kernel = Kernel(request["kernel"], 0, sockets)
        self.exits.clear()  # process ids come round again: only what ends from here on can be this kernel
        # The image's own environment, as PID 1 got it, and what the host says on top.
        environment = {**os.environ, **request["env"]}
        kernel.pid = self.launch({**request, "env": environment, "connection_file": connection_file})
        self.kernels[kernel.name] = kernel
        if kernel.pid in self.exits:
            self.record_exit(kernel, self.exits.pop(kernel.pid))
        await self.sockets_bound(kernel)
        await files.answer(channel, ok=True, pid=kernel.pid)

    def launch(self, request: dict[str, Any]) -> int:
        """Fork a kernel from the zygote, or start the command of a kernelspec where the image has no ipykernel."""
        if request["kernelspec"] == "python3":
            answer = self.ask_zygote(request)
            if answer.get("pid"):
                return int(answer["pid"])
        argv = _kernelspec_command(request["kernelspec"], request["connection_file"])
        null = [(os.POSIX_SPAWN_OPEN, descriptor, "/dev/null", os.O_RDWR, 0) for descriptor in (0, 1, 2)]
        os.chdir(request["workdir"])
        try:
            return os.posix_spawnp(argv[0], argv, request["env"], file_actions=null, setsid=True)
        finally:
            os.chdir("/")

    def ask_zygote(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask for a fork; a zygote that a cell has killed or stopped is replaced once."""
        for attempt in (1, 2):
            try:
                self.zygote_socket.send(json.dumps(request).encode())
                if message := self.zygote_socket.recv(zygote.MESSAGE_LIMIT):
                    return dict(json.loads(message))
            except OSError:
                if attempt == 2:
                    raise
            self.replace_zygote()
        raise RuntimeError("the process that forks kernels does not answer")

    def replace_zygote(self) -> None:
        self.zygote_socket.close()
        try:
            os.kill(self.zygote_pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._set_zygote(*zygote.start())

    async def sockets_bound(self, kernel: Kernel) -> None:
        """Wait until the kernel has bound its five sockets. Raises RuntimeError when it exits before."""
        import asyncio

        names = {f"s-{port}" for port in range(1, 6)}
        while kernel.exit_code is None:
            if names <= set(os.listdir(kernel.sockets)):
                return
            await asyncio.sleep(0.002)
        raise RuntimeError(f"the kernel exited with status {kernel.exit_code} before it was ready")

    async def do_stop(self, channel: Any, request: dict[str, Any]) -> None:
        """End a kernel. When it is the only one, leave no other process alive and nothing in the fresh places."""
        from kernel_sandbox.guest import files

        kernel = self.kernels.pop(request["kernel"], None)
        if self.kernels:
            if kernel is not None:
                _signal_group(kernel.pid, signal.SIGKILL)
        else:
            await self.sweep()
            for place in FRESH_PLACES:
                _empty(place)
            _copy_skeleton()
        if kernel is not None and stat.S_ISDIR(os.lstat(kernel.sockets).st_mode):
            shutil.rmtree(kernel.sockets, ignore_errors=True)
        await files.answer(channel, ok=True)

    async def sweep(self) -> None:
        """Kill every process but this one and the zygote, however fast they fork."""
        import asyncio

        for _ in range(50):
            others = [pid for pid in _processes() if pid not in (1, os.getpid(), self.zygote_pid)]
            if not others:
                return
            for pid in others:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.reap()
            await asyncio.sleep(0.002)
        # A fork bomb outruns a loop; kill(2) with -1 reaches all processes in one step, the zygote with them.
        self.kill_everything()
        self.replace_zygote()

    def kill_everything(self) -> None:
        try:
            os.kill(-1, signal.SIGKILL)
        except OSError:
            pass  # nobody left

    async def do_signal(self, channel: Any, request: dict[str, Any]) -> None:
        from kernel_sandbox.guest import files

        _signal_group(self.kernels[request["kernel"]].pid, int(request["signal"]))
        await files.answer(channel, ok=True)

    def reap(self) -> None:
        """Collect every child that ended; tell the watchers of kernels."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            kernel = next((kernel for kernel in self.kernels.values() if kernel.pid == pid), None)
            if kernel is not None:
                self.record_exit(kernel, code)
            elif len(self.exits) < 1000:
                self.exits[pid] = code

    def record_exit(self, kernel: Kernel, code: int) -> None:
        kernel.exit_code = code
        out_of_memory = code == -signal.SIGKILL and oom_kills() > kernel.oom_kills
        for queue in self.watchers:
            queue.put_nowait({"kernel": kernel.name, "exit_code": code, "out_of_memory": out_of_memory})

    async def do_watch(self, channel: Any, request: dict[str, Any]) -> None:
        """Send a line whenever a kernel ends, for as long as the host listens."""
        import asyncio

        from kernel_sandbox.guest import files

        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.watchers.append(queue)
        try:
            while True:
                await files.answer(channel, **await queue.get())
        finally:
            self.watchers.remove(queue)

    # Reaching in

    async def do_connect(self, channel: Any, request: dict[str, Any]) -> None:
        """Join the channel to one of a kernel's sockets: bytes both ways until either side ends."""
        import asyncio

        kernel = self.kernels[request["kernel"]]
        reader, writer = await asyncio.open_unix_connection(f"{kernel.sockets}/s-{int(request['port'])}")

        async def inwards() -> None:
            while chunk := await channel.receive():
                writer.write(chunk)
                await writer.drain()

        async def outwards() -> None:
            while chunk := await reader.read(256 * 1024):
                await channel.send(chunk)

        both = [asyncio.ensure_future(inwards()), asyncio.ensure_future(outwards())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.close()

    async def do_usage(self, channel: Any, request: dict[str, Any]) -> None:
        from kernel_sandbox.guest import files

        space = os.statvfs(files.ROOT)
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        processes = len(_processes())
        await files.answer(channel, ok=True, memory=memory_used(), data=used, processes=processes)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def _kernelspec_command(name: str, connection_file: str) -> list[str]:
    """Find a kernelspec of the image and return its command for this connection file. Raises LookupError."""
    places = [os.path.join(sys.prefix, "share/jupyter/kernels"), "/usr/local/share/jupyter/kernels"]
    places.append("/usr/share/jupyter/kernels")
    for place in places:
        try:
            with open(os.path.join(place, name, "kernel.json")) as file:
                argv = json.load(file)["argv"]
        except FileNotFoundError:
            continue
        return [part.replace("{connection_file}", connection_file) for part in argv]
    raise LookupError(f"the image has no Jupyter kernel named {name!r} (looked in {', '.join(places)})")
