"""Whether this machine has what the sessions of a pool may take together. The pool logs it; doctor shows it.

Each session is held to its limits; what they come to is compared with what the host's kernel has for everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kernel_sandbox.spec.values import TERMINALS, Limits
from kernel_sandbox.text.amounts import format_size

ADVICE = {
    "memory": "fewer sessions, or a lower limit of memory",
    "processes": "fewer sessions, a lower limit of pids, or a higher kernel.pid_max and kernel.threads-max",
    "open files": "fewer sessions, lower limits of open_files or pids, or a higher fs.file-max",
    "terminals": "fewer sessions, or a higher kernel.pty.max",
}


def shortages(sessions: int, limits: Limits, proc: Path = Path("/proc")) -> Iterator[str]:
    """Return what so many sessions may take that the machine has not, a line each. None where it does not tell."""
    one = {
        "memory": limits.memory_bytes,
        "processes": limits.pids,
        "open files": limits.pids * limits.open_files,
        "terminals": TERMINALS,
    }
    there = _machine(proc)
    for what, each in one.items():
        if what in there and sessions * each > there[what]:
            shown = format_size if what == "memory" else "{:,.0f}".format
            yield (
                f"{what}: {sessions} sessions may take {shown(sessions * each)} together, and this machine has "
                f"{shown(there[what])}: {ADVICE[what]}"
            )


def _machine(proc: Path) -> dict[str, int]:
    """Read what the host's kernel has (proc(5)); of terminals, what it lets sandboxes have."""
    found: dict[str, int] = {}
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        found["memory"] = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
        settings = proc / "sys"
        found["processes"] = min(_number(settings / "kernel/pid_max"), _number(settings / "kernel/threads-max"))
        found["open files"] = _number(settings / "fs/file-max")
        found["terminals"] = _number(settings / "kernel/pty/max") - _number(settings / "kernel/pty/reserve")
    except (OSError, ValueError, StopIteration):
        pass  # another system than Linux: what is not known is not compared
    return found


def _number(path: Path) -> int:
    return int(path.read_text())
