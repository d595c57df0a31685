"""A session's private directory on the host: its sockets, its connection file, and who owns it.

    <base>/<8 hex>/            0700
        owner.json             who made it, so that a later process can tell whether it is stale
        connection.json        for any Jupyter client, 0600
        h-1 … h-5              the sockets that clients connect to (the gate listens)
        etc/                   passwd, group and hosts of the sandbox, where it sees them (Docker, transport ipc)
        k/                     seen by the sandbox as /opt/kernel-sandbox/run (transport ipc only)
            1/ s-1 … s-5       one directory per kernel: open while the kernel binds, then locked; gone with it

The sandbox can only ever write into a k/N while no cell runs, and only until `lock`, which leaves nothing but the
sockets there: a file would be the sandbox's own on the host's disk. Afterwards no name in it is trusted: each socket is
reached through the descriptor that was pinned then.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kernel_sandbox.errors import EngineError, ProtocolViolation
from kernel_sandbox.host import directories, forks
from kernel_sandbox.host.forks import Descriptor

PORTS = range(1, 6)
SOCKET_PATH_LIMIT = 107
"""What sockaddr_un holds (unix(7)), less the closing zero."""
LEAST_ROOM, LEAST_FILES = 64 * 1024, 32
"""Bytes and files that a session makes there, and some."""
LEAST_DESCRIPTORS = 32
"""What a start takes while it lasts, and some; an open session holds about 18."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that a sandbox or a run directory belongs to, told apart from a later one with the same id."""

    pid: int
    started: str
    """Start time of the process in clock ticks since boot (proc(5), stat, field 22)."""
    namespace: str
    """The pid namespace in which `pid` counts: another container on this machine has another."""
    boot: str
    machine: str

    @classmethod
    def current(cls) -> Owner:
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Describe a process of this machine as the one that has this id now."""
        boot = _read("/proc/sys/kernel/random/boot_id")
        return cls(pid, _start_time(pid) or "", _pid_namespace(), boot, _read("/etc/machine-id"))

    @property
    def is_gone(self) -> bool:
        """Whether the process is dead for certain. What cannot be judged from here counts as alive."""
        here = Owner.current()
        if self.machine != here.machine:
            return False
        if self.boot != here.boot:
            return True
        return self.namespace == here.namespace and _start_time(self.pid) != self.started


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return "unknown"


def _pid_namespace() -> str:
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return "unknown"


def _start_time(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        # Not Linux: existence is all there is to know.
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            return ""
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def base_directory() -> Path:
    """Return the private directory of this user that holds all run directories; make it when it is not there.

    Raises EngineError where the place belongs to somebody else, or cannot be written.
    """
    with explained():
        base = _base()
        with contextlib.suppress(FileExistsError):
            base.mkdir(mode=0o700)
        status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise EngineError(f"{base} is not a private directory of this user: remove it, or set XDG_RUNTIME_DIR.")
    return base


def _base() -> Path:
    runtime = directories.given("XDG_RUNTIME_DIR")
    longest = "/12345678/k/1234567/s-5"
    base = Path(runtime, "kernel-sandbox") if runtime else None
    if base is None or not os.access(base.parent, os.W_OK) or len(f"{base}{longest}") > SOCKET_PATH_LIMIT:
        base = Path(tempfile.gettempdir(), f"kernel-sandbox-{_own_token()}")
    if len(f"{base}{longest}") > SOCKET_PATH_LIMIT:
        base = Path(f"/tmp/kernel-sandbox-{_own_token()}")
    return base


def _own_token() -> str:
    """Name this user of this machine by a word that tells neither: a container sees it in /proc/self/mountinfo."""
    return hashlib.sha256(f"{os.getuid()} {_read('/etc/machine-id')}".encode()).hexdigest()[:12]


_ADVICE = {
    errno.EMFILE: "raise its limit of open files (ulimit -n), or close other sessions",
    errno.ENFILE: "this machine has too many files open; end some programs",
    errno.EAGAIN: "its limit of processes or threads (ulimit -u) is reached; end some of them",
    errno.ENOMEM: "this machine is out of memory; end some programs",
}


def exhausted(exc: BaseException) -> EngineError | None:
    """What to say where this process gets no descriptors, processes or memory; None for any other failure."""
    if isinstance(exc, OSError) and (advice := _ADVICE.get(exc.errno or 0)):
        return EngineError(f"This process gets no more from the system ({exc.strerror or exc}): {advice}.")
    return None


@contextlib.contextmanager
def explained(*, also_room: bool = True) -> Iterator[None]:
    """Raise EngineError, with what to do, for an OSError for want of descriptors, processes or room.

    `also_room` takes every other OSError as a failure to write to the run directory.
    """
    try:
        yield
    except OSError as exc:
        if refusal := exhausted(exc):
            raise refusal from exc
        if not also_room and exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise EngineError(
            f"A session keeps its sockets in a temporary directory, and cannot write there ({exc.strerror or exc}): "
            "make room in /tmp, or set XDG_RUNTIME_DIR or TMPDIR to a directory of yours."
        ) from exc


def _require_room(place: Path) -> None:
    """Raise OSError where a kernel could not make its sockets: it would only be silent."""
    status = os.statvfs(place)
    # A file system without a table of inodes counts none.
    if status.f_bavail * status.f_frsize < LEAST_ROOM or (status.f_files and status.f_favail < LEAST_FILES):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _require_descriptors() -> None:
    """Raise OSError where the last steps of a start would find none."""
    held: list[int] = []
    try:
        for _ in range(LEAST_DESCRIPTORS):
            held.append(os.open("/", os.O_PATH | os.O_CLOEXEC))
    finally:
        for descriptor in held:
            os.close(descriptor)


_doomed: set[Path] = set()
forks.renew(_doomed.clear)  # the parent's


class RunDirectory:
    """One session's directory. The constructor makes it, or raises EngineError; `remove` takes it away."""

    def __init__(self) -> None:
        self.path = base_directory() / secrets.token_hex(4)
        self.shared = self.path / "k"
        try:
            with explained():
                _require_room(self.path.parent)
                _require_descriptors()
                self.path.mkdir(mode=0o700)
                (self.path / "owner.json").write_text(json.dumps(asdict(Owner.current())))
                self.shared.mkdir()
                self.shared.chmod(0o755)
        except EngineError:
            self.remove()
            raise

    @property
    def connection_file(self) -> Path:
        return self.path / "connection.json"

    @property
    def listen_address(self) -> str:
        """What a connection file names as `ip`; each socket is this, a dash, and its port."""
        return str(self.path / "h")

    def address_of(self, kernel: str) -> str:
        """Return the same for a kernel beside the session's own."""
        return str(self.path / kernel)

    def open_for_kernel(self, number: int) -> None:
        """Make the directory that a kernel may bind its sockets in. Only where no cell runs: it is on the host's disk.

        Raises OSError.
        """
        directory = self.shared / str(number)
        _require_room(self.shared)
        directory.mkdir()
        directory.chmod(0o777)  # another user binds there; the 0700 parent keeps everybody else out

    def lock(self, number: int) -> dict[int, Descriptor]:
        """Make a kernel's directory unwritable, leave its sockets alone there, and pin each: by a descriptor (O_PATH).

        Must run before the first cell. Raises ProtocolViolation when an entry is not what a kernel binds.
        """
        with _opened(self.shared / str(number)) as directory:
            os.fchmod(directory, 0o755)
            _remove_signs(directory)
            return _pin_all(directory)

    def remove_of_kernel(self, number: int) -> None:
        """Remove a kernel's directory."""
        shutil.rmtree(self.shared / str(number), ignore_errors=True)

    def close(self) -> None:
        """Do nothing: `remove` is for the end of the session."""

    def remove(self) -> None:
        """Remove it, and what earlier ones could not: without a free descriptor no directory can be removed."""
        _doomed.add(self.path)
        for path in tuple(_doomed):
            _remove_tree(path)
            if not path.exists():
                _doomed.discard(path)


def _remove_tree(path: Path) -> None:
    """Remove a run directory, its owner's name last: what a killed process leaves of it is still known as its."""
    with contextlib.suppress(OSError):
        for entry in list(path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != "owner.json":
                entry.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


class InsideSockets:
    """The socket directories where they are inside a sandbox, as far as the host can look in.

    The directory is held open from before the first cell: a path into a sandbox could lead anywhere later. Where a
    sandbox runs as its owner's user it could undo the lock, and all rests on the pinned descriptors.
    """

    def __init__(self, path: Path) -> None:
        self._directory = Descriptor(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def open_for_kernel(self, number: int) -> None:
        """Make the directory for a kernel. Raises OSError."""
        place = self._directory.fileno()
        os.mkdir(str(number), dir_fd=place)
        with _opened(str(number), place) as directory:
            os.fchmod(directory, 0o777)

    def lock(self, number: int) -> dict[int, Descriptor]:
        """Make a kernel's directory unwritable, with its sockets alone in it, and pin them. See RunDirectory."""
        with _opened(str(number), self._directory.fileno()) as directory:
            os.fchmod(directory, 0o755)
            _remove_signs(directory)
            return _pin_all(directory)

    def remove_of_kernel(self, number: int) -> None:
        """Remove a kernel's directory with all that it holds: the file system there has room for 100 names."""
        shutil.rmtree(str(number), ignore_errors=True, dir_fd=self._directory.fileno())

    def close(self) -> None:
        """Close the directory, which would keep the sandbox's file system alive."""
        self._directory.close()


@contextlib.contextmanager
def _opened(path: Path | str, parent: int | None = None) -> Iterator[int]:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield directory
    finally:
        os.close(directory)


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def _remove_signs(directory: int) -> None:
    """Remove what is no kernel's socket: the sign that it is ready, which PID 1 has read."""
    sockets = {f"s-{port}" for port in PORTS}
    for name in set(_names(directory)) - sockets:
        try:
            os.unlink(name, dir_fd=directory)
        except OSError as exc:
            raise ProtocolViolation(f"The kernel made {name!r} beside its sockets; the sandbox was ended.") from exc


def _pin_all(directory: int) -> dict[int, Descriptor]:
    """Pin the socket of each port, or none."""
    pinned: dict[int, Descriptor] = {}
    try:
        for port in PORTS:
            pinned[port] = _pin(directory, f"s-{port}")
    except BaseException:
        for descriptor in pinned.values():
            descriptor.close()
        raise
    return pinned


def _pin(directory: int, name: str) -> Descriptor:
    descriptor = Descriptor(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))
    status = os.fstat(descriptor.fileno())
    if not stat.S_ISSOCK(status.st_mode) or status.st_nlink != 1:
        descriptor.close()
        raise ProtocolViolation(f"The kernel's {name} is not a socket of its own; the sandbox was ended.")
    return descriptor


def stale_directories() -> Iterator[Path]:
    """Yield run directories of this user whose owner is no longer alive."""
    for path in base_directory().iterdir():
        try:
            owner = Owner(**json.loads((path / "owner.json").read_text()))
        except (OSError, ValueError, TypeError):
            owner = None
        if owner is not None and owner.is_gone:
            yield path


def remove_stale_directories() -> int:
    """Remove what dead owners left and return how many there were."""
    paths = list(stale_directories())
    for path in paths:
        _remove_tree(path)
    return len(paths)
