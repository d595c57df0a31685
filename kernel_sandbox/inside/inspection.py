"""What a sandbox looks like from inside, told to the host before the first kernel runs: facts, no judgement.

PID 1 answers with them; a child of its own makes the attempts, so that one that succeeds changes nothing here.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import socket
from typing import Any

WALLS = ("/", "/etc", "/usr", "/opt")
"""Where nobody may write."""
IO_URING_SETUP = 425
UNSHARE = {"x86_64": 272, "aarch64": 97}
CLONE_NEWUSER = 0x10000000
AF_VSOCK, AF_ALG = 40, 38


def facts(places: list[str], masked: list[str]) -> dict[str, Any]:
    """Gather all. `places` are the writable ones, `masked` what must tell nothing."""
    found: dict[str, Any] = {"status": _status(), "interfaces": _interfaces()}
    found["places"] = {place: _place(place) for place in places}
    found["pids"] = _number("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")
    found["memory"] = _number("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    found["sockets"] = _number("/sys/fs/cgroup/memory/memory.kmem.tcp.limit_in_bytes")
    found["terminals"] = _terminals()
    found["processes"] = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    found["data"] = resource.getrlimit(resource.RLIMIT_DATA)[0]
    found["attempts"] = _in_child(lambda: _attempts(masked))
    return found


def _status() -> dict[str, str]:
    with open("/proc/self/status") as file:
        pairs = (line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        wanted = ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
        return {name: value for name, value in pairs if name in wanted}


def _interfaces() -> list[str]:
    """Name the network interfaces; the C library would ask over netlink, which is refused (proc(5))."""
    with open("/proc/net/dev") as file:
        return [line.partition(":")[0].strip() for line in file if ":" in line]


def _terminals() -> int | None:
    """Read how many pseudo-terminals there may be: -1 where there is no place for any, None where only the machine's
    own limit holds.
    """
    with open("/proc/self/mounts") as file:
        options = [line.split()[3].split(",") for line in file if line.split()[2] == "devpts"]
    if not options:
        return -1
    limits = [int(option.partition("=")[2]) for option in options[-1] if option.startswith("max=")]
    return limits[0] if limits else None


def _place(place: str) -> dict[str, Any]:
    space = os.statvfs(place)
    flags = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}
    held = [name for name, flag in flags.items() if space.f_flag & flag]
    return {"size": space.f_blocks * space.f_frsize, "inodes": space.f_files, "flags": held}


def _number(*paths: str) -> int | None:
    """Read a limit from the first file that is there; None where there is none, or it is unlimited."""
    for path in paths:
        try:
            with open(path) as file:
                text = file.read().strip()
            return int(text) if text.isdigit() else None
        except OSError:
            continue
    return None


def _attempts(masked: list[str]) -> dict[str, Any]:
    """Try what must fail: error numbers, 0 where it worked."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*arguments: int) -> int:
        ctypes.set_errno(0)
        result = libc.syscall(*(ctypes.c_long(argument) for argument in arguments))
        return ctypes.get_errno() if result == -1 else 0

    tried: dict[str, Any] = {f"write {place}": _error(lambda p=place: _write(p)) for place in WALLS}
    tried |= {f"open {path}": _error(lambda p=path: _read(p)) for path in ("/proc/1/mem", "/proc/1/environ")}
    tried["io_uring"] = call(IO_URING_SETUP, 1, 0)
    tried["vsock"] = _error(lambda: socket.socket(AF_VSOCK, socket.SOCK_STREAM).close())
    tried["alg"] = _error(lambda: socket.socket(AF_ALG, socket.SOCK_SEQPACKET).close())
    tried["user namespace"] = call(UNSHARE.get(os.uname().machine, 97), CLONE_NEWUSER)
    tried["readable"] = [path for path in masked if _tells(path)]
    return tried


def _write(place: str) -> None:
    path = os.path.join(place, ".kernel-sandbox-probe")
    with open(path, "w"):
        os.unlink(path)


def _read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(1)


def _error(attempt: Any) -> int:
    try:
        attempt()
    except OSError as exc:
        return exc.errno or -1
    return 0


def _tells(path: str) -> bool:
    """Whether anything can be read there."""
    try:
        if os.path.isdir(path):
            return bool(os.listdir(path))
        with open(path, "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _in_child(work: Any) -> Any:
    """Return what `work` returns, run in a process of its own."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        told = file.read()
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # PID 1's own reaper was first
    return json.loads(told) if told else {}
