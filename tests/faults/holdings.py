"""What this process, and its sessions, open and closed, have of the machine: numbers that must not grow."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel_sandbox.host.reactor import portal
from tests.faults.census import containers_of, control_groups, orphaned_mounts, own_descriptors, processes


def holdings(sessions: set[str], place: Path, *, docker: bool) -> dict[str, float]:
    """Look at this process and at what these sessions have; `place` has their directories."""
    found: dict[str, float] = {"descriptors": own_descriptors()}
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what is free, up to a plateau that says nothing of a leak
    rollup = Path("/proc/self/smaps_rollup").read_text()
    found["memory MB"] = int(rollup.partition("\nPss:")[2].split()[0]) / 1024
    found["threads"] = sum("worker thread" not in thread.name for thread in threading.enumerate())
    found["children"] = sum(len(path.read_text().split()) for path in Path("/proc/self/task").glob("*/children"))
    found["tasks"] = portal().call(lambda: len(asyncio.all_tasks()))
    owned = containers_of(sessions) if docker else []
    found["containers"] = len(owned)
    found["control groups"] = len(control_groups([*sessions, *owned]))
    found["mounts left"] = len(orphaned_mounts()) if docker else 0
    found["run directories"] = sum(1 for _ in place.glob("kernel-sandbox/*/owner.json"))
    return found


def left(sessions: set[str], place: Path, *, docker: bool) -> list[str]:
    """Name what is still there of closed sessions."""
    words = [*sessions, *(containers_of(sessions) if docker else [])]
    there = [f"process {pid}" for pid in processes(words)] + [f"control group {path}" for path in control_groups(words)]
    there += [f"container {one[:12]}" for one in words[len(sessions) :]]
    return there + [f"directory {one.parent}" for one in place.glob("kernel-sandbox/*/owner.json")]


@contextmanager
def private_place() -> Iterator[Path]:
    """Have the sessions' directories in one of their own, where nobody else's are counted."""
    before = os.environ.get("XDG_RUNTIME_DIR")
    # A short path: socket names have room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ks-", dir="/tmp") as place:
        os.environ["XDG_RUNTIME_DIR"] = place
        try:
            yield Path(place)
        finally:
            os.environ.pop("XDG_RUNTIME_DIR")
            if before is not None:
                os.environ["XDG_RUNTIME_DIR"] = before
