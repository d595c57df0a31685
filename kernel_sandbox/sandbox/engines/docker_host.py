"""What Docker has no option for, and root on the engine's machine can add to a container that has just started.

The buffers of TCP sockets (control groups v1 count them apart; Docker 20.10 ignores its own setting) and the number of
terminals, which are the machine's. What cannot be added, the look from inside finds missing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from kernel_sandbox.host import programs
from kernel_sandbox.sandbox.engines import control_groups
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup
from kernel_sandbox.spec.values import TERMINALS, Limits

PATIENCE = 10.0
REMOUNT = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
held = os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY)
options = sys.argv[2].encode()
MS_NOSUID, MS_NOEXEC, MS_REMOUNT, CLONE_NEWNS = 2, 8, 32, 0x20000
failed = libc.setns(held, CLONE_NEWNS) or libc.mount(
    b"devpts", b"/dev/pts", b"devpts", ctypes.c_ulong(MS_REMOUNT | MS_NOSUID | MS_NOEXEC), options)
sys.exit(1 if failed else 0)
"""
"""In a process of its own, for a process with threads cannot change its mounts (setns(2))."""


def bound(pid: int, container: str, limits: Limits) -> ControlGroup:
    """Add both to the container whose first process has this id here, before any cell runs in it. Never raises.

    `container` is its id: a process that has nothing to do with it (an engine on another machine) is left alone.
    Returns the container's group, empty where that is not to be seen from here.
    """
    group = ControlGroup()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if pid <= 1 or container not in Path(f"/proc/{pid}/cgroup").read_text():
            return group
        group = control_groups.of_process(pid, limits)
        group.renew()
        if os.getuid() != 0:
            return group
        terminals = f"newinstance,ptmxmode=0666,mode=0620,gid=5,max={TERMINALS}"
        command = [sys.executable, "-I", "-S", "-c", REMOUNT, str(pid), terminals]
        environment = programs.environment()
        subprocess.run(
            command, check=False, timeout=PATIENCE, env=environment, stdin=subprocess.DEVNULL, capture_output=True
        )
    return group
