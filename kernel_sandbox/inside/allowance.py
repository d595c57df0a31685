"""What a process may take, when it runs and when it is killed: its limits, its priority, its scheduling policy.

Part of PID 1. The filter lets a cell set these for itself only; what PID 1 is given would outlive every restart.
"""

from __future__ import annotations

import ctypes
import os

IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
IOPRIO_WHO_PROCESS = 1
FILES = ("oom_score_adj", "autogroup", "coredump_filter")
"""Of /proc/pid: where the sandbox's user is the user namespace's root, a cell may write them for PID 1."""
PRIORITY, POLICY = slice(15, 17), slice(37, 39)
"""Fields of /proc/pid/stat behind the name: priority, nice; rt_priority, policy (proc(5))."""


def of(pid: int) -> tuple[str, ...]:
    """Return all of it as texts to compare; nothing for a process that has gone."""
    try:
        with open(f"/proc/{pid}/limits") as limits, open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
            held = [limits.read(), *fields[PRIORITY], *fields[POLICY], _disk_priority(pid)]
        return *held, *(_read(f"/proc/{pid}/{name}") for name in FILES)
    except OSError:
        return ()


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""  # not every kernel has it


def _disk_priority(pid: int) -> str:
    number = IOPRIO_GET.get(os.uname().machine)
    return str(ctypes.CDLL(None).syscall(number, IOPRIO_WHO_PROCESS, pid)) if number else ""
