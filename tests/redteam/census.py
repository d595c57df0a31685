"""What there is on the host: of sessions, and of what this process holds."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox import EngineError
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.host.run_directory import Owner, base_directory
from kernel_sandbox.sandbox.engines import NAMES, get_engine
from kernel_sandbox.sandbox.engines.base import SandboxInfo

CGROUPS = Path("/sys/fs/cgroup")
SLACK = {"descriptors": 40, "threads": 24}
"""What this process keeps for good: its event loop, its connections to the engine, its pool of worker threads."""
PATIENCE = 3.0


@dataclass(frozen=True)
class Census:
    """What this process holds, and what it owns on the host."""

    counts: dict[str, int]
    owned: frozenset[str]


def take() -> Census:
    """Look now: other tests in this process may have sessions of their own open."""
    return Census(_counts(), frozenset(_of_owners({os.getpid()})))


def _counts() -> dict[str, int]:
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}


def left(before: Census, session_ids: Iterable[str], owners: Iterable[int] = ()) -> list[str]:
    """Name what is there of these sessions and of these host processes', and what this process holds too much of."""
    wanted, processes = set(session_ids), {os.getpid(), *owners}
    deadline = time.monotonic() + PATIENCE
    while (found := _found(before, wanted, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)  # the host's kernel lets go of processes and control groups a moment after their end
    more = {name: count - before.counts[name] for name, count in _counts().items()}
    return found + [f"{count} {name}" for name, count in more.items() if count > SLACK[name]]


def _found(before: Census, session_ids: set[str], owners: set[int]) -> list[str]:
    return [*_of_sessions(session_ids), *(name for name in _of_owners(owners) if name not in before.owned)]


def running(engine: str, session_ids: Iterable[str]) -> list[str]:
    """Name the sandboxes and processes of sessions."""
    wanted = list(session_ids)
    found = [f"sandbox {info.id}" for info in _sandboxes(engine) if info.session_id in wanted]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            found += [f"process {entry.name}"] if any(word.encode() in line for word in wanted) else []
    return found


def _of_sessions(session_ids: set[str]) -> list[str]:
    found = [name for engine in NAMES for name in running(engine, session_ids)]
    groups = (Path(folder) for folder, _, _ in os.walk(CGROUPS))
    found += [f"control group {path}" for path in groups if any(word in path.name for word in session_ids)]
    return found


def _of_owners(processes: set[int]) -> list[str]:
    """Name what host processes own; others run beside them, and may have got the id of one that has ended."""
    owned = [(f"sandbox {info.id}", info.owner_pid, info.owner_gone) for name in NAMES for info in _sandboxes(name)]
    for path in base_directory().glob("*/owner.json"):
        with contextlib.suppress(OSError, ValueError):  # another process's, that goes at this moment
            owner = Owner(**json.loads(path.read_text()))
            owned.append((f"run directory {path.parent}", owner.pid, owner.is_gone))
    return [name for name, pid, gone in owned if pid == os.getpid() or (pid in processes and gone)]


def _sandboxes(engine: str) -> list[SandboxInfo]:
    try:
        return portal().call(get_engine(engine).sandboxes)
    except EngineError:
        return []
