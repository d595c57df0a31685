"""No privileges and no way to any: capabilities, setuid programs, namespaces, devices, and the host kernel's calls."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import pytest

from kernel_sandbox import Mount, Session
from kernel_sandbox.sandbox.engines.system_calls import ALLOWED, CONDITIONAL, DENIED, parse
from tests.redteam.canaries import Canaries
from tests.redteam.cells import EACCES, EINVAL, ENOSYS, EPERM, armed, ask, attack

COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
SIGSYS = "ended with -31"
IN_CHILD = """
def in_child(work):
    "What `work` returns, in a process of its own: one that comes through might end the kernel."
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, str(work()).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 99)
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return int(told) if told else f"ended with {status}"

def call(*numbers):
    def work():
        ctypes.set_errno(0)
        result = libc.syscall(*map(ctypes.c_long, numbers))
        return ctypes.get_errno() if result == -1 else 0
    return in_child(work)
"""


@attack("Escape")
def test_no_capability_is_held_or_can_be(target: Session) -> None:
    found = ask(target, "answer(dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line))")
    sets = {name: found[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert set(sets.values()) == {"0" * 16}, sets
    raised = "answer([error(lambda: os.setuid(0)), libc.prctl(47, 2, 21, 0, 0)])"  # PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN
    assert ask(target, raised) in ([EPERM, -1], [EINVAL, -1])  # in a user's namespace nobody is root


@attack("Escape")
def test_user_is_neither_root_nor_the_hosts(target: Session) -> None:
    users = set(ask(target, "answer([*os.getresuid(), *os.getresgid(), *os.getgroups()])"))
    assert not users & {0, os.getuid()}
    assert len(users) == 1


@attack("PeerDoS")
def test_user_of_a_session_shares_no_limit_with_a_neighbour(engine: str) -> None:
    """inotify instances are counted per user id, 128 by default: whoever takes them all starves those with his id."""
    take = """
taken = []
while len(taken) < 3000 and (descriptor := libc.inotify_init()) >= 0:
    taken.append(descriptor)
answer(len(taken))
"""
    with armed(engine) as greedy, armed(engine) as neighbour:
        assert 8 <= ask(greedy, take) < 3000  # a share of a template's 128
        shared = engine == "bubblewrap" and os.getuid() != 0  # sandboxes have their owner's id then, and say so
        assert ask(neighbour, "answer(libc.inotify_init() >= 0)") or shared, "the neighbour was starved"
        users = [ask(session, "answer(os.getuid())") for session in (greedy, neighbour)]
        assert (users[0] != users[1]) or shared


@attack("Escape")
def test_setuid_program_of_a_mount_gives_no_privilege(engine: str, tmp_path: Path, canaries: Canaries) -> None:
    """A host directory may hold one; here it is a `cat` that would read what root alone may read."""
    tmp_path.chmod(0o755)
    secret, program = tmp_path / "secret", tmp_path / "cat"
    secret.write_text(canaries.token)
    secret.chmod(0o600)
    found = shutil.which("cat")
    assert found is not None
    shutil.copy(found, program)
    program.chmod(0o4755)
    with armed(engine, mounts=(Mount(tmp_path, "tools"),)) as session:
        run = "answer(subprocess.run([PROGRAM, '/mnt/input/tools/secret'], capture_output=True, text=True).stdout)"
        without = ask(session, run, PROGRAM="cat")
        assert ask(session, run, PROGRAM="/mnt/input/tools/cat") == without
    assert without == "" or os.getuid() != 0  # what belongs to a user, his bubblewrap's sandboxes can read


@attack("Escape")
def test_image_has_no_setuid_file(target: Session) -> None:
    search = """
found = []
for at, folders, names in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(at, name) not in ("/proc", "/sys")]
    for name in names:
        with contextlib.suppress(OSError):
            status = os.lstat(os.path.join(at, name))
            found += [os.path.join(at, name)] if stat.S_ISREG(status.st_mode) and status.st_mode & 0o6000 else []
answer(found)
"""
    assert ask(target, search) == []


@attack("Escape")
@pytest.mark.parametrize("kind", ["mnt", "pid", "net", "ipc", "uts", "cgroup"])
def test_namespace_is_the_sandboxs_own(target: Session, kind: str) -> None:
    inside = ask(target, "answer(os.readlink(f'/proc/self/ns/{KIND}'))", KIND=kind)
    assert inside != str(Path(f"/proc/self/ns/{kind}").readlink()), f"the {kind} namespace is the host's"


@attack("Escape")
def test_namespaces_cannot_be_made_or_entered(target: Session) -> None:
    number = {name: numbers()[name] for name in ("unshare", "setns", "clone", "clone3")}
    tried = f"""{IN_CHILD}
flags = {{"user": 0x10000000, "mount": 0x20000, "network": 0x40000000, "pid": 0x20000000, "cgroup": 0x02000000}}
found = {{f"unshare {{name}}": call(NUMBER["unshare"], flag) for name, flag in flags.items()}}
found |= {{f"clone {{name}}": call(NUMBER["clone"], flag | 17, 0, 0, 0, 0) for name, flag in flags.items()}}
found["clone3"] = call(NUMBER["clone3"], 0, 0)
held = os.open("/proc/self/ns/uts", 0)
found["setns"] = call(NUMBER["setns"], held, 0)
os.close(held)
answer(found)
"""
    found = ask(target, tried, NUMBER=number)
    assert {name: error for name, error in found.items() if error not in (EPERM, ENOSYS)} == {}


@attack("Escape")
def test_devices_are_the_harmless_few(target: Session) -> None:
    search = """
found = []
for at, _, names in os.walk("/dev"):
    for name in names:
        status = os.lstat(os.path.join(at, name))
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            found.append(os.path.join(at, name))
answer(found)
"""
    harmless = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "console", "pts/ptmx")}
    assert set(ask(target, search)) - harmless == set()


@attack("Escape")
def test_devices_and_fifos_cannot_be_made(target: Session) -> None:
    make = """
kinds = {"fifo": 0o010000, "memory": 0o020000, "disk": 0o060000}
answer({name: error(os.mknod, "/mnt/data/node", kind | 0o600, os.makedev(8, 0)) for name, kind in kinds.items()})
"""
    assert set(ask(target, make).values()) == {EPERM}


def numbers() -> dict[str, int]:
    """System calls of this machine by name."""
    tables = {**parse(ALLOWED), **parse(CONDITIONAL), **parse(DENIED)}
    return {name: number for name, found in tables.items() if (number := found[COLUMN]) is not None}


CALLS: dict[str, tuple[int, ...]] = {
    "io_uring_setup": (1, 0),
    "io_setup": (1, 0),
    "bpf": (0, 0, 0),
    "userfaultfd": (1,),  # UFFD_USER_MODE_ONLY, which needs no privilege
    "perf_event_open": (0, 0, -1, -1, 0),
    "ptrace": (0, 0, 0, 0),
    "process_vm_readv": (1, 0, 0, 0, 0, 0),
    "process_vm_writev": (1, 0, 0, 0, 0, 0),
    "kcmp": (1, 1, 0, 0, 0),
    "pidfd_getfd": (-1, 0, 0),
    "process_madvise": (-1, 0, 0, 0, 0),
    "add_key": (0, 0, 0, 0, 0),
    "request_key": (0, 0, 0, 0),
    "keyctl": (0, -3, 0),
    "mount": (0, 0, 0, 0, 0),
    "umount2": (0, 0),
    "pivot_root": (0, 0),
    "chroot": (0,),
    "fsopen": (0, 0),
    "fsmount": (-1, 0, 0),
    "open_tree": (-1, 0, 0),
    "move_mount": (-1, 0, -1, 0, 0),
    "mount_setattr": (-1, 0, 0, 0, 0),
    "open_by_handle_at": (-1, 0, 0),
    "name_to_handle_at": (-1, 0, 0, 0, 0),
    "init_module": (0, 0, 0),
    "finit_module": (-1, 0, 0),
    "delete_module": (0, 0),
    "syslog": (3, 0, 0),
    "clock_settime": (-1, 0),
    "settimeofday": (-1, -1),
    "sethostname": (0, -1),
    "quotactl": (-1, 0, 0, 0),
    "fanotify_init": (0, 0),
    "splice": (-1, 0, -1, 0, 0, 0),
    "vmsplice": (-1, 0, 0, 0),
    "tee": (-1, -1, 0, 0),
    "memfd_secret": (0,),
    "shmget": (0, 4096, 0o1600),
    "msgget": (0, 0o1600),
    "semget": (0, 1, 0o1600),
    "mq_open": (0, 0, 0, 0),
    "mbind": (0, 0, 0, 0, 0, 0),
    "migrate_pages": (0, 0, 0, 0),
    "modify_ldt": (0, 0, 0),
    "seccomp": (2, 0, 0),
    "sync": (),
    "syncfs": (-1,),
    "iopl": (3,),
    "ioperm": (0, 1, 1),
}


@attack("Escape")
@pytest.mark.parametrize("name", [name for name in CALLS if name in numbers()])
def test_system_call_is_refused(target: Session, name: str) -> None:
    arguments = (numbers()[name], *CALLS[name])
    assert ask(target, f"{IN_CHILD}\nanswer(call(*ARGUMENTS))", ARGUMENTS=arguments) in (EPERM, ENOSYS)


@attack("Escape")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="32-bit and x32 calls are a second door of x86_64 alone")
@pytest.mark.parametrize("door", ["int 0x80", "x32"])
def test_other_doors_to_the_kernel_are_shut(target: Session, door: str) -> None:
    tried = f"""{IN_CHILD}
import mmap
def int_0x80():
    # push rbx; mov eax, 20 (getpid); int 0x80; pop rbx; ret
    code = bytes.fromhex("53b814000000cd805bc3")
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    result = function()
    return -result if -4096 < result < 0 else 0
answer(call(0x40000000 | 39) if DOOR == "x32" else in_child(int_0x80))
"""
    assert ask(target, tried, DOOR=door) in (EPERM, ENOSYS, SIGSYS)


ORDERS = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C, "TIOCSETD": 0x5423}


@attack("Escape")
@pytest.mark.parametrize("high", [0, 1 << 32, 0x77 << 56], ids=["32 bits", "a high bit", "high bits"])
@pytest.mark.parametrize("order", ORDERS)
def test_terminal_cannot_be_typed_into(target: Session, order: str, high: int) -> None:
    """Neither typing nor other drivers of terminals; the kernel takes 32 bits of the order, whatever stands above."""
    asked = ask(
        target, f"{IN_CHILD}\nanswer(call(IOCTL, 0, ORDER, 0))", IOCTL=numbers()["ioctl"], ORDER=ORDERS[order] | high
    )
    assert asked == EPERM


@attack("HostDoS")
def test_processor_cannot_be_claimed(target: Session) -> None:
    """Neither real-time scheduling, which starves a host, nor a better priority than others have."""
    claim = """
answer([
    error(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
    error(os.sched_setscheduler, 0, os.SCHED_RR, os.sched_param(1)),
    error(os.setpriority, os.PRIO_PROCESS, 0, -5),
    error(lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-1000")),
])
"""
    assert set(ask(target, claim)) <= {EPERM, EACCES}
