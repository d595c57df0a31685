"""Where systemd owns the tree of control groups: each sandbox in a scope of its own.

A process may not move between groups that it does not own, and systemd takes limits away from what it does not know.
So the user's manager, for root the machine's, is asked for a scope with the limits as its properties. `Delegate=yes`
keeps it from ending a scope in which something was killed for its memory. Sources: systemd-run(1), systemd.scope(5),
systemd.resource-control(5).
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.host import programs

MOUNT = Path("/sys/fs/cgroup")
SUFFIX = ".scope"
RUNNING = Path("/run/systemd/system")
"""There where systemd is the machine's manager (sd_booted(3))."""
PATIENCE = 5.0
"""Seconds in which a manager answers; it does within 20 ms."""
TRIAL = f"""
import json, os
path = next(line[3:].strip() for line in open("/proc/self/cgroup") if line.startswith("0::"))
place = "{MOUNT}" + path
print(json.dumps([place, open(place + "/cgroup.controllers").read().split(), os.listdir(place)]))
"""
"""Run in a scope: says where that is, and what can be limited in it."""


@dataclass(frozen=True, slots=True)
class Manager:
    """A systemd that makes scopes for this process."""

    program: str
    options: tuple[str, ...]
    slice: Path
    """The directory in which its scopes are."""
    controllers: frozenset[str]
    """What can be limited there."""
    files: frozenset[str]
    """What the directory of a scope has: not every kernel counts swap."""

    def directory(self, name: str) -> Path:
        """Return where the group of a scope is."""
        return self.slice / f"{name}{SUFFIX}"

    def command(self, name: str, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return the command that starts a scope and becomes in it what follows; `values` are those of its files."""
        properties = dict(_property(file, value) for file, value in values.items())
        return (*_scope(self.program, self.options), f"--unit={name}", *_given(properties), "--")


def manager() -> Manager | None:
    """Return the systemd that makes scopes for this process, if there is one."""
    return _manager(os.getuid(), runtime_directory())


def runtime_directory() -> str | None:
    """Return the directory in which this user's manager listens; None for root, and where there is none."""
    place = Path("/run/user", str(os.getuid()))
    return str(place) if os.getuid() != 0 and Path(place, "systemd").is_dir() else None


def environment() -> dict[str, str]:
    """Return the variables by which systemd-run finds the user's manager."""
    directory = runtime_directory()
    return {"XDG_RUNTIME_DIR": directory} if directory else {}


@functools.lru_cache(maxsize=4)
def _manager(user: int, listening: str | None) -> Manager | None:
    """Try it out, once per process: a scope whose only command says where it is."""
    program = programs.find("systemd-run")
    if program is None or not RUNNING.is_dir() or (user != 0 and listening is None):
        return None
    options = () if user == 0 else ("--user",)
    command = [*_scope(program, options), "--", sys.executable, "-I", "-S", "-c", TRIAL]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
            env=programs.environment(**environment()),
        )
        place, controllers, files = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Manager(program, options, Path(place).parent, frozenset(controllers), frozenset(files))


def _property(file: str, value: str) -> tuple[str, str]:
    """Return a limit in systemd's words, which knows a period of 100 ms where none is named."""
    if file == "cpu.max":
        quota, period = value.split()
        return "CPUQuota", f"{int(quota) / int(period):.2%}"
    return {"memory.max": "MemoryMax", "memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax"}[file], value


def _scope(program: str, options: tuple[str, ...]) -> tuple[str, ...]:
    return (program, *options, "--scope", "--quiet", "--collect", *_given({"Delegate": "yes"}))


def _given(properties: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"--property={name}={value}" for name, value in properties.items())
