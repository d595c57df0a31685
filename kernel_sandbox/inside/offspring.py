"""What is forked from a template: a monitor in namespaces of its own, and below it PID 1 of one sandbox.

The monitor waits for the host before each step: until it is in the sandbox's control group, and until its user
namespace has its user; then both wait until the host has looked at what they hold. The monitor tells how PID 1 ends,
as bubblewrap does, and PID 1 ends with it.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import gc
import json
import os
import signal
import socket
import struct
import sys
import traceback
from typing import Any

from kernel_sandbox.inside import common_memory, confinement, main, randomness
from kernel_sandbox.inside.confinement import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC, check, libc

NAMESPACES = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h)."""
NOTHING = MS_NOSUID | MS_NODEV | MS_NOEXEC
LINE = 4096
SYS = "/mnt"
"""Where /sys is made, before it is moved."""
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
STANDARD, TALK = (0, 1, 2), 3


def run(order: dict[str, Any], descriptors: list[int]) -> None:
    """Become the monitor, and fork PID 1. Never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    _keep_only(descriptors)
    host = socket.socket(fileno=TALK)
    _step(host, {"monitor": True})
    check(libc.unshare(NAMESPACES), "unshare")
    confinement.set_dumpable(True)  # so that the keeper may open its maps, which are not root's then
    _step(host, {"unshared": True})
    confinement.set_dumpable(False)
    before, after = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)  # the template's: PID 1 makes another
    first = os.fork()
    if first == 0:
        for descriptor in (after, null):
            os.close(descriptor)
        _become_first(order, host, before)
    os.close(before)
    _give_up(order, null)
    # Both are seen as they stay, so each waits for a "go" of its own; PID 1 speaks when the other has spoken.
    host.send(json.dumps({"watching": True}).encode())
    os.close(after)
    _await(host)
    confinement.set_dumpable(False)
    status = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    host.send(json.dumps({"status": status if status >= 0 else 128 - status}).encode())
    os._exit(0)


def _keep_only(descriptors: list[int]) -> None:
    """Have the descriptors that came with the order at 0 to 3, and no other."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in descriptors]
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number)
    os.closerange(TALK + 1, 65536)


def _give_up(order: dict[str, Any], null: int) -> None:
    """Have the monitor hold no more than its sandbox does: /dev/null, and a word for the host."""
    for descriptor in STANDARD:
        os.dup2(null, descriptor)
    os.close(null)
    confinement.drop_bounding_set()
    confinement.drop_capabilities()
    confinement.filter_system_calls(base64.b64decode(order["seccomp"]))
    if order["shared_devices"]:  # who is not root on the host sees what it holds only so
        confinement.set_dumpable(True)


def _step(host: socket.socket, word: dict[str, Any]) -> None:
    """Report a step to the host, and wait for its order to go on."""
    host.send(json.dumps(word).encode())
    _await(host)


def _await(host: socket.socket) -> None:
    if host.recv(LINE) != b"go":
        os._exit(1)


def _become_first(order: dict[str, Any], host: socket.socket, monitor: int) -> None:
    try:
        try:
            shared = confine(order)
        except SystemExit as exc:
            host.send(json.dumps({"failed": str(exc)[: LINE // 2]}).encode())
            os._exit(1)
        if order["shared_devices"]:  # who is not root on the host sees what it holds only so
            confinement.set_dumpable(True)
        os.read(monitor, 1)  # until it has closed its end
        os.close(monitor)
        _step(host, {"confined": shared})
        confinement.set_dumpable(False)
        host.close()
        _forget_the_template()
        gc.enable()
        main.run()
    except BaseException:  # noqa: BLE001 - whatever it is, the template does not go on from here
        traceback.print_exc()
    finally:
        os._exit(1)


def confine(order: dict[str, Any]) -> list[str]:
    """Make this process PID 1 of a sandbox as confinement.py does, and return what it could not make this sandbox's."""
    user = order["user"]
    os.setgroups([]) if order["groups"] else None
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    check(libc.sethostname(b"sandbox", 7), "sethostname")
    _raise_loopback()
    umask = os.umask(0o022)
    confinement.mount("proc", "/proc", NOTHING)
    for name in order["masked_directories"]:
        confinement.mount("tmpfs", f"/proc/{name}", NOTHING | MS_RDONLY, "size=4k,mode=0555")
    _make_devices(order["slot_devices"])
    _make_sys(order["memory_view"])
    shared = confinement.take_own_root({}, order["image"], {order["slot_sockets"]: order["sockets"]})
    if shared:
        sys.exit("no overlay can be made")
    confinement.furnish(order, order["counts"])
    os.umask(umask)
    confinement.limit(order["rlimits"])
    confinement.give_up(order["seccomp"])
    return ["/dev"] if order["shared_devices"] else []


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as asking:
        fcntl.ioctl(asking, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP | IFF_RUNNING))


def _bind(source: str, place: str) -> None:
    flags = ctypes.c_ulong(MS_BIND | MS_REC)
    check(libc.mount(source.encode(), place.encode(), None, flags, None), f"bind {place}")


def _make_devices(slot: str) -> None:
    _bind(slot, "/dev")
    flags = ctypes.c_ulong(MS_BIND | confinement.MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC)
    check(libc.mount(None, b"/dev", None, flags, None), "make /dev read-only")


def _make_sys(memory_view: list[str] | None) -> None:
    """Show the processors, and the group of the sandbox's own memory: it is the root of the cgroup namespace here."""
    confinement.mount("tmpfs", SYS, NOTHING, "size=64k,mode=0755")
    os.makedirs(f"{SYS}/fs/cgroup")
    os.makedirs(SYS + confinement.PROCESSORS.removeprefix("/sys"))
    if os.path.isdir(confinement.PROCESSORS):
        _bind(confinement.PROCESSORS, SYS + confinement.PROCESSORS.removeprefix("/sys"))
    if memory_view is not None:
        kind, place, options = memory_view
        os.makedirs(SYS + place.removeprefix("/sys"), exist_ok=True)
        source = kind.encode()
        target = (SYS + place.removeprefix("/sys")).encode()
        flags = ctypes.c_ulong(NOTHING | MS_RDONLY)
        check(libc.mount(source, target, source, flags, options.encode()), f"mount {place}")
    confinement.hold_read_only(SYS, MS_NOEXEC)
    confinement.move(SYS, "/sys")


def _forget_the_template() -> None:
    """Draw nothing that another sandbox of this template draws, and share no memory with one."""
    common_memory.renew()
    randomness.renew()
    modules: dict[str, Any] = dict(sys.modules)
    if uuid := modules.get("uuid"):
        uuid._node = None
    if multiprocessing := modules.get("multiprocessing.process"):
        multiprocessing.current_process().authkey = os.urandom(32)
