"""Which processes of the sandbox can still run code. Part of PID 1, which leaves none at a restart.

A process that has been killed is there until its memory has been given back, 10 ms for each 100 MB. It runs nothing
more by then, and the next kernel does not wait for it where both have room.
"""

from __future__ import annotations

import os
import signal

PF_EXITING = 0x4
"""Of a thread that never runs user code again (linux/sched.h), in the flags of its /proc/.../stat."""
FLAGS = 6
"""Where they are behind the name (proc(5))."""
ROOM = 64 * 1024 * 1024
"""Bytes that a kernel needs at most until it is ready."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def processes() -> list[int]:
    """The ids of all processes in the sandbox."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def running(known: set[int]) -> list[int] | None:
    """Return the processes beside the `known` that may run code or, where memory is short, hold some.

    None where a process has begun meanwhile and no list shows it: whoever forks and ends for ever gets past each look.
    """
    newest = _newest()
    others = _seen(known)
    return others if others or _newest() == newest else None


def _seen(known: set[int]) -> list[int]:
    others = [pid for pid in processes() if pid not in known]
    if not others or not has_room():
        return others
    # Twice: a process may have forked another behind the back of the first look, and ended.
    if any(not _has_ended(pid) for pid in others):
        return others
    return [pid for pid in processes() if pid not in known and not _has_ended(pid)]


def _newest() -> str:
    """The id that a process or a thread of the sandbox got last (proc(5), of /proc/loadavg): the reader's own count."""
    try:
        with open("/proc/loadavg") as file:
            return file.read().rpartition(" ")[2]
    except OSError:
        return ""


def _has_ended(pid: int) -> bool:
    """Return whether no thread of a process ever runs its code again."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat") as file:
                flags = int(file.read().rpartition(")")[2].split()[FLAGS])
            if not flags & PF_EXITING:
                return False
    except FileNotFoundError:
        return not os.path.exists(f"/proc/{pid}")  # a thread may have gone alone
    except (OSError, ValueError, IndexError):
        return False
    return True


def has_room() -> bool:
    """Return whether a kernel can start beside what is there, as far as the sandbox sees its own control group."""
    limit, used = (_number(paths) for paths in (LIMITS, USED))
    return limit is None or used is None or limit - used >= ROOM


def memory_used() -> int | None:
    """Bytes that count against the memory limit, as far as the sandbox can see its own control group."""
    return _number(USED)


def _number(paths: tuple[str, str]) -> int | None:
    for path in paths:
        try:
            with open(path) as file:
                return int(file.read())
        except (OSError, ValueError):
            continue
    return None


def kill_everything() -> None:
    """Kill every other process of the sandbox in one step."""
    try:
        os.kill(-1, signal.SIGKILL)
    except OSError:
        pass  # nobody left
