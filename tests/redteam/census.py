"""What there is on the host: of sessions, and of what this process holds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from kernel_sandbox import EngineError
from kernel_sandbox.engines import NAMES, get_engine
from kernel_sandbox.reactor import portal
from kernel_sandbox.run_directory import base_directory

CGROUPS = Path("/sys/fs/cgroup")
SLACK = {"descriptors": 40, "threads": 24}
"""What this process keeps for good: its event loop, its connections to the engine, its pool of worker threads."""
PATIENCE = 3.0


def take() -> dict[str, int]:
    """Count what this process holds."""
    return {"descriptors": len(os.listdir("/proc/self/fd")), "threads": len(os.listdir("/proc/self/task"))}


def left(before: dict[str, int], session_ids: Iterable[str]) -> list[str]:
    """Name what is there of these sessions, and what this process holds too much of."""
    deadline = time.monotonic() + PATIENCE
    while (found := _of_sessions(set(session_ids))) and time.monotonic() < deadline:
        time.sleep(0.05)  # the host's kernel lets go of processes and control groups a moment after their end
    more = {name: count - before[name] for name, count in take().items()}
    return found + [f"{count} {name}" for name, count in more.items() if count > SLACK[name]]


def running(engine: str, session_ids: Iterable[str]) -> list[str]:
    """Name the sandboxes and processes of sessions."""
    wanted = list(session_ids)
    try:
        sandboxes = portal().call(get_engine(engine).sandboxes)
    except EngineError:
        sandboxes = []
    found = [f"sandbox {info.id}" for info in sandboxes if info.session_id in wanted]
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
    for owner in base_directory().glob("*/owner.json"):
        if f'"pid": {os.getpid()},' in owner.read_text():
            found.append(f"run directory {owner.parent}")
    return found
