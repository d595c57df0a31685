"""The sandbox in which an environment's packages are unpacked, compiled and tried: nothing of theirs runs on the host.

It sees the environment's own root, what a step is given, and no network; it holds no capability. bubblewrap makes it,
which is at hand wherever such an environment is of use. `environment_builder` runs its steps here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host import programs

PYTHON = "/opt/venv/bin/python3"
_WALLS = """--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup-try --new-session --die-with-parent
--cap-drop ALL --clearenv"""
_DEVICES = ("null", "zero", "urandom")


def sealed(
    root: Path,
    command: list[str],
    *,
    writable: Mapping[str, Path] | None = None,
    readable: Mapping[str, Path] | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """Return a command line that runs a command within `root`, which it cannot write.

    `writable` and `readable` say what of the host is at which place in it, besides.
    """
    line = ["bwrap", *_WALLS.split(), "--ro-bind", str(root), "/", "--proc", "/proc", "--tmpfs", "/dev"]
    for device in _DEVICES:
        line += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    line += ["--tmpfs", "/dev/shm", "--tmpfs", "/tmp"]
    for option, given in (("--bind", writable), ("--ro-bind", readable)):
        for place, path in (given or {}).items():
            line += [option, str(path), place]
    for name, value in {"HOME": "/tmp", "LC_ALL": "C.UTF-8", **(variables or {})}.items():
        line += ["--setenv", name, value]
    return [*line, "--", *command]


def run(command: list[str], failed: str) -> None:
    """Run a command to its end. Raises EngineError with the last that it said."""
    try:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run(command, **pipes, env=programs.environment(), check=False)
    except FileNotFoundError as exc:
        raise EngineError(f"{failed}: there is no {command[0]} on this machine.") from exc
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise EngineError(f"{failed}:\n{said}")
