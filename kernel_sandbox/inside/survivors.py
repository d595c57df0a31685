"""Which processes of the sandbox can still run code, and which still hold something. Part of PID 1, for its restarts.

A process that has been killed is there until its memory has been given back, 10 ms for each 100 MB, and its files are
closed after that. A kernel that ended by itself has closed its own before: the next one does not wait for its memory,
where both have room.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

PF_EXITING = 0x4
"""Of a thread that never runs user code again (linux/sched.h), in the flags of its /proc/.../stat."""
STATE, FLAGS = 0, 6
"""Where they are behind the name (proc(5)). A zombie (Z) has neither memory nor files."""
ROOM = 64 * 1024 * 1024
"""Bytes that a kernel needs at most until it is ready."""
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def processes() -> list[int]:
    """The ids of all processes in the sandbox."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def running(known: set[int]) -> list[int] | None:
    """Return the processes beside the `known` that may run code.

    None where a process has begun meanwhile and no list shows it: whoever forks and ends for ever gets past each look.
    """
    newest = _newest()
    others = _seen(known)
    return others if others or _newest() == newest else None


def holding(known: set[int], closed: set[int]) -> bool:
    """Return whether a process that runs nothing more has files open, or memory that is short.

    Those that are `closed` have closed their files themselves.
    """
    others = {pid for pid in processes() if pid not in known}
    return any(_has(pid, _is_there) for pid in (others - closed if has_room() else others))


def _seen(known: set[int]) -> list[int]:
    others = [pid for pid in processes() if pid not in known]
    # Twice: a process may have forked another behind the back of the first look, and ended.
    if not others or any(_has(pid, _may_run) for pid in others):
        return others
    return [pid for pid in processes() if pid not in known and _has(pid, _may_run)]


def _newest() -> str:
    """The id that a process or a thread of the sandbox got last (proc(5), of /proc/loadavg): the reader's own count."""
    try:
        with open("/proc/loadavg") as file:
            return file.read().rpartition(" ")[2]
    except OSError:
        return ""


def _may_run(stat: list[str]) -> bool:
    return not int(stat[FLAGS]) & PF_EXITING


def _is_there(stat: list[str]) -> bool:
    return stat[STATE] not in "ZX"


def _has(pid: int, of_this_kind: Callable[[list[str]], bool]) -> bool:
    """Return whether a process has a thread of a kind, by what is behind its name in /proc/.../stat."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat") as file:
                if of_this_kind(file.read().rpartition(")")[2].split()):
                    return True
    except (FileNotFoundError, ProcessLookupError):
        return os.path.exists(f"/proc/{pid}")  # a thread may have gone alone
    except (OSError, ValueError, IndexError):
        return True
    return False


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
