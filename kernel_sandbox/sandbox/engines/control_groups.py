"""One control group per sandbox: made, for engines that have no daemon for it, and read again while it lives.

cgroup v1 hierarchies and the v2 tree, as far as this process may write there; where systemd owns the tree, a scope of
its own (scopes.py). A sandbox's first process enters the group before it becomes the sandbox, so that all that it ever
starts is counted. Sources: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.sandbox.engines import scopes
from kernel_sandbox.spec.values import Limits

UNLIMITED = {
    "memory": "no limit for the memory as a whole",
    "pids": "no limit for the number of processes",
    "cpu": "no limit for processor time",
    "sockets": "no limit for the buffers of TCP sockets",
}
"""What is not held where a limit is missing, whether seen from inside or on the host."""

MOUNT = scopes.MOUNT
PERIOD = 100_000
"""Microseconds over which processor time is given out."""
SOCKETS = "memory.kmem.tcp.limit_in_bytes"
"""Version 2 counts the buffers of sockets as memory; version 1 apart, and not at all without this limit."""
SWAP = "memory.swap.max"
LEAST_SWAP = mmap.PAGESIZE
"""Bytes of swap that a container gets from systemd: none at all is not told to systemd by runc, so that its next reload
would lift the limit."""
CONTROLLERS = ("memory", "pids", "cpu")
SCOPE_ENDS_WITHIN = 2.0
"""Seconds in which systemd removes a scope that is empty."""
CLEARED_WITHIN = 1.0
"""Seconds in which killed processes have left a group."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One limit of a group: what its file says while it holds."""

    limit: str
    """Which of UNLIMITED."""
    file: Path
    value: str

    def holds(self) -> bool:
        """Whether the file says no more than the limit. A group that has ended needs none."""
        try:
            return _amount(self.file.read_text()) <= _amount(self.value)
        except (OSError, ValueError):
            return not self.file.parent.exists()

    def put_back(self) -> bool:
        """Write the limit once more; return whether it holds then."""
        with contextlib.suppress(OSError):
            if not self.file.exists():  # who owns the tree took the controller away (cgroup v2)
                (self.file.parent.parent / "cgroup.subtree_control").write_text(f"+{self.limit}")
            self.file.write_text(self.value)
        return self.holds()


def _amount(text: str) -> float:
    """Return what a limit allows: bytes, processes, or processors as a quota of a period."""
    first, *period = text.split()
    if first in ("max", "-1"):
        return math.inf
    return int(first) / int(period[0] if period else 1)


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """The directories of one sandbox's group, and what is held in them."""

    directories: tuple[Path, ...] = ()
    held: frozenset[str] = frozenset()
    """Which of CONTROLLERS."""
    settings: tuple[Setting, ...] = ()
    memory: Path | None = None
    """Where the sandbox's memory events are, for its PID 1 to read."""
    unified: bool = False
    entering: tuple[str, ...] = ()
    """A command that puts its own process into the group, and becomes the command that follows it."""

    @property
    def weakened(self) -> tuple[str, ...]:
        """What is not held and cannot be seen from inside, in words."""
        return () if "cpu" in self.held else (UNLIMITED["cpu"],)

    def renew(self) -> tuple[list[str], list[str]]:
        """Read the limits again and put back what is gone; return those that were and those that could not be.

        In words. A manager of the whole tree (systemd, at a reload) and whoever administers the machine can take a
        limit from a group that lives.
        """
        gone = [setting for setting in self.settings if not setting.holds()]
        lost = {UNLIMITED[setting.limit] for setting in gone if not setting.put_back()}
        mended = {UNLIMITED[setting.limit] for setting in gone} - lost
        return sorted(words.removeprefix("no ") for words in mended), sorted(lost)


def places(name: str) -> tuple[Path, ...]:
    """Where `create` may make a group of this name: known before there is one."""
    if not _is_unified():
        return tuple(MOUNT / controller / path.lstrip("/") / name for controller, path in _own_paths().items())
    if manager := scopes.manager():
        return (manager.directory(name),)
    own = MOUNT / _own_unified().lstrip("/")
    return tuple(parent / name for parent in (own, own.parent, MOUNT) if parent.is_relative_to(MOUNT))


def create(name: str, limits: Limits) -> ControlGroup:
    """Make a group with these limits; what this process may not make is left out, and is missing in `held`.

    A scope begins only with the command that enters it.
    """
    if _is_unified():
        manager = scopes.manager()
        return _in_scope(manager, name, limits) if manager else _create_unified(name, limits)
    directories: list[Path] = []
    settings: list[Setting] = []
    held, memory = set(), None
    for controller, path in _own_paths().items():
        directory = MOUNT / controller / path.lstrip("/") / name
        with contextlib.suppress(OSError):
            directory.mkdir()
            directories.append(directory)
            wanted = _settings_v1(controller, directory, limits)
            for setting in wanted:
                setting.file.write_text(setting.value)
            held.add(controller)
            settings += wanted
            memory = directory if controller == "memory" else memory
    entering = _entering(directories)
    return ControlGroup(tuple(directories), frozenset(held), tuple(settings), memory, entering=entering)


def hasten_entry(group: ControlGroup) -> None:
    """Have Linux ready for a process that enters a group soon, while this process does something else.

    A move between groups waits until each processor has passed a quiet moment, 10 ms here; one that follows at once
    need not wait. So this process is moved to where it is already.
    """

    def move() -> None:
        with contextlib.suppress(OSError):
            (group.directories[0].parent / "cgroup.procs").write_text(str(os.getpid()))

    if group.directories and not group.unified:  # there the directory above is not always this process's own
        with contextlib.suppress(RuntimeError):  # no thread is to be had: then it takes its time
            threading.Thread(target=move, name="kernel-sandbox-control-group", daemon=True).start()


def of_process(pid: int, limits: Limits) -> ControlGroup:
    """Return the group that somebody else (a container engine) made for a process. Raises OSError."""
    if _is_unified():
        directory = MOUNT / _unified_path(f"/proc/{pid}/cgroup").lstrip("/")
        settings = _settings_unified(directory, limits, str(LEAST_SWAP) if (directory / SWAP).exists() else None)
        return ControlGroup(settings=settings, unified=True)
    settings_v1: list[Setting] = []
    for controller, path in _own_paths(f"/proc/{pid}/cgroup").items():
        settings_v1 += _settings_v1(controller, MOUNT / controller / path.lstrip("/"), limits)
    return ControlGroup(settings=tuple(settings_v1))


def _is_unified() -> bool:
    return (MOUNT / "cgroup.controllers").exists()


def _entering(directories: list[Path]) -> tuple[str, ...]:
    if not directories:
        return ()
    steps = " && ".join(f'echo $$ > "{path}/cgroup.procs"' for path in directories)
    return ("/bin/sh", "-c", f'{steps} && exec "$@"', "sh")


def _in_scope(manager: scopes.Manager, name: str, limits: Limits) -> ControlGroup:
    directory = manager.directory(name)
    settings = _settings_unified(directory, limits, "0" if SWAP in manager.files else None)
    return ControlGroup(
        (directory,),
        manager.controllers & set(CONTROLLERS),
        settings,
        directory if "memory" in manager.controllers else None,
        unified=True,
        entering=manager.command(name, {setting.file.name: setting.value for setting in settings}),
    )


def _own_paths(told: str = "/proc/self/cgroup") -> dict[str, str]:
    """Where a process is in each v1 hierarchy (cgroups(7), /proc/pid/cgroup)."""
    paths = {}
    for line in Path(told).read_text().splitlines():
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
    return [("cpu.cfs_quota_us", _quota(limits))]  # of a period that is PERIOD in every new group


def _settings_v1(controller: str, directory: Path, limits: Limits) -> tuple[Setting, ...]:
    values = _values_v1(controller, limits)
    return tuple(
        Setting("sockets" if file == SOCKETS else controller, directory / file, str(value)) for file, value in values
    )


def _quota(limits: Limits) -> int:
    """Return microseconds of each PERIOD; systemd reads hundredths of a percent."""
    return max(1000, int(min(limits.cpus, os.cpu_count() or limits.cpus) * PERIOD) // 10 * 10)


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
            settings = _settings_unified(directory, limits, "0" if (directory / SWAP).exists() else None)
            try:
                for setting in settings:
                    setting.file.write_text(setting.value)
            except OSError:
                directory.rmdir()
                raise
            held = frozenset(CONTROLLERS)
            return ControlGroup((directory,), held, settings, directory, unified=True, entering=_entering([directory]))
    return ControlGroup(unified=True)


def _own_unified() -> str:
    return _unified_path("/proc/self/cgroup")


def _unified_path(told: str) -> str:
    lines = Path(told).read_text().splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "/")


def _values_unified(limits: Limits) -> list[tuple[str, str]]:
    cpu = f"{_quota(limits)} {PERIOD}"
    return [("memory.max", str(limits.memory_bytes)), ("pids.max", str(limits.pids)), ("cpu.max", cpu)]


def _settings_unified(directory: Path, limits: Limits, swap: str | None) -> tuple[Setting, ...]:
    """Return the settings; `swap` is None where this kernel counts none."""
    values = _values_unified(limits) + ([(SWAP, swap)] if swap is not None else [])
    return tuple(Setting(file.partition(".")[0], directory / file, value) for file, value in values)


def remove(directories: tuple[Path, ...]) -> None:
    """Remove a group and end what is still in it; the kernel lets go of processes a moment later."""
    for directory in directories:
        if directory.suffix == scopes.SUFFIX:
            _wait_until_gone(directory)
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


def _wait_until_gone(scope: Path) -> None:
    """Wait until systemd has removed its directory: a scope that another removed would count as one that lives."""
    give_up = time.monotonic() + SCOPE_ENDS_WITHIN
    while scope.exists() and time.monotonic() < give_up:
        _kill(scope)
        time.sleep(0.01)


def clear(group: ControlGroup) -> None:
    """Kill what is in a group that stays, and wait until it is gone."""
    give_up = time.monotonic() + CLEARED_WITHIN
    for directory in group.directories:
        with contextlib.suppress(OSError):
            while (directory / "cgroup.procs").read_text() and time.monotonic() < give_up:
                _kill(directory)
                time.sleep(0.002)


def _kill(directory: Path) -> None:
    """Send SIGKILL to what is in a group: a bubblewrap whose parent ended at the wrong moment waits for it for ever."""
    with contextlib.suppress(OSError):
        for pid in (directory / "cgroup.procs").read_text().split():
            if pid != "0":  # in a pid namespace that is not seen from here; for kill(2) it would be this one's group
                os.kill(int(pid), signal.SIGKILL)
