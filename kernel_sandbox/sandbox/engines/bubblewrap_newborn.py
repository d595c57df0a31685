"""A sandbox that a template has forked, judged from outside before anything runs in it.

What the fork says of itself is worth nothing: a package of the image may have changed what confines it. So the host
asks the kernel: which namespaces, privileges, memory, descriptors and file systems it has, and with whom.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import mmap
import os
import re
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPACES = ("user", "mnt", "net", "ipc", "uts", "cgroup")
"""Namespaces that a process is in itself; that of process ids is its children's."""
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NOTHING = "0" * 16
SHARED = re.compile(r"^\S+ (?P<rights>...)s \S+ (?P<device>\S+) .*$", re.MULTILINE)
LIMITS = {
    "RLIMIT_NOFILE": "Max open files",
    "RLIMIT_NPROC": "Max processes",
    "RLIMIT_FSIZE": "Max file size",
    "RLIMIT_DATA": "Max data size",
    "RLIMIT_CORE": "Max core file size",
    "RLIMIT_MEMLOCK": "Max locked memory",
    "RLIMIT_MSGQUEUE": "Max msgqueue size",
    "RLIMIT_SIGPENDING": "Max pending signals",
}
"""As /proc/pid/limits has them (proc(5))."""
LINE = 8192
CREDENTIALS = struct.Struct("3i")
STREAMS = 4
"""Descriptors of a PID 1, and of its monitor: three standard ones, and one to speak on."""
OF_IMAGE = "etc/passwd"
"""A file that each image has."""
MOST_READ = 4 * 1024 * 1024
"""Bytes of a file below /proc: a process decides how long its own are."""


Held = tuple[int, int]
"""Device and inode of what a descriptor is of."""


class TemplateFailed(Exception):
    """A template did not do what it is for; another way to start a sandbox is left."""


@dataclass(frozen=True, slots=True)
class Newborn:
    """A sandbox that a template has forked: its processes, and this side of its streams."""

    monitor: int
    first: int
    monitor_handle: int
    """A descriptor of the process (pidfd_open(2)), as the next."""
    first_handle: int
    word: socket.socket
    """On which the monitor tells how the sandbox ended."""
    shared: list[str]
    sockets: Path
    """Where its sockets are, without a way through what it says is its root directory."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A line of /proc/pid/mountinfo."""

    device: str
    root: str
    place: str
    read_only: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Due:
    """What a PID 1 should have, as this process counts."""

    held: set[Held]
    """Its streams."""
    held_by_monitor: set[Held]
    user: int
    watched_by: int
    """Its monitor's user."""
    groups: tuple[Path, ...]
    """Directories of its control group."""
    rlimits: dict[str, int]
    slot: int
    """Below the keeper's /run: its sockets' place there."""
    devices: int
    """The same, for its devices."""


class Origin:
    """What is known of a template's keeper: each sandbox begins with its namespaces, and keeps none."""

    def __init__(self, keeper: int, template: int, image: Path) -> None:
        self._spaces, self._processes = namespaces(keeper), namespace(template, "pid")
        self._filters = int(_status(template).get("Seccomp_filters", "0"))
        self._mounts = mounts(keeper)
        self._image = mapped_device(image)

    def check_beginning(self, monitor: int) -> None:
        """Refuse a monitor that has namespaces of its own before it was told to make them: others could be there."""
        if namespaces(monitor) != self._spaces or namespace(monitor, "pid") != self._processes:
            raise TemplateFailed("what it forked is not where it should be")

    def check_namespaces(self, monitor: int) -> None:
        """Refuse a monitor that has not made all of its namespaces."""
        own = namespaces(monitor)
        common = [name for name in SPACES if own[name] == self._spaces[name]]
        if common:
            raise TemplateFailed(f"a sandbox would have namespaces in common: {', '.join(common)}")

    def check_confined(self, monitor: int, first: int, due: Due) -> None:
        """Refuse a PID 1 that is not confined as sandboxes are, or has something in common with another process.

        Its monitor stands beside it, and holds no more.
        """
        processes = namespace(first, "pid")
        its_own = processes == namespace(monitor, "pid_for_children") != self._processes
        if namespaces(first) != namespaces(monitor) or not its_own:
            raise TemplateFailed("a sandbox is not in its monitor's namespaces")
        if _read(f"/proc/{first}/cgroup") != _read(f"/proc/{monitor}/cgroup"):
            raise TemplateFailed("a sandbox is not in its control group")
        both = {monitor, first}
        alone = all(set(map(int, _read(f"{group}/cgroup.procs").split())) == both for group in due.groups)
        threads = len(_threads(first)) + len(_threads(monitor))
        if children(monitor) != [first] or children(first) or threads != 2 or not alone:
            raise TemplateFailed("there are more processes than a sandbox begins with")
        for process, user, held in (
            (first, due.user, due.held),
            (monitor, due.watched_by, due.held_by_monitor),
        ):
            self._check_privileges(_status(process), user)
            self._check_memory(process)
            check_descriptors(process, held)
        _check_rlimits(first, due.rlimits)
        self._check_mounts(first, due)

    def _check_privileges(self, status: dict[str, str], user: int) -> None:
        users = set(status.get("Uid", "").split())
        held = [name for name in CAPABILITIES if status.get(name) != NOTHING]
        filters = int(status.get("Seccomp_filters", self._filters + 1))  # a kernel before 5.9 does not count them
        if held or users != {str(user)}:
            raise TemplateFailed(f"a sandbox has privileges: {', '.join(held) or 'another user'}")
        if status.get("NoNewPrivs") != "1" or status.get("Seccomp") != "2" or filters <= self._filters:
            raise TemplateFailed("a sandbox may make more system calls than sandboxes do")

    def _check_memory(self, first: int) -> None:
        """Files of the image may be mapped as they are (proc(5), /proc/pid/maps): nobody writes there."""
        for found in SHARED.finditer(_read(f"/proc/{first}/maps")):
            if "w" in found["rights"] or found["device"] != self._image:
                raise TemplateFailed(
                    f"the image's modules have made memory that sandboxes would share: {found[0][:200]}"
                )

    def _check_mounts(self, first: int, due: Due) -> None:
        """Refuse a file system of the template's but what is this sandbox's, and one that may lie upon another."""
        mine = {(at.device, at.root) for at in self._mounts if at.place == f"/run/{due.slot}/sockets"}
        mine |= {(at.device, at.root) for at in self._mounts if at.place.startswith(f"/run/{due.devices}/dev/")}
        mine |= {(at.device, f"/{due.devices}/dev") for at in self._mounts if at.place == "/run"}
        common = {at.device for at in self._mounts}
        for at in mounts(first):
            if at.device in common and (at.device, at.root) not in mine:
                raise TemplateFailed(f"a sandbox has a file system in common at {at.place[:200]}")
            if at.kind == "overlay" and not at.read_only:
                raise TemplateFailed(f"a sandbox can write what others may have at {at.place[:200]}")
        if Path(f"/proc/{first}/cwd").stat().st_dev != Path(f"/proc/{first}/root").stat().st_dev:
            raise TemplateFailed("a sandbox stands in another directory than its own")


def mapped_device(image: Path) -> str:
    """Return the device that /proc/pid/maps has for files of an image: btrfs and overlays tell stat(2) of another.

    Raises TemplateFailed.
    """
    descriptor = os.open(image / OF_IMAGE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE) as mapped:
            first = ctypes.c_char.from_buffer(mapped)
            address = ctypes.addressof(first)
            del first  # or it cannot be closed
            lines = [line.split() for line in _read("/proc/self/maps").splitlines()]
            devices = [fields[3] for fields in lines if int(fields[0].partition("-")[0], 16) == address]
    finally:
        os.close(descriptor)
    if not devices:
        raise TemplateFailed("a file of the image cannot be mapped")
    return devices[0]


def sockets_of(keeper: int, slot: int) -> Path:
    return Path(f"/proc/{keeper}/root/run/{slot}/sockets")


def parse(text: bytes) -> dict[str, Any]:
    """Read an object in JSON from a template. Raises TemplateFailed."""
    try:
        told = json.loads(text or b"null")
    except (ValueError, RecursionError) as exc:
        raise TemplateFailed("it says nothing that can be read") from exc
    if not isinstance(told, dict):
        raise TemplateFailed("it has ended" if not text else "it says something else")
    return told


def hear(
    stream: socket.socket, word: str, whose: int, deadline: float, handles: list[int], is_process: int = 0
) -> tuple[Any, int]:
    """Hear a word from a child of `whose`; return what was said, and whose it is, of which there is a handle then.

    The kernel names who sent it, as this process counts (unix(7), SCM_CREDENTIALS).
    """
    stream.settimeout(max(0.01, deadline - time.monotonic()))
    text, ancillary, _, _ = stream.recvmsg(LINE, socket.CMSG_SPACE(CREDENTIALS.size))
    told = parse(text)
    if word not in told:
        raise TemplateFailed(str(told)[:200])
    senders = [CREDENTIALS.unpack(data)[0] for _, kind, data in ancillary if kind == socket.SCM_CREDENTIALS]
    process = senders[0] if senders else 0
    if is_process:
        handle = process if process == is_process else 0
    elif process and (handle := os.pidfd_open(process)):
        handles.append(handle)
    if not process or not handle or parent(process) != whose:
        raise TemplateFailed("somebody else answered")
    return told[word], process


def parent(process: int) -> int:
    return int(_read(f"/proc/{process}/stat").rpartition(")")[2].split()[1])


def children(process: int) -> list[int]:
    told = [_read(f"{thread}/children") for thread in _threads(process)]
    return [int(child) for text in told for child in text.split()]


def _threads(process: int) -> list[Path]:
    return list(Path(f"/proc/{process}/task").iterdir())


def namespace(process: int, name: str) -> int:
    return Path(f"/proc/{process}/ns/{name}").stat().st_ino


def namespaces(process: int) -> dict[str, int]:
    return {name: namespace(process, name) for name in SPACES}


def mounts(process: int) -> list[Mounted]:
    found = []
    for line in _read(f"/proc/{process}/mountinfo").splitlines():
        _, _, device, root, place, options, *rest = line.split(" ")
        kind = rest[rest.index("-") + 1]
        found.append(Mounted(device, root, place, "ro" in options.split(","), kind))
    return found


def _check_rlimits(first: int, due: dict[str, int]) -> None:
    """Compare what /proc says (prlimit(2) takes a capability that root need not have)."""
    found = {line[:26].strip(): line[26:].split()[:2] for line in _read(f"/proc/{first}/limits").splitlines()}
    for name, value in due.items():
        if found.get(LIMITS[name]) != [str(value)] * 2:
            raise TemplateFailed(f"a sandbox has another {name} than it may have")


def identity(status: os.stat_result) -> Held:
    return status.st_dev, status.st_ino


def check_descriptors(process: int, held: set[Held]) -> None:
    """Refuse a process that holds anything else than these, by their devices and inodes."""
    with os.scandir(f"/proc/{process}/fd") as entries:
        found = [entry.stat() for entry in itertools.islice(entries, STREAMS + 1)]
    descriptors = [(status.st_dev, status.st_ino) for status in found]
    if not held.issuperset(descriptors) or len(descriptors) > STREAMS:
        raise TemplateFailed("it has left a sandbox more descriptors than its own")


def _status(process: int) -> dict[str, str]:
    lines = [line.partition(":") for line in _read(f"/proc/{process}/status").splitlines()]
    return {name: value.strip() for name, _, value in lines}


def _read(path: str) -> str:
    with open(path, "rb") as file:
        text = file.read(MOST_READ)
    if len(text) == MOST_READ:
        raise TemplateFailed(f"{path} is too long")
    return text.decode("utf-8", "replace")
