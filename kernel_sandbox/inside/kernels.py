"""The kernels of a sandbox: started by the zygote, reaped by PID 1, ended without survivors.

Part of PID 1. There may be several kernels at a time: each has a name, a process group and a socket directory.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import stat
import time
from typing import Any

from kernel_sandbox.inside import (
    allowance,
    apart,
    common_memory,
    copies,
    file_operations,
    fresh_places,
    kernelspecs,
    leaving,
    mux,
    survivors,
    zygote,
)
from kernel_sandbox.inside.last_words import LastWords
from kernel_sandbox.inside.loopback import Loopback

HOME = apart.HOME
SOCKETS = "/opt/kernel-sandbox/run"
FRESH_PLACES = (HOME, "/tmp", "/dev/shm")
"""What a restart empties."""
ZYGOTE_PATIENCE = 10.0
"""Seconds in which a zygote must have forked: 20 times what a first import takes, then another is started."""
LOADING_PATIENCE = 30.0
"""The same, where it loads libraries before."""
AT_REST, AT_WORK = 0.05, 0.25
"""Seconds in which a kernel ends that does nothing, and those that one gets beyond, whose cell is interrupted."""
IN_FULL = 1.0
"""Seconds more for one whose interpreter is taken apart because a library has something to write then."""

GIVING_BACK = 1.0
"""Seconds in which those that were killed give back what they held: 10 GB."""


def oom_kills() -> int:
    """How many processes the memory limit has killed in this sandbox so far (cgroup v2, then v1)."""
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            with open(path) as file:
                return int(dict(line.split() for line in file if line.count(" ") == 1).get("oom_kill", 0))
        except (OSError, ValueError):
            continue
    return 0


class KernelFailed(RuntimeError):
    """A kernel ended before it was ready; `said` is its last words."""

    def __init__(self, message: str, said: bytes) -> None:
        super().__init__(message)
        self.said = said


class Kernel:
    """One kernel: its process group, its sockets, and how it ended."""

    def __init__(self, name: str, sockets: str, slot: int) -> None:
        self.name = name
        self.pid = 0
        """Not known yet. Whoever signals it knows it: for the system, 0 is PID 1's own group."""
        self.sockets, self.slot = sockets, slot
        self.signs = {f"s-{port}" for port in range(1, 6)}
        """The files in `sockets` that say it is ready."""
        self.loopback: Loopback | None = None
        """Where it listens instead, if it can bind no unix sockets."""
        self.kernelspec: dict[str, str] = kernelspecs.OURS
        self.oom_kills = oom_kills()
        self.exit_code: int | None = None
        self.ended = asyncio.Event()
        self.end_signal: int = signal.SIGTERM
        """What asks it to end."""
        self.words = LastWords(slot)
        common_memory.set_over(False, slot)


class Kernels:
    """All kernels, and the host's operations on them."""

    def __init__(self, zygote_pid: int, zygote_socket: socket.socket) -> None:
        self.kernels: dict[str, Kernel] = {}
        self.exits: dict[int, int] = {}
        """Exit codes of children that no kernel is known for yet; a kernel may die before its id is told."""
        self.watchers: list[Any] = []
        self.ending: list[Kernel] = []
        """Kernels that were told to end; nobody is told when they do."""
        self.untouched = True
        """Whether no kernel has been here yet."""
        self.copying = asyncio.Lock()
        """Held while a copy is ordered: there is one place for orders."""
        self._set_zygote(zygote_pid, zygote_socket)
        self.allowance, self.processors = allowance.of(os.getpid()), os.sched_getaffinity(0)
        """PID 1's own before the first cell; the zygote has the same."""

    def _set_zygote(self, pid: int, control: socket.socket) -> None:
        self.zygote_pid, self.zygote_socket = pid, control

    async def do_start(self, channel: mux.Channel, request: dict[str, Any]) -> None:
        """Start a kernel and answer when its five sockets are there."""
        os.makedirs(request["sockets"], mode=0o700, exist_ok=True)
        connection_file = os.path.join(HOME, f".{request['kernel']}.json")
        kernel = self.new_kernel(request)
        self.exits.clear()  # process ids come round again: only what ends from here on can be this kernel
        # The image's own environment, as PID 1 got it, and what the host says on top.
        environment = {**os.environ, **request["env"]}
        try:
            more = {"env": environment, "connection_file": connection_file, "untouched": self.untouched}
            self.launch(kernel, request | more | {"slot": kernel.slot})
        except BaseException:
            kernel.words.close()
            raise
        self.untouched = False
        self.add(kernel)
        await self.ready(kernel)
        facts = {"kernelspec": kernel.kernelspec, "by_ports": kernel.loopback is not None}
        await file_operations.answer(channel, ok=True, pid=kernel.pid, **facts)

    def new_kernel(self, request: dict[str, Any]) -> Kernel:
        """Return a kernel that is to be started. Raises RuntimeError where there are too many."""
        free = set(range(common_memory.MOST_KERNELS)) - {
            kernel.slot for kernel in (*self.kernels.values(), *self.ending)
        }
        if not free:
            raise RuntimeError(f"a sandbox holds {common_memory.MOST_KERNELS} kernels at most")
        return Kernel(request["kernel"], request["sockets"], min(free))

    def add(self, kernel: Kernel) -> None:
        """Put a kernel whose process is known into the table."""
        self.kernels[kernel.name] = kernel
        if kernel.pid in self.exits:
            self.record_exit(kernel, self.exits.pop(kernel.pid))

    async def do_fork(self, channel: mux.Channel, request: dict[str, Any]) -> None:
        """Copy a kernel that is idle, and answer when the copy serves or, with `park`, waits. What fails is ended."""
        async with self.copying:
            source = self.kernels[request["source"]]
            if source.end_signal == signal.SIGTERM:
                raise RuntimeError("only a Python kernel of the image's own can be copied")
            kernel = self.new_kernel(request)
            try:
                await copies.copy(self, source, kernel, request)
            except BaseException:
                self.kernels.pop(kernel.name, None)
                copies.end(kernel)
                kernel.words.close()
                raise
        await file_operations.answer(channel, ok=True, pid=kernel.pid)

    def launch(self, kernel: Kernel, request: dict[str, Any]) -> None:
        """Fork a kernel from the zygote, or start the command of a kernelspec where the image has no ipykernel."""
        if request["kernelspec"] in (None, kernelspecs.OURS["name"]):
            _write_connection(kernel, request)
            answer = self.ask_zygote(request)
            if answer.get("pid"):
                kernel.pid = int(answer["pid"])
                kernel.signs.add("ready")  # kernel.py's own sign, later than the sockets
                kernel.end_signal = leaving.END
                return
            if answer.get("refused"):
                raise RuntimeError(answer["refused"])
        self.execute(kernel, kernelspecs.find(request["kernelspec"]), request)

    def execute(self, kernel: Kernel, spec: kernelspecs.Kernelspec, request: dict[str, Any]) -> None:
        """Start the command of a kernelspec."""
        kernel.kernelspec = spec.facts()
        kernel.loopback = Loopback() if spec.speaks_tcp else None
        _write_connection(kernel, request)
        argv = spec.command(request["connection_file"])
        environment = {**request["env"], "KERNEL_SANDBOX_TABLE_ROWS": str(request["table_rows"])}
        environment |= {**spec.environment(request["env"]), **request["given_env"]}
        actions: list[Any] = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in (0, 1)]
        errors = kernel.words.listen()
        actions.append((os.POSIX_SPAWN_DUP2, errors, 2))
        os.chdir(request["workdir"])
        mask = os.umask(0)  # its sockets must be connectable for the host's user, who is another one
        try:
            kernel.pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True)
        except OSError as exc:
            raise RuntimeError(f"its command {argv[0]!r} cannot be run ({exc.strerror})") from exc
        finally:
            os.close(errors)
            os.umask(mask)
            os.chdir("/")

    def ask_zygote(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask for a fork; a zygote that a cell has killed or stopped is replaced once."""
        for attempt in (1, 2):
            try:
                self.zygote_socket.settimeout(ZYGOTE_PATIENCE if request["load_first"] is None else LOADING_PATIENCE)
                os.kill(self.zygote_pid, signal.SIGCONT)  # a cell may have stopped it
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

    async def ready(self, kernel: Kernel) -> None:
        """Wait until all signs of the kernel are in its directory. Raises RuntimeError when it exits before."""
        while kernel.exit_code is None:
            if kernel.loopback is not None:
                if kernel.loopback.listens():
                    return
            elif all(os.path.lexists(os.path.join(kernel.sockets, sign)) for sign in kernel.signs):
                if "ready" in kernel.signs:
                    kernel.words.also(kernel.pid, _read_sign(os.path.join(kernel.sockets, "ready")))
                return
            await asyncio.sleep(0.002)
        raise KernelFailed(f"it exited with status {kernel.exit_code} before it was ready", kernel.words.said())

    async def do_stop(self, channel: mux.Channel, request: dict[str, Any]) -> None:
        """End a kernel. When it is the only one, leave no other process alive and nothing in the fresh places."""
        kernel = self.kernels.pop(request["kernel"], None)
        if kernel is not None:
            await self.end(kernel)
            kernel.words.close()
        if self.kernels:
            if kernel is not None:
                copies.end(kernel)
        else:
            await self.sweep(kernel)
            self.put_right()
            for place in FRESH_PLACES:
                fresh_places.empty(place)
            fresh_places.copy_skeleton()
            # Where the host made the socket directories, they are its own to remove; nothing here can write there.
            fresh_places.empty(SOCKETS)
            fresh_places.empty(fresh_places.NAMES)
            fresh_places.write_names()
            try:
                os.chmod(file_operations.ROOT, 0o700)  # a cell may have shut it, and the next kernel begins there
            except OSError:
                pass
        await file_operations.answer(channel, ok=True, changed=allowance.of(os.getpid()) != self.allowance)

    async def end(self, kernel: Kernel) -> None:
        """Ask a kernel to end by itself, as it would anywhere, and wait a moment; the caller kills what is left."""
        self.ending.append(kernel)
        try:
            for send, number, patience in (
                (os.kill, kernel.end_signal, AT_REST),
                (os.killpg, signal.SIGINT, AT_WORK),  # a cell runs: Jupyter interrupts it before it ends its kernel
            ):
                if kernel.ended.is_set():
                    return
                send(kernel.pid, number)
                try:
                    await asyncio.wait_for(kernel.ended.wait(), patience)
                except asyncio.TimeoutError:  # another than the builtin before Python 3.11
                    pass
            if common_memory.is_ending(kernel.slot):
                await asyncio.wait_for(kernel.ended.wait(), IN_FULL)
        except (ProcessLookupError, asyncio.TimeoutError):
            pass
        finally:
            self.ending.remove(kernel)

    async def sweep(self, last: Kernel | None) -> None:
        """Kill every process but this one and the zygote, however fast they fork, and wait for what they hold."""
        for _ in range(50):
            others = survivors.running({1, os.getpid(), self.zygote_pid})
            if others == []:
                break
            for pid in others or []:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.reap()
            await asyncio.sleep(0.002)
        else:
            # A fork bomb outruns a loop; kill(2) with -1 reaches all processes in one step, the zygote with them.
            survivors.kill_everything()
            self.replace_zygote()
        closed = {last.pid} if last is not None and common_memory.is_over(last.slot) else set()
        end = time.monotonic() + GIVING_BACK
        while survivors.holding({1, os.getpid(), self.zygote_pid}, closed) and time.monotonic() < end:
            await asyncio.sleep(0.002)
            self.reap()

    def put_right(self) -> None:
        """Undo what a cell may have done to the processes that stay, as far as that can be undone from inside."""
        os.sched_setaffinity(0, self.processors)
        if allowance.of(self.zygote_pid) != self.allowance or os.sched_getaffinity(self.zygote_pid) != self.processors:
            self.replace_zygote()

    async def do_signal(self, channel: mux.Channel, request: dict[str, Any]) -> None:
        _signal_group(self.kernels[request["kernel"]].pid, int(request["signal"]))
        await file_operations.answer(channel, ok=True)

    def reap(self) -> None:
        """Collect every child that ended; tell the watchers of kernels. A kernel that ends may say so beforehand."""
        for ending in self.ending:
            if common_memory.is_over(ending.slot):
                ending.ended.set()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            code = os.waitstatus_to_exitcode(status)
            known = (*self.kernels.values(), *self.ending)
            kernel = next((kernel for kernel in known if kernel.pid == pid), None)
            if kernel is not None:
                self.record_exit(kernel, code)
            elif len(self.exits) < 1000:
                self.exits[pid] = code

    def record_exit(self, kernel: Kernel, code: int) -> None:
        kernel.exit_code = code
        kernel.ended.set()
        said = kernel.words.said()
        kernel.words.close()
        if kernel in self.ending:
            return
        out_of_memory = code == -signal.SIGKILL and oom_kills() > kernel.oom_kills
        for queue in self.watchers:
            queue.put_nowait(
                {"kernel": kernel.name, "exit_code": code, "out_of_memory": out_of_memory, "said": as_text(said)}
            )

    async def do_said(self, channel: mux.Channel, request: dict[str, Any]) -> None:
        """Answer with the last that a kernel wrote to standard error, in base64."""
        await file_operations.answer(channel, ok=True, said=as_text(self.kernels[request["kernel"]].words.said()))

    async def do_watch(self, channel: mux.Channel, request: dict[str, Any]) -> None:
        """Send a line whenever a kernel ends, for as long as the host listens."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.watchers.append(queue)
        try:
            while True:
                await file_operations.answer(channel, **await queue.get())
        finally:
            self.watchers.remove(queue)


def _write_connection(kernel: Kernel, request: dict[str, Any]) -> None:
    """Write the kernel's connection file."""
    connection = {**request["connection"], "ip": f"{kernel.sockets}/s"}
    if kernel.loopback is not None:
        connection |= kernel.loopback.connection()
    _write_anew(request["connection_file"], json.dumps(connection))


def _write_anew(path: str, text: str) -> None:
    """Write a file of this user's alone, in a place where a cell may have put anything under its name."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)


def _read_sign(path: str) -> str:
    """Return what a kernel has written there; nothing where it is no file: a copy of it may run cells by now."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 16).decode("ascii", "replace") if stat.S_ISREG(os.fstat(descriptor).st_mode) else ""
    finally:
        os.close(descriptor)


def as_text(said: bytes) -> str:
    return base64.b64encode(said).decode()


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass
