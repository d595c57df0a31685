"""What the host's kernel holds of the profile: namespaces, mounts, and what is seen of the host."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from kernel_sandbox.sandbox.engines import environments
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.redteam.cells import ask, lock_on_a_device, strike, told_of_a_neighbour, told_of_the_host
from tests.redteam.without import seams
from tests.redteam.without.edits import (
    Config,
    edit_command,
    edit_config,
    edit_preparation,
    edit_prepare,
    edit_profile,
    edit_tmpfs,
    join_namespace,
    set_config,
)
from tests.redteam.without.removal import BOTH, Ground, Removal
from tests.redteam.without.rights import mounted

# Namespaces


def no_network(ground: Ground) -> None:
    set_config(ground, NetworkMode="host")
    edit_profile(ground, lambda options: options.update(network_disabled=False))
    join_namespace(ground, 0x40000000, "--unshare-net")


def reach_a_listener_of_the_host(ground: Ground) -> bool:
    ground.canaries.take_heard()
    with ground.session() as session:
        call = """
with socket.socket() as client:
    client.settimeout(3)
    if not error(client.connect, tuple(ADDRESS)): client.send(b"from the sandbox"); client.recv(100)
"""
        strike(session, call, ADDRESS=ground.canaries.tcp["tcp"]).raise_for_error()
    return ("tcp", b"from the sandbox") in ground.canaries.take_heard()


def see_a_process_of_the_host(ground: Ground) -> bool:
    look = """
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    with contextlib.suppress(OSError): found.append(HALF + OTHER in open(f"/proc/{pid}/cmdline").read())
answer(any(found))
"""
    token = ground.canaries.token
    with ground.session() as session:
        return bool(ask(session, look, HALF=token[:9], OTHER=token[9:]))


@contextlib.contextmanager
def shared_memory_of_the_host(text: bytes) -> Iterator[int]:
    """A System V segment that everybody on the host may read."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    identifier = libc.shmget(0, 4096, 0o1666)
    try:
        place = libc.shmat(identifier, None, 0)
        ctypes.memmove(place, text, len(text))
        libc.shmdt(ctypes.c_void_p(place))
        yield identifier
    finally:
        libc.shmctl(identifier, 0, None)  # IPC_RMID


def read_shared_memory_of_the_host(ground: Ground) -> bool:
    token = ground.canaries.token.encode()
    read = """
libc.shmat.restype = ctypes.c_void_p
place = libc.shmat(ID, None, 0o10000)
answer("" if place in (None, 2**64 - 1) else ctypes.string_at(place, SIZE).decode("latin-1"))
"""
    with shared_memory_of_the_host(token) as identifier, ground.session() as session:
        return bool(ask(session, read, ID=identifier, SIZE=len(token)) == token.decode())


def hosts_ipc(ground: Ground) -> None:
    set_config(ground, IpcMode="host")
    join_namespace(ground, 0x8000000, "--unshare-ipc")


def hosts_control_groups(ground: Ground) -> None:
    set_config(ground, CgroupnsMode="host")
    join_namespace(ground, 0x2000000, "--unshare-cgroup-try")


def own_hostname(ground: Ground) -> None:
    def change(command: list[str]) -> list[str]:
        place = command.index("--hostname")
        return command[:place] + command[place + 2 :]

    edit_command(ground, change)
    join_namespace(ground, 0x4000000, "--unshare-uts")


def learn_the_hosts_name(ground: Ground) -> bool:
    with ground.session() as session:
        return bool(ask(session, "answer(os.uname().nodename)") == socket.gethostname())


def learn_where_the_engine_keeps_it(ground: Ground) -> bool:
    with ground.session() as session:
        paths = [line.split(":", 2)[2] for line in ask(session, "answer(open('/proc/self/cgroup').read())").split()]
    return any("docker" in path or "kernel-sandbox" in path for path in paths)


# Mounts

ROOT_PLACES = "/var/tmp /run/lock /var/lock /run /var/mail /opt /usr/local /"
FILL_ROOT = """
written = []
for place in PLACES:
    with contextlib.suppress(OSError):
        path = place + "/" + NAME
        with open(path, "wb", 0) as file: file.write(b"x" * SIZE)
        written.append(path)
        break
answer(written)
"""


def writable_root(ground: Ground) -> None:
    set_config(ground, ReadonlyRootfs=False)

    def change(command: list[str]) -> list[str]:
        place = next(n for n, word in enumerate(command) if word == "--ro-bind" and command[n + 2] == "/")
        return [*command[:place], "--bind", *command[place + 1 :]]

    edit_command(ground, change)


def write_to_the_hosts_disk(ground: Ground) -> bool:
    """A megabyte beside the sandbox's own places: in the container's layer, or in the directory that all share."""
    name, size = f"filled-{ground.canaries.token[-8:]}", 1024 * 1024
    with ground.session() as session:
        written = ask(session, FILL_ROOT, PLACES=ROOT_PLACES.split(), NAME=name, SIZE=size)
        if ground.engine == "docker":
            label = f"org.kernel-sandbox.session={session.id}"
            (found,) = connect().api.containers(filters={"label": label}, size=True)
            return bool(found.get("SizeRw", 0) >= size)
    left = [environments.find("python").root / path.lstrip("/") for path in written]
    there = [path for path in left if path.exists()]
    for path in there:
        path.unlink()
    return bool(there)


def writable_mounts(ground: Ground) -> None:
    def writable(config: Config) -> None:
        for mount in config["Mounts"]:
            mount["ReadOnly"] = False

    edit_config(ground, writable)

    def bind(command: list[str]) -> list[str]:
        shown = [n for n, word in enumerate(command) if word == "--ro-bind" and command[n + 2].startswith("/mnt/")]
        return ["--bind" if n in shown else word for n, word in enumerate(command)]

    edit_command(ground, bind)


def change_a_directory_of_the_host(ground: Ground) -> bool:
    mount, shown = mounted(ground, 0, 0o644)
    shown.chmod(0o777)
    with ground.session(mounts=(mount,)) as session:
        strike(session, "error(lambda: open('/mnt/input/shown/new', 'w').close())").raise_for_error()
    return (shown / "new").exists()


def inodes_of_all(ground: Ground) -> None:
    """As on a machine that makes no overlay."""
    edit_prepare(ground, seams.NO_OVERLAY, "True")


def watch_a_neighbour(ground: Ground) -> bool:
    with ground.session() as one, ground.session() as other:
        return bool(told_of_a_neighbour(one, other))


def devices_inodes_of_all(ground: Ground) -> None:
    """As in a user namespace, where nobody makes a device."""
    edit_prepare(ground, seams.DEVICE_NODE, f"raise PermissionError; {seams.DEVICE_NODE.text}")


def hold_the_host_up_by_a_lock(ground: Ground) -> bool:
    with ground.session() as session:
        return lock_on_a_device(session)


def processors_of_the_host(ground: Ground) -> None:
    edit_prepare(ground, seams.NO_PROCESSORS, "True")


def masks_of_the_host(ground: Ground) -> None:
    """As bubblewrap can cover a file by itself."""
    honest = seams.BUBBLEWRAP_MASKS.current
    ground.replace(seams.BUBBLEWRAP_MASKS, lambda: [*honest(), "--ro-bind", "/dev/null", "/proc/version"])
    edit_preparation(ground, lambda config: config["masked"].remove("version"))


def see_what_the_host_opens(ground: Ground) -> bool:
    with ground.session() as session:
        return bool(told_of_the_host(session))


def writable_settings(ground: Ground) -> None:
    set_config(ground, ReadonlyPaths=[])


def open_a_lever_of_the_host(ground: Ground) -> bool:
    """Opened for writing, and not written to."""
    pull = "answer(error(lambda: os.close(os.open('/proc/sys/vm/drop_caches', os.O_WRONLY))))"
    with ground.session() as session:
        return bool(ask(session, pull) == 0)


def programs_in_places(ground: Ground) -> None:
    edit_tmpfs(ground, lambda options: options.replace(",noexec", ",exec"))
    edit_prepare(ground, seams.PLACE_FLAGS, seams.PLACE_FLAGS.text.replace(" | MS_NOEXEC", ""))


def run_a_program_that_it_wrote(ground: Ground) -> bool:
    plant = """
with open("/mnt/data/program", "w") as file: file.write("#!/bin/sh\\necho ran")
os.chmod("/mnt/data/program", 0o755)
try: answer(subprocess.run(["/mnt/data/program"], capture_output=True, text=True).stdout)
except OSError: answer("")
"""
    with ground.session() as session:
        return bool(ask(session, plant) == "ran\n")


def devices_in_places(ground: Ground) -> None:
    edit_tmpfs(ground, lambda options: options.replace(",nodev", ",dev"))
    edit_prepare(ground, seams.PLACE_FLAGS, seams.PLACE_FLAGS.text.replace(" | MS_NODEV", ""))


def read_a_device_that_it_made(ground: Ground) -> bool:
    """/dev/zero: with another number it would be the host's disk."""
    make = """
os.mknod("/mnt/data/device", 0o020666, os.makedev(1, 5))
answer(error(lambda: os.read(os.open("/mnt/data/device", os.O_RDONLY), 4)))
"""
    with ground.session() as session:
        return bool(ask(session, make) == 0)


def devices_of_the_host(ground: Ground) -> None:
    ground.replace(seams.BUBBLEWRAP_DEVICES, lambda: ["--dev-bind", "/dev", "/dev"])


def see_devices_of_the_host(ground: Ground) -> bool:
    search = """
found = []
for name in os.listdir("/dev"):
    status = os.lstat("/dev/" + name)
    found += [name] if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else []
answer(found)
"""
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "console"}
    with ground.session() as session:
        return bool(set(ask(session, search)) - harmless)


# What is seen of the host


def unmasked(ground: Ground) -> None:
    set_config(ground, MaskedPaths=[])
    ground.replace(seams.BUBBLEWRAP_MASKS, list)
    edit_preparation(ground, lambda config: config.update(masked=[]))


def read_the_hosts_command_line(ground: Ground) -> bool:
    with ground.session() as session:
        read = "try: answer(open('/proc/cmdline').read())\nexcept OSError: answer('')"
        return bool(ask(session, read) == Path("/proc/cmdline").read_text())


def hosts_environment(ground: Ground) -> None:
    honest = seams.KERNEL_ENVIRONMENT.current
    ground.replace(seams.KERNEL_ENVIRONMENT, lambda spec: {**os.environ, **honest(spec)})


def read_the_hosts_key(ground: Ground) -> bool:
    with ground.session() as session:
        return bool(ask(session, "answer(os.environ.get('KERNEL_SANDBOX_CANARY'))") == ground.canaries.token)


REMOVALS = {
    "no network": Removal(
        severity="Lateral",
        engines=BOTH,
        remove=no_network,
        succeeds=reach_a_listener_of_the_host,
        noticed="there are interfaces",
    ),
    # Not with bubblewrap: its --as-pid-1, and so the guest, needs the namespace.
    "pid namespace": Removal(
        severity="HostLeak",
        remove=lambda ground: set_config(ground, PidMode="host"),
        succeeds=see_a_process_of_the_host,
    ),
    # The filter refuses the calls of System V, too.
    "ipc namespace": Removal(
        severity="Lateral",
        engines=BOTH,
        remove=hosts_ipc,
        succeeds=read_shared_memory_of_the_host,
        also=("seccomp allow-list",),
    ),
    # Docker takes no name of its own for a container in the host's.
    "uts namespace": Removal(
        severity="HostLeak", engines=("bubblewrap",), remove=own_hostname, succeeds=learn_the_hosts_name
    ),
    "cgroup namespace": Removal(
        severity="HostLeak",
        engines=BOTH,
        remove=hosts_control_groups,
        succeeds=learn_where_the_engine_keeps_it,
    ),
    # Without a user of root's there is little in it that the sandbox's may write.
    "read-only root": Removal(
        severity="HostDoS",
        engines=BOTH,
        remove=writable_root,
        succeeds=write_to_the_hosts_disk,
        also=("not root", "inodes of its own"),
        noticed="possible: write /",
    ),
    "read-only mounts": Removal(
        severity="Escape",
        engines=BOTH,
        remove=writable_mounts,
        succeeds=change_a_directory_of_the_host,
        also=("inodes of its own",),
    ),
    # A container has an overlay of its own from the engine.
    "inodes of its own": Removal(
        severity="Lateral",
        engines=("bubblewrap",),
        remove=inodes_of_all,
        succeeds=watch_a_neighbour,
        noticed="makes no overlay",
    ),
    # A container's devices and masks are the engine's, and its /sys is another file system than the host's.
    "device inodes of its own": Removal(
        severity="HostDoS",
        engines=("bubblewrap",),
        remove=devices_inodes_of_all,
        succeeds=hold_the_host_up_by_a_lock,
        noticed="makes no devices",
    ),
    "processors copied": Removal(
        severity="HostLeak",
        engines=("bubblewrap",),
        remove=processors_of_the_host,
        succeeds=see_what_the_host_opens,
    ),
    "masks of its own": Removal(
        severity="HostLeak", engines=("bubblewrap",), remove=masks_of_the_host, succeeds=see_what_the_host_opens
    ),
    # The files are root's. bubblewrap covers them by itself, beside prepare.py.
    "kernel settings read-only": Removal(
        severity="Escape", remove=writable_settings, succeeds=open_a_lever_of_the_host, also=("not root",)
    ),
    "noexec mounts": Removal(
        severity="Escape",
        engines=BOTH,
        remove=programs_in_places,
        succeeds=run_a_program_that_it_wrote,
        noticed="lacks noexec",
    ),
    # To make one takes root, a capability, and a call that the filter refuses.
    "nodev mounts": Removal(
        severity="Escape",
        engines=BOTH,
        remove=devices_in_places,
        succeeds=read_a_device_that_it_made,
        also=("not root", "drop all capabilities", "seccomp allow-list"),
        noticed="nodev",
    ),
    # Docker's own /dev is the engine's, and nothing of the profile.
    "devices of its own": Removal(
        severity="Escape",
        engines=("bubblewrap",),
        remove=devices_of_the_host,
        succeeds=see_devices_of_the_host,
        also=("device inodes of its own",),
    ),
    "masked paths": Removal(
        severity="HostLeak",
        engines=BOTH,
        remove=unmasked,
        succeeds=read_the_hosts_command_line,
        noticed="readable: /proc/",
    ),
    "environment allow-list": Removal(severity="HostLeak", remove=hosts_environment, succeeds=read_the_hosts_key),
}
