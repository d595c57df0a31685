"""A limit that was reached, and what raises it, in the words of the door at which the session was opened. Pure."""

from __future__ import annotations

import signal

from kernel_sandbox.spec.values import PLACES, SHARES, SandboxSpec
from kernel_sandbox.text.amounts import format_size

_PARTS = {4: "a quarter", 8: "an eighth"}


def raised_by(limit: str, spec: SandboxSpec) -> str:
    """Return what raises one of `Limits`, as the second half of a sentence."""
    if spec.door == "service":
        return f"the service's setting limits.{limit} raises it"
    if spec.door == "command line" and limit in SHARES:
        return f"a larger --memory raises it: {_PARTS.get(SHARES[limit], f'1/{SHARES[limit]}')} of that is for it"
    if spec.door == "command line" and limit == "memory":
        return "a larger --memory raises it"
    return f"Limits({limit}=…) raises it"


def full_of_bytes(place: str, spec: SandboxSpec) -> str:
    """Return the message for a place that has no room left."""
    holds = format_size(spec.limits.tmpfs_sizes[place])
    return f"{place} is full: it holds {holds}. Delete files there; or {raised_by(PLACES[place], spec)}."


def full_of_files(place: str, spec: SandboxSpec) -> str:
    """Return the message for a place that takes no more files, however small."""
    holds = f"{spec.limits.inodes:,} files and directories"
    return f"{place} is full: it holds {holds}. Delete some of them; or {raised_by('inodes', spec)}."


def too_large(spec: SandboxSpec) -> str:
    """Return the message for a file that would be larger than any may be, written or sparse (RLIMIT_FSIZE)."""
    sizes = spec.limits.tmpfs_sizes
    place = max(sizes, key=lambda place: sizes[place])
    largest = format_size(sizes[place])
    return f"A file has at most {largest} here, the room of {place}; {raised_by(PLACES[place], spec)}."


def after_death(exit_code: int, spec: SandboxSpec, *, out_of_memory: bool) -> str:
    """Return the sentence about the limit that a kernel's death tells of, or an empty text."""
    if out_of_memory:
        return _sentence(raised_by("memory", spec))
    if exit_code == -signal.SIGBUS:
        holds = format_size(spec.limits.tmpfs_sizes["/dev/shm"])
        return f"Memory that is a file had no room to grow: /dev/shm holds {holds}; {raised_by('shm_size', spec)}."
    return ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def notices(spec: SandboxSpec) -> dict[str, dict[str, str]]:
    """Return what a kernel says beside an error, by place and by what that has none of (inside/full_places.py)."""
    rooms = ", ".join(f"{place} {format_size(size)}" for place, size in spec.limits.tmpfs_sizes.items())
    anywhere = f"There was no room for a file. The places for files hold: {rooms}. "
    anywhere += f"For /mnt/data, {raised_by('data_size', spec)}."
    said = {place: {"bytes": full_of_bytes(place, spec), "files": full_of_files(place, spec)} for place in PLACES}
    return said | {"": {"bytes": anywhere, "large": too_large(spec)}}
