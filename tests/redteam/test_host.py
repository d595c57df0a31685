"""The host's files, processes, environment and facts: nothing of them is seen from inside."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from pathlib import Path

import pytest

from kernel_sandbox import Mount, Session
from kernel_sandbox.sandbox.engines import environments
from tests.redteam.canaries import Canaries
from tests.redteam.cells import (
    EACCES,
    ENOENT,
    EPERM,
    EROFS,
    arm,
    armed,
    ask,
    attack,
    has_devices_of_the_host,
    lock_on_a_device,
    told_of_the_host,
)

READ_EVERYWHERE = """
places = ["", "/proc/1/root", "/proc/self/root", "/proc/self/cwd/../.."]
places += [line.split()[1] for line in open("/proc/mounts")]
found = []
for place in places:
    for path in PATHS:
        with contextlib.suppress(OSError):
            found.append(open(place + path).read())
answer(found)
"""
SEARCH_PROCESSES = """
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            content = open(f"/proc/{pid}/{name}", "rb").read().decode("utf-8", "replace")
            found += [content] if HALF + OTHER in content else []
answer(found)
"""
# In two parts, so that the cell's own source does not hold it.


@attack("HostLeak")
def test_files_of_the_host_are_not_there(target: Session, canaries: Canaries) -> None:
    assert ask(target, READ_EVERYWHERE, PATHS=canaries.files) == []


@attack("HostLeak")
def test_working_directory_of_the_host_is_not_there(engine: str, canaries: Canaries) -> None:
    """Neither by the path that it has, nor as what an inherited working directory would lead to."""
    with contextlib.chdir(canaries.directory), armed(engine) as session:
        name = Path(canaries.files[-1]).name
        assert Path(name).read_text() == canaries.token
        assert ask(session, READ_EVERYWHERE, PATHS=[*canaries.files, name, f"/{name}"]) == []


@attack("HostLeak")
def test_processes_of_the_host_are_not_seen(target: Session, canaries: Canaries) -> None:
    half = len(canaries.token) // 2
    assert ask(target, SEARCH_PROCESSES, HALF=canaries.token[:half], OTHER=canaries.token[half:]) == []


@attack("HostLeak")
def test_environment_of_the_host_is_not_inside(target: Session, canaries: Canaries) -> None:
    assert os.environ["KERNEL_SANDBOX_CANARY"] == canaries.token
    environment = ask(target, "answer(dict(os.environ))")
    assert canaries.token not in str(environment)
    shared = {name for name, value in os.environ.items() if environment.get(name) == value}
    assert shared <= {"LANG", "TERM", "TZ", "PATH", "HOME", "SHLVL", "PWD"}


@attack("HostLeak")
def test_name_of_the_host_is_not_told(target: Session) -> None:
    assert ask(target, "answer([socket.gethostname(), os.uname().nodename])") == ["sandbox", "sandbox"]
    assert socket.gethostname() != "sandbox"


FACTS = """
/proc/cmdline /proc/config.gz /proc/kallsyms /proc/interrupts /proc/version /proc/pressure /proc/kcore /proc/keys
/proc/key-users /proc/timer_list /proc/modules /proc/iomem /proc/ioports /proc/diskstats /proc/partitions /proc/swaps
/proc/sys/kernel/random/boot_id /proc/sys/kernel/random/entropy_avail /proc/sys/kernel/pty/nr /proc/schedstat
/proc/sys/fs/file-nr /proc/sys/fs/inode-nr /proc/sys/fs/inode-state /proc/sys/fs/dentry-state /proc/sys/fs/aio-nr
/proc/sys/fs/quota /sys/devices/system/node /sys/devices/virtual/bdi
/proc/slabinfo /proc/vmallocinfo /proc/sysvipc /proc/bus /proc/irq /proc/acpi /proc/scsi /proc/kpageflags
/sys/firmware /sys/kernel /sys/module /sys/block /sys/bus /sys/class /sys/devices/virtual/dmi /sys/power
/etc/resolv.conf
"""
TELLS = """
def tells(path):
    if os.path.isdir(path):
        return [os.path.join(at, name) for at, _, names in os.walk(path) for name in names]
    with open(path, "rb") as file:
        return [file.read(40).decode("latin-1")]
try:
    answer(sorted(tells(PATH))[:5])
except OSError as exc:
    answer([])
"""


@attack("HostLeak")
@pytest.mark.parametrize("path", FACTS.split())
def test_fact_of_the_host_is_masked(target: Session, path: str) -> None:
    assert [told for told in ask(target, TELLS, PATH=path) if told] == []


@attack("HostLeak")
def test_files_that_the_host_opens_are_not_told(target: Session) -> None:
    devices = ["/dev/full", "/dev/null"] if has_devices_of_the_host(target) else []
    assert told_of_the_host(target) == devices


@attack("HostDoS")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"])
def test_lock_on_a_device_does_not_hold_on_the_host(target: Session, device: str) -> None:
    """Nor would hundreds of thousands of them make each close there slow."""
    assert lock_on_a_device(target, device) == has_devices_of_the_host(target)


@attack("HostLeak")
def test_user_of_the_host_is_not_told_by_a_mount(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no XDG_RUNTIME_DIR names a place, the sockets' directory is in /tmp, under a name of each user's own."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with armed(engine) as session:
        lines = ask(session, "answer(open('/proc/self/mountinfo').read().split('\\n'))")
        shared = [line.split()[3] for line in lines if "/opt/kernel-sandbox/run" in line]
    assert shared
    for place in shared:
        assert str(os.getuid()) not in re.split(r"[/-]", place), place


@attack("HostLeak")
@pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)
def test_places_of_the_host_are_not_told(engine: str, tmp_path: Path) -> None:
    """Neither where a mount comes from, nor the cache with the root directory, which may be in somebody's home."""
    (tmp_path / "one.csv").write_text("1")
    for path in (tmp_path, tmp_path / "one.csv"):
        path.chmod(0o755)
    mounts = (Mount(tmp_path, "all"), Mount(tmp_path / "one.csv", "one"))
    with armed(engine, mounts=mounts) as session:
        told = ask(session, "answer(open('/proc/self/mountinfo').read() + open('/proc/self/mounts').read())")
        assert ask(session, "answer([os.listdir('/mnt/input/all'), open('/mnt/input/one').read()])") == [
            ["one.csv"],
            "1",
        ]
    assert tmp_path.name not in told
    assert environments.prefix().name not in told.replace("/opt/kernel-sandbox/run", "")


@attack("HostLeak")
def test_origin_of_the_interpreter_is_not_told(target: Session) -> None:
    """Which may be somebody's home: neither by its settings nor by what its programs and libraries hold as text."""
    look = """
import sysconfig
found = [name for name, value in sysconfig.get_config_vars().items() if ORIGIN in str(value)]
for place in {sys.base_prefix, os.path.dirname(os.__file__), "/lib", "/usr/lib"}:
    for at, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError):
                with open(os.path.join(at, name), "rb") as file: content = file.read()
                found += [name] if ORIGIN.encode() in content else []
answer(sorted(found)[:9])
"""
    origin = str(Path(sys.base_prefix).resolve())
    if origin == "/usr":
        pytest.skip("this Python is the system's")
    assert ask(target, look, ORIGIN=origin) == []


SERVICES = """
/run/docker.sock /var/run/docker.sock /run/containerd/containerd.sock /run/podman/podman.sock /run/crio/crio.sock
/run/dbus/system_bus_socket /run/systemd/private /run/systemd/journal/socket /dev/log /var/run/libvirt/libvirt-sock
/tmp/.X11-unix/X0 /run/user/0/bus /run/snapd.socket
"""


@attack("Escape")
def test_services_of_the_host_have_no_socket_inside(target: Session) -> None:
    reach = """
reached = []
for path in PATHS:
    with socket.socket(socket.AF_UNIX) as client:
        reached += [path] if error(client.connect, path) == 0 else []
answer(reached)
"""
    assert ask(target, reach, PATHS=SERVICES.split()) == []


LEVERS = """
/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/fs/binfmt_misc/register /proc/sys/vm/drop_caches
/proc/sys/net/ipv4/ip_forward /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper
/sys/kernel/mm/transparent_hugepage/enabled /sys/fs/cgroup/memory/release_agent /sys/fs/cgroup/release_agent
/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max /sys/fs/cgroup/cgroup.procs
/proc/1/oom_score_adj /proc/1/mem /proc/acpi/wakeup /dev/mem /dev/kmsg /dev/port
"""


@attack("Escape")
def test_levers_of_the_host_cannot_be_opened(target: Session) -> None:
    """They are opened for writing and never written to: where it succeeds, nothing happens to the machine."""
    pull = "answer([path for path in PATHS if error(lambda: os.close(os.open(path, os.O_WRONLY))) == 0])"
    opened = ask(target, pull, PATHS=LEVERS.split())
    if target.engine == "bubblewrap" and os.getuid() != 0:
        # PID 1's own, which belong to the root of a user's namespace: a restart compares what they hold.
        opened = [path for path in opened if not path.startswith("/proc/1/")]
    assert opened == []


@attack("HostDoS")
def test_root_file_system_takes_nothing(target: Session) -> None:
    fill = """
taken, errors = [], set()
own = [line.split()[1] for line in open("/proc/mounts") if line.split()[2] == "tmpfs" and "rw" in line.split()[3]]
for at, folders, _ in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(at, name) not in ("/proc", "/sys", *own)]
    path = os.path.join(at, ".kernel-sandbox-filled")
    found = error(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)))
    errors.add(found)
    if not found:
        os.unlink(path)
        taken.append(at)
answer([taken, sorted(errors)])
"""
    taken, errors = ask(target, fill)
    assert taken == []
    assert set(errors) <= {EPERM, ENOENT, EACCES, EROFS}


@attack("HostDoS")
def test_host_keeps_no_file_that_a_cell_can_write(engine: str) -> None:
    """In Docker the sockets' directory is on the host's disk, and no limit of the sandbox's counts what is there."""
    look = """
place = "/opt/kernel-sandbox/run"
found = [os.path.join(at, name) for at, folders, names in os.walk(place) for name in (*folders, *names)]
files = [path for path in found if not stat.S_ISSOCK(os.lstat(path).st_mode)]
answer([files, error(lambda: os.close(os.open(files[0] + "/new", os.O_WRONLY | os.O_CREAT)))])
"""
    with armed(engine) as session:
        for generation in (1, 2):
            files, refused = ask(session, look)
            assert files == [f"/opt/kernel-sandbox/run/{generation}"]
            assert refused in (EACCES, EROFS)
            on_host = [path for path in session.connection_file.parent.glob("k/**/*") if not path.is_socket()]
            assert [path.name for path in on_host] == ([str(generation)] if engine == "docker" else [])
            session.restart()
            arm(session)


@attack("HostDoS")
def test_writable_places_hold_no_programs_and_no_devices(target: Session) -> None:
    plant = """
planted = []
for place in PLACES:
    path = f"{place}/program"
    with open(path, "w") as file: file.write("#!/bin/sh\\necho ran")
    os.chmod(path, 0o6755)
    with contextlib.suppress(OSError):
        planted.append(subprocess.run([path], capture_output=True, text=True).stdout)
    os.unlink(path)
    with contextlib.suppress(OSError):
        os.mknod(path, 0o020666, os.makedev(1, 1)); planted.append(path)
answer(planted)
"""
    assert ask(target, plant, PLACES=["/mnt/data", "/tmp", "/home/sandbox", "/dev/shm"]) == []
