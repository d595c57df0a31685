"""The default profile as bubblewrap's command line, and as what confinement.py does in the sandbox first.

The controls and their reasons: the guide "Security" in the README. engines/bubblewrap.py runs what is made here.
"""

from __future__ import annotations

import base64
import functools
import secrets
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from kernel_sandbox.inside.accounts import account_files
from kernel_sandbox.sandbox.engines.base import SOCKETS_INSIDE
from kernel_sandbox.sandbox.engines.control_groups import ControlGroup
from kernel_sandbox.sandbox.engines.masked_paths import PROC_DIRECTORIES, PROC_FILES
from kernel_sandbox.sandbox.engines.seccomp import filter_program
from kernel_sandbox.spec.values import HOME_DIRECTORY, INPUT_DIRECTORY, TERMINALS, SandboxSpec

USER_RANGE = (1_000_000_000, 2_000_000_000)
"""As in the Docker engine; the two draw from the same range."""
PATH = "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"
"""As in the container images."""
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": HOME_DIRECTORY}
INTERPRETER = "/opt/python/bin/python3"
"""Below the environment's packages: no wheel is installed there."""
PROCESSORS = "/sys/devices/system/cpu"
"""By which libraries choose how many threads they start; confinement.py puts copies in its place."""
WITHOUT_GROUPS = {"memory": ("RLIMIT_DATA", 2 * 1024**3), "pids": ("RLIMIT_NPROC", 4096)}
"""What bounds a template where no control group does: each process, and all of them with their sandboxes.

None of these may have more."""
IN_REACH = "a package that stays running where the image is imported first can connect to sandboxes of its user"
"""What is weakened in sandboxes of a template that has their user."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One sandbox's."""

    spec: SandboxSpec
    root: Path
    """What becomes its root directory."""
    group: ControlGroup
    nested: bool
    """Whether it is made by an unprivileged user: in a user namespace, as that user."""
    shares_sockets: bool
    """Whether the host makes the directories for a kernel's sockets."""

    @property
    def weakened(self) -> tuple[str, ...]:
        """What is not held of the profile, in words."""
        shared = "sandboxes run as their owner's user id, so that they share its per-user limits"
        return (*self.group.weakened, *((shared,) if self.nested else ()))

    @property
    def suits_template(self) -> bool:
        """Whether a template can fork this sandbox: it sees no path of the host, and may have no more than one."""
        own, most = self._rlimits(), bounds_of_template(self.group)
        return self.shares_sockets and not self.spec.mounts and all(own[name] <= most[name] for name in most)

    def forked_preparation(self) -> dict[str, Any]:
        """Return offspring.py's configuration, apart from its template's: a fork is its own user from the beginning."""
        return replace(self, nested=False).preparation()

    def command(self, info: int) -> list[str]:
        """Return the command line up to confinement.py's configuration; bubblewrap tells of its child on `info`."""
        command = [*self.group.entering, "bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
        command += ["--unshare-cgroup-try", *(["--unshare-user", "--uid", "0", "--gid", "0"] if self.nested else [])]
        # confinement.py needs the capabilities for its mounts, and gives them up before the sandbox's command runs.
        command += ["--cap-add", "ALL", "--hostname", "sandbox", "--die-with-parent", "--new-session", "--as-pid-1"]
        command += ["--clearenv", *(part for name, value in ENVIRONMENT.items() for part in ("--setenv", name, value))]
        command += ["--ro-bind", str(self.root), "/", "--proc", "/proc"]
        command += [*_masks(), *_devices(), *self._control_group_view(), *self._mounts(), "--chdir", "/"]
        # Without site: a .pth file among the image's packages would run, and with these capabilities.
        command += ["--info-fd", str(info), "--", INTERPRETER, "-I", "-S", "-c"]
        return [*command, _prepare_source()]

    def _control_group_view(self) -> list[str]:
        """Show the processors, and the group of the sandbox's own memory, where PID 1 reads what was killed for it."""
        view = ["--tmpfs", "/sys", "--dir", "/sys/fs/cgroup", "--dir", "/sys/devices/system"]
        view += ["--ro-bind-try", PROCESSORS, PROCESSORS]
        if self.group.memory is not None:
            inside = "/sys/fs/cgroup" if self.group.unified else "/sys/fs/cgroup/memory"
            view += ["--ro-bind", str(self.group.memory), inside]
        return [*view, "--remount-ro", "/sys"]

    def _mounts(self) -> list[str]:
        if not self.spec.mounts:
            return []
        binds = [part for mount in self.spec.mounts for part in ("--ro-bind", str(mount.source), mount.target)]
        for target, above in self._mounts_above().items():
            if above is not None:  # gone before the sandbox's command runs
                source = next(mount.source for mount in self.spec.mounts if mount.target == target)
                binds += ["--ro-bind", str(Path(source).resolve().parent), above[0]]
        return ["--tmpfs", INPUT_DIRECTORY, *binds, "--remount-ro", INPUT_DIRECTORY]

    def _mounts_above(self) -> dict[str, tuple[str, str] | None]:
        """Return confinement.py's `mounts`: an overlay is one of a directory, so it sees that of a single file."""
        above: dict[str, tuple[str, str] | None] = {}
        for number, mount in enumerate(self.spec.mounts):
            source = Path(mount.source).resolve()
            above[mount.target] = None if source.is_dir() else (f"{INPUT_DIRECTORY}/.{number}", source.name)
        return above

    def preparation(self) -> dict[str, Any]:
        """Return confinement.py's configuration, apart from its descriptor."""
        limits = self.spec.limits
        low, high = USER_RANGE
        user = low + secrets.randbelow(high - low)
        owner = 0 if self.nested else user  # before it enters the nested namespace, the user is 0

        def options(size: int, inodes: int, user: int = owner, mode: str = "0700") -> str:
            return f"size={size},nr_inodes={inodes},mode={mode},uid={user},gid={user}"

        tmpfs = [(place, options(size, limits.inodes)) for place, size in limits.tmpfs_sizes.items()]
        # Where the host makes the directories in it, a sandbox with a user of its own cannot change them.
        sockets = (0, "0755") if self.shares_sockets else (owner, "0700")
        tmpfs.append((SOCKETS_INSIDE, options(1024 * 1024, 100, *sockets)))
        program = as_text(filter_program())
        held = {"rlimits": self._rlimits(), "seccomp": program, "terminals": TERMINALS}
        made = {"tmpfs": tmpfs, "mounts": self._mounts_above(), "devices": DEVICES, "masked": _masked_files()}
        return {**made, "etc": account_files(user), "user": user, "nested": self.nested, **held}

    def _rlimits(self) -> dict[str, int]:
        limits = self.spec.limits
        values = {"RLIMIT_CORE": 0, "RLIMIT_NOFILE": limits.open_files, "RLIMIT_MEMLOCK": 65536}
        values |= {"RLIMIT_FSIZE": max(limits.tmpfs_sizes.values()), "RLIMIT_MSGQUEUE": 0, "RLIMIT_SIGPENDING": 1024}
        # A user id, or a user namespace, of its own: processes are counted per sandbox.
        values["RLIMIT_NPROC"] = limits.pids
        if "memory" not in self.group.held:
            values["RLIMIT_DATA"] = limits.memory_bytes  # of each process, which then gets a MemoryError
        return values


def bounds_of_template(group: ControlGroup) -> dict[str, int]:
    """Return the resource limits that stand for what a template's group does not hold."""
    return dict(bound for held, bound in WITHOUT_GROUPS.items() if held not in group.held)


def as_text(program: bytes) -> str:
    """Return a filter as JSON carries it."""
    return base64.b64encode(program).decode()


def shared_inodes(places: list[str]) -> tuple[str, ...]:
    """Return in words what could get no overlay, where confinement.py names such places."""
    weakened = []
    if "/" in places:
        weakened.append("this machine makes no overlay for a sandbox, so that others see which of its files are opened")
    if "/dev" in places:
        weakened.append(
            "this user makes no devices: a cell sees when the host opens its /dev/null, and its locks hold there"
        )
    if mounts := [place for place in places if place not in ("/", "/dev")]:
        weakened.append(f"no overlay of {', '.join(mounts)}: a lock that a cell takes there holds on the host")
    return tuple(weakened)


@functools.cache
def _prepare_source() -> str:
    return resources.files("kernel_sandbox").joinpath("inside", "confinement.py").read_text(encoding="utf-8")


def _masked_files() -> list[str]:
    """Name what this host has of them, for confinement.py to cover."""
    return [name for name in PROC_FILES if Path("/proc", name).exists()]


def _masks() -> list[str]:
    """Cover what this host has of the directories."""
    masks = []
    for name in PROC_DIRECTORIES:
        if Path("/proc", name).is_dir():
            masks += ["--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}"]
    return masks


def _devices() -> list[str]:
    """Show the host's own, instead of which confinement.py makes others where it may."""
    devices = ["--tmpfs", "/dev", "--dir", "/dev/shm", "--dir", "/dev/pts", "--symlink", "pts/ptmx", "/dev/ptmx"]
    for name in DEVICES:
        devices += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        devices += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    return [*devices, "--symlink", "/proc/self/fd", "/dev/fd", "--remount-ro", "/dev"]
