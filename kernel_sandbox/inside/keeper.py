"""Makes the walls in which a template imports an image's modules, and gives each session of it a user id.

Runs on the host, with the host's own interpreter, and never anything of an image. It makes a file system that is the
image's, as far as it may as whoever started it; then it leaves the host's user for good: in a user namespace of its own
it has privileges over that namespace alone, and of all ids of the machine only those of sandboxes are there. From it
the template is forked, without any privilege, as process 1 of a pid namespace: with it all of its sessions end.

The template sees no process: its /proc is that of a namespace which has ended. What it needs for new namespaces is
there unseen: below HIDDEN a /proc without masks (a new one may be mounted only where one is, mount_namespaces(7)),
and in SLOTS what no user namespace may make: device nodes, and small file systems in which the host makes directories.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import stat
import sys
from typing import Any

from kernel_sandbox.inside import command_line, confinement
from kernel_sandbox.inside.confinement import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, check, libc

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
OTHERS = 0x2000000 | 0x4000000 | 0x8000000 | 0x40000000
"""CLONE_NEWCGROUP, NEWUTS, NEWIPC and NEWNET (linux/sched.h)."""
MS_PRIVATE = 1 << 18
PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 38, 4
CONTROL, DOOR, BOOT = 3, 4, 5
"""Descriptors: to the host; the template's to the host; what the template reads first."""
NEW = "/tmp/new"
HIDDEN, HOME = "/mnt", "/home/sandbox"
SLOTS, IMAGE = "/run", "/run/image"
SOCKETS = "size=1m,nr_inodes=100,mode=0755"
LINE = 4096
NOTHING = MS_NOSUID | MS_NODEV | MS_NOEXEC


def run(config: dict[str, Any]) -> None:
    """Make the walls, start the template in them, and serve the host until it goes away or the template ends."""
    command_line.show_as("kernel-sandbox-keeper")
    os.umask(0o022)  # the host's may let nobody else see what is made here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _close_the_hosts()
    control = socket.socket(fileno=CONTROL)
    host = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    nested, user = config["nested"], config["user"]
    if nested:
        maps = (("setgroups", "deny"), ("uid_map", f"0 {os.getuid()} 1"), ("gid_map", f"0 {os.getgid()} 1"))
        check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | OTHERS), "unshare")
        for name, text in maps:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    else:
        check(libc.unshare(CLONE_NEWNS), "unshare")
    _make_root(config)
    if not nested:
        os.setgroups([])
        os.setresgid(config["owner"], config["owner"], config["owner"])
        os.setresuid(config["owner"], config["owner"], config["owner"])
        check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | OTHERS), "unshare")
        _ask(control, {"map": os.getpid()})
    check(libc.unshare(CLONE_NEWPID), "unshare")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    template = os.fork()
    if template == 0:
        for descriptor in (host, control.detach(), ours.detach()):
            os.close(descriptor)
        _become_template(config, theirs)
    for descriptor in (0, DOOR, BOOT, theirs.detach()):
        os.close(descriptor)
    if nested and ours.recv(LINE):
        _map(host, template, user, 0)
        with open(os.open(f"{template}/ns/user", os.O_RDONLY, dir_fd=host), "rb") as namespace:
            check(libc.setns(namespace.fileno(), CLONE_NEWUSER), "setns")
        ours.send(b"done")
    ours.close()
    control.send(json.dumps({"template": template}).encode())
    _serve(control, host, os.pidfd_open(template))


def _close_the_hosts() -> None:
    """Close what whoever started this has left open for its children, wherever it stands."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > BOOT:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))


def _ask(control: socket.socket, order: dict[str, Any]) -> None:
    control.send(json.dumps(order).encode())
    if control.recv(LINE) != b"done":
        os._exit(0)


def _bind(source: str, place: str, flags: int = MS_BIND | MS_REC) -> None:
    check(libc.mount(os.fsencode(source), os.fsencode(place), None, ctypes.c_ulong(flags), None), f"bind {place}")


def _make_root(config: dict[str, Any]) -> None:
    """Make the template's file system, and become a process that sees no other."""
    check(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None), "make / private")
    image = os.open(config["root"], os.O_PATH | os.O_CLOEXEC)  # which may be below /tmp
    confinement.mount("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "size=1m,mode=0755")
    os.mkdir(NEW)
    _bind(f"/proc/self/fd/{image}", NEW)
    confinement.hold_read_only(NEW, 0)
    _make_slots(config, image)
    os.close(image)
    confinement.mount("tmpfs", f"{NEW}/sys", NOTHING, "size=4m,mode=0755")
    os.makedirs(NEW + confinement.PROCESSORS)
    if os.path.isdir(confinement.PROCESSORS):
        _bind(confinement.PROCESSORS, NEW + confinement.PROCESSORS)
    _mount_empty_proc(f"{NEW}{HIDDEN}/data", f"{NEW}/proc")
    confinement.mount("tmpfs", NEW + HIDDEN, NOTHING | MS_RDONLY, "size=4k,mode=0755")
    user = 0 if config["nested"] else config["user"]  # before it enters its own namespace
    confinement.mount("tmpfs", NEW + HOME, NOTHING, f"size=4m,nr_inodes=1000,mode=0700,uid={user},gid={user}")
    os.chdir(NEW)
    check(libc.pivot_root(b".", b"."), "pivot_root")
    confinement.leave(".")
    os.chdir("/")
    confinement.copy_processors()
    for name in config["masked_directories"]:
        confinement.mount("tmpfs", f"/proc/{name}", NOTHING | MS_RDONLY, "size=4k,mode=0555")
    for name in config["masked"]:
        _bind("/dev/null", f"/proc/{name}", MS_BIND)


def _make_slots(config: dict[str, Any], image: int) -> None:
    """Make what each session gets of devices, and its place for sockets; the first of them is the template's own."""
    confinement.mount("tmpfs", NEW + SLOTS, MS_NOSUID | MS_NOEXEC, "size=1m,mode=0755")
    for number in range(config["slots"] + 1):
        devices, sockets = f"{NEW}{SLOTS}/{number}/dev", f"{NEW}{SLOTS}/{number}/sockets"
        os.makedirs(sockets)
        confinement.mount("tmpfs", sockets, NOTHING, SOCKETS)
        if number and config["nested"]:
            continue  # all have the host's own devices
        os.mkdir(devices)
        for name in ("shm", "pts"):
            os.mkdir(f"{devices}/{name}")
        for name, target in config["links"].items():
            os.symlink(target, f"{devices}/{name}")
        for name in config["devices"]:
            _make_device(name, f"{devices}/{name}", nested=config["nested"])
    # The image once more, with nothing mounted in it: of what has, no overlay is made in another user namespace.
    os.mkdir(NEW + IMAGE)
    _bind(f"/proc/self/fd/{image}", NEW + IMAGE, MS_BIND)
    confinement.hold_read_only(NEW + IMAGE, 0)
    flags = ctypes.c_ulong(MS_BIND | confinement.MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC)
    check(libc.mount(None, os.fsencode(NEW + SLOTS), None, flags, None), "make the slots read-only")
    _bind(f"{NEW}{SLOTS}/0/dev", f"{NEW}/dev")


def _make_device(name: str, place: str, *, nested: bool) -> None:
    if nested:  # in a user namespace nobody makes one
        with open(place, "w"):
            pass
        _bind(f"/dev/{name}", place, MS_BIND)
        return
    of_the_host = os.stat(f"/dev/{name}")
    os.mknod(place, stat.S_IFCHR, of_the_host.st_rdev)
    os.chmod(place, stat.S_IMODE(of_the_host.st_mode))


def _mount_empty_proc(*places: str) -> None:
    """Mount the /proc of a pid namespace that has ended: what is the machine's is there, and no process."""
    first = os.fork()
    if first == 0:
        status = 1
        try:
            check(libc.unshare(CLONE_NEWPID), "unshare")
            second = os.fork()
            if second == 0:
                for place in places:
                    confinement.mount("proc", place, NOTHING)
                status = 0
            else:
                status = os.waitstatus_to_exitcode(os.waitpid(second, 0)[1])
        finally:
            os._exit(status)
    if os.waitpid(first, 0)[1]:
        sys.exit("no /proc can be mounted")


def _become_template(config: dict[str, Any], keeper: socket.socket) -> None:
    """Give all up that a template must not have, and run it."""
    user = config["user"]
    try:
        check(libc.sethostname(b"sandbox", 7), "sethostname")
        os.setsid()
        confinement.drop_bounding_set()
        if config["nested"]:
            # Below the namespace that owns the mounts. It is mapped from outside: here is no /proc with this process.
            check(libc.unshare(CLONE_NEWUSER), "unshare")
            keeper.send(b"map")
            keeper.recv(LINE)
            confinement.drop_bounding_set()  # a new namespace begins with all of it
        else:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        for name, value in config["rlimits"].items():
            resource.setrlimit(getattr(resource, name), (value, value))
        confinement.drop_capabilities()
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        libc.prctl(confinement.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.dup2(BOOT, 0)
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        os.closerange(DOOR + 1, 256)
        os.set_inheritable(DOOR, True)
        confinement.filter_system_calls(base64.b64decode(config["seccomp"]))
        os.execve(config["command"][0], config["command"], config["env"])
    except BaseException as exc:  # noqa: BLE001 - whatever it is, nothing but the template goes on from here
        os.write(2, f"{exc}\n".encode())
    finally:
        os._exit(1)


def _map(host: int, process: int, inside: int, outside: int) -> None:
    for name in ("uid_map", "gid_map"):
        with open(os.open(f"{process}/{name}", os.O_WRONLY, dir_fd=host), "w") as file:
            file.write(f"{inside} {outside} 1")


def _serve(control: socket.socket, host: int, template: int) -> None:
    """Map users as the host asks for it: the process that wrote must be the namespace's parent (user_namespaces(7)).

    Ends with the host, and with the template, of which this is a descriptor (pidfd_open(2)).
    """
    asked = select.poll()
    for descriptor in (control.fileno(), template):
        asked.register(descriptor, select.POLLIN)
    while True:
        if template in (descriptor for descriptor, _ in asked.poll()):
            os._exit(0)
        message = control.recv(LINE)
        if not message:
            os._exit(0)
        order = json.loads(message)
        answer = b"done"
        try:
            _map(host, order["map"], order["inside"], order["outside"])
        except OSError as exc:
            answer = str(exc).encode()
        control.send(answer)
