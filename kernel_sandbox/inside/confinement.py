"""The first program in a bubblewrap sandbox: makes the overlays, devices and writable places, gives all privileges up,
becomes PID 1.

bubblewrap cannot limit a tmpfs's inodes, forbid programs on it, or drop to another user, so it hands its capabilities
to this program, which runs before anything hostile is there. Nothing of the image's packages runs with them: it is
`python3 -I -S -c SOURCE CONFIG COMMAND…` of the interpreter below the image's environment. CONFIG is JSON:

    mounts      place of a mount to null, or for a single file to the place of its directory and its name there
    devices     names of the device nodes in /dev
    masked      files of /proc that tell nothing
    tmpfs       [place, mount options], in order
    etc         files of /etc: name to text
    rlimits     name of resource.RLIMIT_… to value
    user        the user id of the command
    nested      whether this is a user namespace of an unprivileged user, where id 0 alone is mapped
    seccomp     the filter program, in base64
    info        a descriptor that was for bubblewrap only
    terminals   how many pseudo-terminals there may be
    ready       the descriptor on which the host hears, as a list in JSON, which places could get no inodes of their
                own, when the command is about to run
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import signal
import stat
import sys
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_MOVE, MNT_DETACH = 8192, 2
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_CAP_AMBIENT = 1, 4, 22, 24, 47
PR_CAP_AMBIENT_CLEAR_ALL, SECCOMP_MODE_FILTER = 4, 2
CAPABILITY_VERSION_3 = 0x20080522
SCRATCH = "/tmp"
"""An empty place, before its tmpfs is there."""
EMPTY, ABOVE, ROOT = (f"{SCRATCH}/{name}" for name in ("empty", "above", "root"))
INPUT = "/mnt/input"
PROCESSORS = "/sys/devices/system/cpu"
PROCESSOR_FILES = ("online", "possible", "present", "kernel_max")
TOPOLOGY_FILES = (
    *("core_id", "physical_package_id", "core_cpus_list", "package_cpus_list"),
    *("thread_siblings", "thread_siblings_list", "core_siblings", "core_siblings_list"),
)
"""Of each processor: by these lscpu, psutil, joblib, OpenMP and hwloc count cores."""
SYSFS_PAGE = 4096

libc: Any = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """End with a message where a call of the C library has failed."""
    if result:
        number = ctypes.get_errno()
        sys.exit(f"{what}: {os.strerror(number)}")


def mount(kind: str, place: str, flags: int, options: str = "") -> None:
    source = kind.encode()
    check(libc.mount(source, place.encode(), source, ctypes.c_ulong(flags), options.encode()), f"mount {place}")


def show_read_only(source: str, place: str) -> None:
    """Cover a directory or a file with a read-only view of another, or of itself with what is mounted in it."""
    path = place.encode()
    check(libc.mount(source.encode(), path, None, ctypes.c_ulong(MS_BIND | MS_REC), None), f"bind {place}")
    flags = ctypes.c_ulong(MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    check(libc.mount(None, path, None, flags, None), f"make {place} read-only")


def take_own_root(
    mounts: dict[str, list[str] | None], image: str = "/", bound: dict[str, str] | None = None
) -> list[str]:
    """Make the root directory and the mounts overlays: what watches or locks a file then does so in this sandbox only.

    `image` is what becomes the root directory, `bound` has places of before to where they are then. All other that the
    host mounted are gone afterwards, and with them their names in mountinfo. Returns the places for which this machine
    makes no overlay, which stay as they are.
    """
    mount("tmpfs", SCRATCH, MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=0755")
    for place in (EMPTY, ABOVE, ROOT):
        os.mkdir(place)
    if not overlay(image, ROOT, empty_first=True):
        for above in filter(None, mounts.values()):
            leave(above[0])
        leave(SCRATCH)
        return ["/", *mounts]
    shared = []
    if mounts:
        mount("tmpfs", ROOT + INPUT, MS_NOSUID | MS_NODEV, "size=64k,mode=0755")
        shared = [target for target, above in mounts.items() if not take_own_mount(target, above)]
        hold_read_only(ROOT + INPUT, 0)
    for source, target in (bound or {}).items():
        check(
            libc.mount(source.encode(), (ROOT + target).encode(), None, ctypes.c_ulong(MS_BIND), None), f"bind {target}"
        )
    for place in ("/proc", "/dev", "/sys"):
        move(place, ROOT + place)
    os.chdir(ROOT)
    check(libc.pivot_root(b".", b"."), "pivot_root")
    leave(".")
    os.chdir("/")
    return shared


def take_own_mount(target: str, above: list[str] | None) -> bool:
    """Show a mount in the new root, as an overlay of each file system in it; return whether that was possible."""
    new = ROOT + target
    if above is None:
        os.mkdir(new)
        if all(os.path.isdir(place) and overlay(place, ROOT + place) for place in mounted_in(target)):
            return True
        while os.path.ismount(new):
            leave(new)
    else:
        with open(new, "w"):
            pass
        if take_own_file(above[0], above[1], target, new):
            return True
    move(target, new)
    return False


def take_own_file(directory: str, name: str, target: str, new: str) -> bool:
    """Show a file out of an overlay of its directory, which itself is seen nowhere."""
    if not overlay(directory, ABOVE):
        return False
    file = f"{ABOVE}/{name}"
    # Not where another file is mounted over it, as /etc/hosts in a container: the overlay has the one below.
    shown = is_same(file, target) and not libc.mount(
        os.fsencode(file), os.fsencode(new), None, ctypes.c_ulong(MS_BIND), None
    )
    if shown:
        hold_read_only(new, no_programs(directory))
    leave(ABOVE)
    return shown


def is_same(file: str, other: str) -> bool:
    """Return whether one is the other's in an overlay, which may add to the inode's number (overlayfs, xino)."""
    try:
        one, two = os.stat(file), os.stat(other)
    except OSError:
        return False
    low = (one.st_ino ^ two.st_ino) & 0xFFFFFFFF
    return (low, one.st_size, one.st_mtime_ns) == (0, two.st_size, two.st_mtime_ns)


def mounted_in(target: str) -> list[str]:
    """List the places of file systems at and below a directory, in their order."""
    with open("/proc/self/mountinfo", "rb") as file:
        fields = [line.split()[4] for line in file]
    places = [os.fsdecode(field.decode("unicode_escape").encode("latin-1")) for field in fields]
    return [place for place in places if place == target or place.startswith(f"{target}/")]


def overlay(source: str, place: str, *, empty_first: bool = False) -> bool:
    """Mount a read-only overlay of a directory, without programs where the source has none; return whether it worked.

    It must have two layers. The first gives the attributes of the topmost directory, and tells how full its disk is.
    """
    descriptor = os.open(source, os.O_PATH)
    try:
        flags = MS_RDONLY | MS_NOSUID | MS_NODEV | no_programs(source)
        layers = [f"/proc/self/fd/{descriptor}", EMPTY]
        options = f"lowerdir={':'.join(layers[::-1] if empty_first else layers)}".encode()
        return bool(libc.mount(b"overlay", os.fsencode(place), b"overlay", ctypes.c_ulong(flags), options) == 0)
    finally:
        os.close(descriptor)


def no_programs(place: str) -> int:
    """Return the flag where a file system has it."""
    return MS_NOEXEC if os.statvfs(place).f_flag & os.ST_NOEXEC else 0


def move(source: str, place: str) -> None:
    check(libc.mount(os.fsencode(source), os.fsencode(place), None, ctypes.c_ulong(MS_MOVE), None), f"move {source}")


def leave(place: str) -> None:
    check(libc.umount2(os.fsencode(place), MNT_DETACH), f"umount {place}")


def hold_read_only(place: str, more: int) -> None:
    flags = ctypes.c_ulong(MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | more)
    check(libc.mount(None, os.fsencode(place), None, flags, None), f"make {place} read-only")


def take_own_devices(names: list[str]) -> list[str]:
    """Make the device nodes anew: what watches or locks one then does so in this sandbox only.

    Returns the place where they stay the host's: in a user namespace nobody makes one, nor opens one that is mounted.
    """
    mount("tmpfs", SCRATCH, MS_NOSUID | MS_NOEXEC, "size=64k,nr_inodes=32,mode=0755")
    try:
        for name in names:
            of_the_host = os.stat(f"/dev/{name}")
            os.mknod(f"{SCRATCH}/{name}", stat.S_IFCHR, of_the_host.st_rdev)
            os.chmod(f"{SCRATCH}/{name}", stat.S_IMODE(of_the_host.st_mode))
    except OSError:
        leave(SCRATCH)
        return ["/dev"]
    for entry in os.scandir("/dev"):
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), f"{SCRATCH}/{entry.name}")
        elif entry.is_dir():
            os.mkdir(f"{SCRATCH}/{entry.name}")
    leave("/dev")
    move(SCRATCH, "/dev")
    flags = ctypes.c_ulong(MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC)
    check(libc.mount(None, b"/dev", None, flags, None), "make /dev read-only")
    return []


def copy_processors() -> None:
    """Show copies of what libraries read of the processors, instead of the host's own files."""
    if not os.path.isdir(PROCESSORS):
        return
    processors = [name for name in os.listdir(PROCESSORS) if name[:3] == "cpu" and name[3:].isdigit()]
    files = [*PROCESSOR_FILES, *(f"{name}/topology/{file}" for name in processors for file in TOPOLOGY_FILES)]
    texts = {file: text for file in files if (text := read_bounded(f"{PROCESSORS}/{file}"))}
    leave(PROCESSORS)
    mount("tmpfs", PROCESSORS, MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755")
    for name in processors:
        os.makedirs(f"{PROCESSORS}/{name}/topology")
    written: dict[bytes, str] = {}
    for file, text in texts.items():
        place = f"{PROCESSORS}/{file}"
        if (same := written.setdefault(text, place)) != place:
            os.link(same, place)  # each file of its own would take a page: megabytes for hundreds of processors
        else:
            write_whole(place, text)
    hold_read_only(PROCESSORS, MS_NOEXEC)


def read_bounded(path: str) -> bytes:
    """Return the beginning of a file, or nothing where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, SYSFS_PAGE)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def write_whole(path: str, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    os.write(descriptor, text)
    os.close(descriptor)


def mask(names: list[str]) -> None:
    """Cover files of /proc with an empty one of this sandbox: the host's /dev/null could be watched there."""
    mount("tmpfs", SCRATCH, MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=0755")
    write_whole(EMPTY, b"")
    for name in names:
        show_read_only(EMPTY, f"/proc/{name}")
    check(libc.umount2(SCRATCH.encode(), 0), "umount")


def write_names(files: dict[str, str]) -> None:
    """Put files into /etc, on a file system that stays when the scratch place has lost its name."""
    mount("tmpfs", SCRATCH, MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,mode=0755")
    for name, text in files.items():
        with open(f"{SCRATCH}/{name}", "w") as file:
            file.write(text)
        os.chmod(f"{SCRATCH}/{name}", 0o644)
        show_read_only(f"{SCRATCH}/{name}", f"/etc/{name}")
    check(libc.umount2(SCRATCH.encode(), 0), "umount")


def set_kernel_values(counts: dict[str, int]) -> None:
    """Allow every user to listen on any port, as in a container, and so much of what is counted for each user
    namespace, if this is one (/proc/sys/user, namespaces(7)). /proc/sys is read-only here.
    """
    mount("proc", SCRATCH, MS_NOSUID | MS_NODEV | MS_NOEXEC)
    try:
        with open(f"{SCRATCH}/sys/net/ipv4/ip_unprivileged_port_start", "w") as file:
            file.write("0")
    except OSError:
        pass  # a kernel before 4.11 has none
    for name, most in counts.items():
        with open(f"{SCRATCH}/sys/user/{name}", "w") as file:
            file.write(str(most))
    check(libc.umount2(SCRATCH.encode(), 0), "umount")


def enter_nested_namespace(user: int) -> None:
    """Become `user` in a user namespace below the one that owns the mounts, which then cannot be changed."""
    check(libc.unshare(CLONE_NEWUSER), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} 0 1"), ("gid_map", f"{user} 0 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def drop_bounding_set() -> None:
    """Drop every capability that the kernel knows from the bounding and ambient sets; the first unknown one fails."""
    check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "drop ambient capabilities")
    number = 0
    while libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1


def set_dumpable(value: bool) -> None:
    """Whether processes of the same user may look into this one (prctl(2), PR_SET_DUMPABLE)."""
    check(libc.prctl(PR_SET_DUMPABLE, int(value), 0, 0, 0), "set dumpable")


def drop_capabilities() -> None:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    check(libc.capset(header, (ctypes.c_uint32 * 6)()), "drop capabilities")


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def filter_system_calls(program: bytes) -> None:
    """Hold this process and all that it starts to a filter (seccomp(2)); bubblewrap has set no_new_privs."""
    described = Program(len(program) // 8, program)
    check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0), "filter system calls")


def main() -> None:
    config = json.loads(sys.argv[1])
    os.close(config["info"])
    os.environ.pop("PWD", None)  # bubblewrap's, and no kernel's
    umask = os.umask(0o022)
    shared = take_own_root(config["mounts"]) + take_own_devices(config["devices"])
    furnish(config, {"max_user_namespaces": 1} if config["nested"] else {})
    os.umask(umask)
    user = config["user"]
    if config["nested"]:
        enter_nested_namespace(user)
    limit(config["rlimits"])
    if not config["nested"]:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    give_up(config["seccomp"])
    os.write(config["ready"], json.dumps(shared).encode())
    os.close(config["ready"])
    os.execvp(sys.argv[2], sys.argv[2:])


def furnish(config: dict[str, Any], counts: dict[str, int]) -> None:
    """Put into the new root what a sandbox finds there. `counts` is what there may be in its user namespace."""
    copy_processors()
    set_kernel_values(counts)
    mask(config["masked"])
    write_names(config["etc"])
    for place, options in config["tmpfs"]:
        mount("tmpfs", place, MS_NOSUID | MS_NODEV | MS_NOEXEC, options)
    mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, f"newinstance,ptmxmode=0666,mode=0620,max={config['terminals']}")
    show_read_only("/proc/sys", "/proc/sys")


def limit(values: dict[str, int]) -> None:
    for name, value in values.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    drop_bounding_set()


def give_up(seccomp: str) -> None:
    """Give up what is left of the privileges, and the system calls that no sandbox makes."""
    drop_capabilities()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user has cleared bubblewrap's
    filter_system_calls(base64.b64decode(seccomp))


if __name__ == "__main__":
    main()
