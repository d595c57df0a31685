"""What the host's kernel holds and does for a sandbox, seen from outside: its first process, pages, buffers, limits."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines.docker_client import connect

CACHESTAT = 451
PAGE = 4096
MEGABYTE = 1024**2


def first_process(session: Session) -> int:
    """Return the sandbox's PID 1 by the number that it has on the host."""
    sandbox = session._session._kernel.live().sandbox
    return int(getattr(sandbox, "first_pid", 0) or connect().api.inspect_container(sandbox.id)["State"]["Pid"])


def group(pid: int, controller: str) -> Path:
    """Return the directory of a process's control group for a controller."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        version_1 = controller in controllers.split(",")
        place = Path("/sys/fs/cgroup", controller if version_1 else "", path.lstrip("/"))
        if (version_1 or not controllers) and (place / "cgroup.procs").exists() and place != Path("/sys/fs/cgroup"):
            return place
    raise AssertionError(f"the sandbox has no control group for {controller}")


def pages_of(path: Path) -> tuple[int, int] | None:
    """Count the pages of a file that are in memory, and those of them that are not on disk yet (cachestat(2)).

    None where the kernel does not tell (before 6.5).
    """
    libc = ctypes.CDLL(None)
    told = ctypes.create_string_buffer(5 * 8)
    with path.open("rb") as file:
        if libc.syscall(CACHESTAT, file.fileno(), ctypes.create_string_buffer(16), told, 0) != 0:
            return None
    cached, dirty, *_ = struct.unpack("=5Q", told.raw)
    return cached, dirty


def is_written_by(order: Callable[[], object], directory: Path) -> bool:
    """Whether what was just written to a file is on the disk after `order`, each of five times.

    Once says nothing: other programs of the machine have its disks written, too.
    """
    for number in range(5):
        file = directory / f"written-{number}"  # ext4 writes at once what takes the place of older contents
        file.write_bytes(b"x" * 8 * MEGABYTE)
        order()
        pages = pages_of(file)
        if pages is None or pages[1] > 0:
            return False
    return True


def write_out(file: BinaryIO) -> None:
    """Put on the disk what was written: pages that are not there cannot be dropped."""
    file.flush()
    os.fsync(file.fileno())


def socket_buffers(protocol: str) -> int:
    """Return the bytes that all sockets of the machine hold of a protocol's memory (/proc/net/sockstat in proc(5))."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"{protocol}:":
            return int(fields[fields.index("mem") + 1]) * PAGE
    raise AssertionError(f"no {protocol} in /proc/net/sockstat")


def memory(name: str) -> int:
    """Return a figure of /proc/meminfo, in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def standing(pid: int) -> dict[str, object]:
    """Return what a process may take and when it runs: limits, priority, policy and processors."""
    return {
        "limits": Path(f"/proc/{pid}/limits").read_text(),
        "priority": os.getpriority(os.PRIO_PROCESS, pid),
        "policy": os.sched_getscheduler(pid),
        "processors": sorted(os.sched_getaffinity(pid)),
        "place among those to be killed": Path(f"/proc/{pid}/oom_score_adj").read_text(),
    }
