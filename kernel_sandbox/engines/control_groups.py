"""One control group per sandbox, for engines that have no daemon to make them: memory, processors, processes.

cgroup v1 hierarchies and the v2 tree, as far as this process may write there. A sandbox's first process enters the
group before it becomes the sandbox, so that all that it ever starts is counted. Sources: the kernel's
Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.policy import Limits

MOUNT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds over which processor time is given out."""
SOCKETS = "memory.kmem.tcp.limit_in_bytes"
"""Version 2 counts the buffers of sockets as memory; version 1 apart, and not at all without this limit."""
CONTROLLERS = ("memory", "pids", "cpu")


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """The directories of one sandbox's group, and what is held in them."""

    directories: tuple[Path, ...] = ()
    held: frozenset[str] = frozenset()
    """Which of CONTROLLERS."""
    memory: Path | None = None
    """Where the sandbox's memory events are, for its PID 1 to read."""
    unified: bool = False

    @property
    def weakened(self) -> tuple[str, ...]:
        """What is not held and cannot be seen from inside, in words."""
        return () if "cpu" in self.held else ("no limit for processor time",)


def places(name: str) -> tuple[Path, ...]:
    """Where `create` may make a group of this name: known before there is one."""
    if not (MOUNT / "cgroup.controllers").exists():
        return tuple(MOUNT / controller / path.lstrip("/") / name for controller, path in _own_paths().items())
    own = MOUNT / _own_unified().lstrip("/")
    return tuple(parent / name for parent in (own, own.parent, MOUNT) if parent.is_relative_to(MOUNT))


def create(name: str, limits: Limits) -> ControlGroup:
    """Make a group with these limits; what this process may not make is left out, and is missing in `held`."""
    if (MOUNT / "cgroup.controllers").exists():
        return _create_unified(name, limits)
    directories, held, memory = [], set(), None
    for controller, path in _own_paths().items():
        directory = MOUNT / controller / path.lstrip("/") / name
        with contextlib.suppress(OSError):
            directory.mkdir()
            directories.append(directory)
            for file, value in _values_v1(controller, limits):
                (directory / file).write_text(str(value))
            held.add(controller)
            memory = directory if controller == "memory" else memory
    return ControlGroup(tuple(directories), frozenset(held), memory)


def _own_paths() -> dict[str, str]:
    """Where this process is in each v1 hierarchy (cgroups(7), /proc/pid/cgroup)."""
    paths = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in CONTROLLERS:
                paths[controller] = path
    return paths


def _values_v1(controller: str, limits: Limits) -> list[tuple[str, int]]:
    if controller == "memory":
        values = {"memory.limit_in_bytes": limits.memory_bytes, "memory.memsw.limit_in_bytes": limits.memory_bytes}
        values[SOCKETS] = limits.socket_bytes
        always = "memory.limit_in_bytes"
        return [(name, value) for name, value in values.items() if name == always or (MOUNT / "memory" / name).exists()]
    if controller == "pids":
        return [("pids.max", limits.pids)]
    return [("cpu.cfs_period_us", PERIOD), ("cpu.cfs_quota_us", _quota(limits))]


def memory_group(pid: int) -> Path | None:
    """Return the v1 memory group of a process, or None where it has none of its own. Raises OSError."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") and path != "/":
            return MOUNT / "memory" / path.lstrip("/")
    return None


def limit_sockets(group: Path, limits: Limits) -> None:
    """Bound the buffers of TCP sockets in a v1 memory group: of those that are made from now on. Raises OSError."""
    (group / SOCKETS).write_text(str(limits.socket_bytes))


def _quota(limits: Limits) -> int:
    return max(1000, int(min(limits.cpus, os.cpu_count() or limits.cpus) * PERIOD))


def _create_unified(name: str, limits: Limits) -> ControlGroup:
    """Make a group in the v2 tree, beside or above this process's own, where controllers may be handed down."""
    own = MOUNT / _own_unified().lstrip("/")
    for parent in (own, own.parent, MOUNT):
        if not parent.is_relative_to(MOUNT):
            continue
        with contextlib.suppress(OSError):
            wanted = " ".join(f"+{controller}" for controller in CONTROLLERS)
            (parent / "cgroup.subtree_control").write_text(wanted)
            directory = parent / name
            directory.mkdir()
            try:
                for file, value in _values_unified(limits):
                    (directory / file).write_text(value)
                swap = directory / "memory.swap.max"
                if swap.exists():
                    swap.write_text("0")
            except OSError:
                directory.rmdir()
                raise
            return ControlGroup((directory,), frozenset(CONTROLLERS), directory, unified=True)
    return ControlGroup(unified=True)


def _own_unified() -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "/")


def _values_unified(limits: Limits) -> list[tuple[str, str]]:
    cpu = f"{_quota(limits)} {PERIOD}"
    return [("memory.max", str(limits.memory_bytes)), ("pids.max", str(limits.pids)), ("cpu.max", cpu)]


def remove(directories: tuple[Path, ...]) -> None:
    """Remove a group and end what is still in it; the kernel lets go of processes a moment later."""
    for directory in directories:
        for _ in range(100):
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                _kill(directory)
                time.sleep(0.01)
                continue
            break


def _kill(directory: Path) -> None:
    """Kill what is in a group: a bubblewrap whose parent ended at the wrong moment waits for it for ever."""
    with contextlib.suppress(OSError):
        for pid in (directory / "cgroup.procs").read_text().split():
            if pid != "0":  # in a pid namespace that is not seen from here; for kill(2) it would be this one's group
                os.kill(int(pid), signal.SIGKILL)
