"""What a process may take and when it runs: its limits, its priority, its scheduling policy.

Part of PID 1. The filter lets a cell set these for itself only; what PID 1 is given would outlive every restart.
"""

from __future__ import annotations

import ctypes
import os

IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
IOPRIO_WHO_PROCESS = 1
PRIORITY, POLICY = slice(15, 17), slice(37, 39)
"""Fields of /proc/pid/stat behind the name: priority, nice; rt_priority, policy (proc(5))."""


def of(pid: int) -> tuple[str, ...]:
    """Return all of it as texts to compare; nothing for a process that has gone."""
    try:
        with open(f"/proc/{pid}/limits") as limits, open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
            return limits.read(), *fields[PRIORITY], *fields[POLICY], _disk_priority(pid)
    except OSError:
        return ()


def _disk_priority(pid: int) -> str:
    number = IOPRIO_GET.get(os.uname().machine)
    return str(ctypes.CDLL(None).syscall(number, IOPRIO_WHO_PROCESS, pid)) if number else ""
