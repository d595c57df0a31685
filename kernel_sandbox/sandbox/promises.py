"""Does a sandbox keep its promises on this host? Judged from what its PID 1 sees, before the first kernel runs. Pure.

Engines fail open in places: one without seccomp starts a container all the same. What breaks a wall ends the session
before a cell runs (fail closed); a limit that cannot be held here is listed as weakened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kernel_sandbox.sandbox.engines.control_groups import UNLIMITED
from kernel_sandbox.spec.values import TERMINALS, SandboxSpec
from kernel_sandbox.text.amounts import format_size

EPERM, EACCES, EROFS, ENOSYS = 1, 13, 30, 38
NO_CAPABILITIES = "0" * 16
TMPFS_FLAGS = {"nosuid", "nodev", "noexec"}


@dataclass(frozen=True, slots=True)
class Promise:
    """One that was looked at."""

    name: str
    kept: bool
    wall: bool
    """Whether hostile code gets out, or at the host, without it; the others are limits."""
    detail: str = ""
    """What was found where it is not kept."""


def judge(facts: Mapping[str, Any], spec: SandboxSpec) -> list[Promise]:
    """Compare what PID 1 sees with what `spec` promises."""
    return [*_walls(facts), *_limits(facts, spec)]


def _walls(facts: Mapping[str, Any]) -> Iterator[Promise]:
    status, tried = facts["status"], facts["attempts"]
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    held = [name for name in names if status.get(name) != NO_CAPABILITIES]
    yield Promise("no capabilities", not held, True, f"{', '.join(held)} is not empty")
    yield Promise("no new privileges", status.get("NoNewPrivs") == "1", True, "NoNewPrivs is not set")
    yield Promise("system calls filtered", status.get("Seccomp") == "2", True, "no seccomp filter is active")
    yield Promise("not root", set(status.get("Uid", "0").split()) & {"0"} == set(), True, "it runs as user 0")
    others = [name for name in facts["interfaces"] if name != "lo"]
    yield Promise("no network", not others, True, f"there are interfaces: {', '.join(others)}")
    written = [name for name, error in tried.items() if name.startswith("write ") and error not in (EROFS, EACCES)]
    yield Promise("read-only root", not written, True, f"possible: {', '.join(written)}")
    opened = [name for name, error in tried.items() if name.startswith("open ") and error == 0]
    yield Promise("PID 1 opaque", not opened, True, f"possible: {', '.join(opened)}")
    for name in ("io_uring", "vsock", "alg", "user namespace"):
        yield Promise(f"{name} refused", tried.get(name) in (EPERM, EACCES, ENOSYS), True, f"{name} can be used")


def _limits(facts: Mapping[str, Any], spec: SandboxSpec) -> Iterator[Promise]:
    limits = spec.limits
    for place, size in limits.tmpfs_sizes.items():
        found = facts["places"][place]
        yield Promise(f"size of {place}", found["size"] <= size + 4096, True, f"it is {format_size(found['size'])}")
        inodes = found["inodes"]
        yield Promise(f"files in {place}", 0 < inodes <= limits.inodes, False, f"{place} has no limit of files")
        missing = TMPFS_FLAGS - set(found["flags"])
        yield Promise(f"no programs in {place}", not missing, False, f"{place} lacks {', '.join(sorted(missing))}")
    memory = facts["memory"]
    yield Promise("memory", memory is not None and memory <= limits.memory_bytes, False, UNLIMITED["memory"])
    pids = [number for number in (facts["pids"], facts["processes"]) if number is not None and number >= 0]
    yield Promise("processes", bool(pids) and min(pids) <= limits.pids, False, UNLIMITED["pids"])
    sockets, terminals = facts["sockets"], facts["terminals"]
    bounded = sockets is None or sockets <= limits.socket_bytes
    yield Promise("buffers of sockets", bounded, False, UNLIMITED["sockets"])
    few = terminals is not None and terminals <= TERMINALS
    yield Promise("terminals", few, False, "one sandbox can take all pseudo-terminals of the machine")
    readable = facts["attempts"].get("readable", [])
    yield Promise("the host's facts masked", not readable, False, f"readable: {', '.join(readable[:8])}")
