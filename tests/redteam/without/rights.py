"""What the host's kernel holds of the profile: users, capabilities, and the calls that it takes."""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from kernel_sandbox import FileError, Mount
from kernel_sandbox.sandbox.engines.seccomp import docker_profile
from kernel_sandbox.sandbox.engines.system_calls import ALLOWED, CONDITIONAL, DENIED, parse
from tests.redteam import kernel_side
from tests.redteam.cells import EPERM, ask
from tests.redteam.without import seams
from tests.redteam.without.edits import Config, edit_config, edit_guest, edit_preparation, edit_prepare, let_through
from tests.redteam.without.removal import BOTH, Ground, Removal

COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
IN_CHILD = """
def in_child(work):
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


def number(name: str) -> int:
    found = {**parse(ALLOWED), **parse(CONDITIONAL), **parse(DENIED)}[name][COLUMN]
    assert found is not None
    return found


# Privileges


def root(ground: Ground) -> None:
    ground.replace(seams.USER_RANGE, (0, 1))


def one_user_for_all(ground: Ground) -> None:
    ground.replace(seams.USER_RANGE, (1_999_999_999, 2_000_000_000))


def starve_a_neighbour(ground: Ground) -> bool:
    """inotify instances are counted per user id."""
    take = """
taken = []
while len(taken) < 3000 and (descriptor := libc.inotify_init()) >= 0: taken.append(descriptor)
answer(len(taken))
"""
    with ground.session() as greedy, ground.session() as neighbour:
        assert ask(greedy, take) >= 8  # a share of a template's 128
        return bool(ask(neighbour, "answer(libc.inotify_init() == -1)"))


def keep_capabilities(ground: Ground) -> None:
    edit_config(ground, lambda config: config.pop("CapDrop"))
    edit_prepare(ground, seams.BOUNDING_SET, "")
    edit_prepare(ground, seams.CAPABILITIES, "")


def mounted(ground: Ground, user: int, mode: int) -> tuple[Mount, Path]:
    """A directory of the host with a file `secret` of a user that nobody else may read."""
    shown = ground.path / "shown"
    shown.mkdir()
    for path in (ground.path, shown):
        path.chmod(0o755)
    secret = shown / "secret"
    secret.write_text(ground.canaries.token)
    secret.chmod(mode)
    os.chown(secret, user, user)
    return Mount(shown, "shown"), shown


READ_SECRET = """
try: answer(open("/mnt/input/shown/secret").read())
except OSError: answer("")
"""


def read_what_only_root_may(ground: Ground) -> bool:
    mount, _ = mounted(ground, 0, 0o600)
    with ground.session(mounts=(mount,)) as session:
        return bool(ask(session, READ_SECRET) == ground.canaries.token)


def read_what_only_another_user_may(ground: Ground) -> bool:
    """What CAP_DAC_OVERRIDE lets through; the user id 0 alone does not."""
    mount, _ = mounted(ground, 12_345, 0o600)
    with ground.session(mounts=(mount,)) as session:
        return bool(ask(session, READ_SECRET) == ground.canaries.token)


def _edit_security(ground: Ground, change: Any) -> None:
    edit_config(ground, lambda config: config.update(SecurityOpt=list(change(config["SecurityOpt"]))))


def new_privileges(ground: Ground) -> None:
    _edit_security(ground, lambda options: [option for option in options if option != "no-new-privileges"])


def read_through_a_setuid_program(ground: Ground) -> bool:
    """A `cat` of root's in a directory of the host reads for the cell what root alone may read."""
    mount, shown = mounted(ground, 0, 0o600)
    shutil.copy(shutil.which("cat") or "/bin/cat", shown / "cat")
    (shown / "cat").chmod(0o4755)
    run = "done = subprocess.run([D + '/cat', D + '/secret'], capture_output=True, text=True)\nanswer(done.stdout)"
    with ground.session(mounts=(mount,)) as session:
        return bool(ask(session, run, D=mount.target) == ground.canaries.token)


# System calls

EVERYTHING = "BgAAAAAA/38="
"""A filter of one instruction: RET ALLOW."""


def unfiltered(ground: Ground) -> None:
    def change(options: list[str]) -> list[str]:
        return [*(option for option in options if not option.startswith("seccomp=")), "seccomp=unconfined"]

    _edit_security(ground, change)
    edit_preparation(ground, lambda config: config.update(seccomp=EVERYTHING))
    allow_user_namespaces(ground)


def allow_user_namespaces(ground: Ground) -> None:
    """Lift what a template's sandboxes have beside the filter."""
    ground.replace(seams.TEMPLATE_COUNTS, lambda: {"max_user_namespaces": 100})


def make_a_user_namespace(ground: Ground) -> bool:
    """In it a process has every capability, and with them most of the host kernel's code before it."""
    with ground.session() as session:
        return bool(ask(session, f"{IN_CHILD}\nanswer(call(N, 0x10000000))", N=number("unshare")) == 0)


def any_socket(ground: Ground) -> None:
    let_through(ground, "socket")


def open_a_socket_to_the_hypervisor(ground: Ground) -> bool:
    """AF_VSOCK reaches past every network namespace. It is made, and not connected to anything."""
    with ground.session() as session:
        return bool(ask(session, "answer(error(lambda: socket.socket(40, socket.SOCK_STREAM).close()))") == 0)


def other_architectures(ground: Ground) -> None:
    def change(options: list[str]) -> list[str]:
        profile = json.loads(docker_profile())
        profile["architectures"] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
        # 32-bit calls on sockets are one call, for which libseccomp cannot have these rules.
        profile["syscalls"] = [entry for entry in profile["syscalls"] if not entry["names"][0].startswith("socket")]
        profile["syscalls"].append({"names": ["socket", "socketpair"], "action": "SCMP_ACT_ALLOW", "args": []})
        return [*(option for option in options if not option.startswith("seccomp=")), f"seccomp={json.dumps(profile)}"]

    _edit_security(ground, change)

    def any_architecture(config: Config) -> None:
        program = base64.b64decode(config["seccomp"])
        config["seccomp"] = base64.b64encode(program[3 * 8 :]).decode()  # without the look at the architecture

    edit_preparation(ground, any_architecture)
    honest = seams.TEMPLATE_FILTER.current
    ground.replace(seams.TEMPLATE_FILTER, lambda: honest()[3 * 8 :])


def call_by_the_32_bit_door(ground: Ground) -> bool:
    tried = f"""{IN_CHILD}
import mmap
def int_0x80():
    # push rbx; mov eax, 20 (getpid); int 0x80; pop rbx; ret
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("53b814000000cd805bc3"))
    result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return 0 if result == os.getpid() else 1
answer(in_child(int_0x80))
"""
    with ground.session() as session:
        return bool(ask(session, tried) == 0)


def any_clone(ground: Ground) -> None:
    let_through(ground, "clone")
    allow_user_namespaces(ground)


def clone_into_a_user_namespace(ground: Ground) -> bool:
    cloned = f"{IN_CHILD}\nanswer(call(N, 0x10000000 | 17, 0, 0, 0, 0))"
    with ground.session() as session:
        return bool(ask(session, cloned, N=number("clone")) == 0)


def any_ioctl(ground: Ground) -> None:
    let_through(ground, "ioctl")


def get_through_to_the_terminals_ioctl(ground: Ground) -> bool:
    """The host's kernel is asked to type; what it says of this descriptor (no terminal) is its own word."""
    with ground.session() as session:
        return bool(ask(session, f"{IN_CHILD}\nanswer(call(N, 0, 0x5412, 0))", N=number("ioctl")) != EPERM)


def get_through_to_pairs_of_any_family(ground: Ground) -> bool:
    """Whether the host's kernel itself says that a family has no pairs."""
    pair = f"{IN_CHILD}\nanswer(call(N, 2, 1, 0, 0))"
    with ground.session() as session:
        return bool(ask(session, pair, N=number("socketpair")) != EPERM)


OTHERS_TOO = ("prlimit64", "setpriority", "ioprio_set", "sched_setaffinity", "sched_setattr", "sched_setscheduler")


def orders_for_other_processes(ground: Ground) -> None:
    let_through(ground, *OTHERS_TOO)


def give_pid_1_the_least_priority(ground: Ground) -> bool:
    with ground.session() as session:
        pid = kernel_side.first_process(session)
        ask(session, "answer(error(os.setpriority, os.PRIO_PROCESS, 1, 19))")
        return os.getpriority(os.PRIO_PROCESS, pid) == 19


def changed_first_process(ground: Ground) -> None:
    edit_guest(ground, seams.FIRST_PROCESS_CHANGED, "False")


def fill_the_disk_of_later_kernels(ground: Ground) -> bool:
    """PID 1 may write no more than a page, and serves the session's files after every restart."""
    with ground.session() as session:
        ask(session, "answer(error(resource.prlimit, 1, resource.RLIMIT_FSIZE, (4096, 4096)))")
        session.restart()
        try:
            session.files.write("x", bytes(8192))
        except FileError:
            return True
        return False


REMOVALS = {
    "not root": Removal(
        severity="HostLeak", engines=BOTH, remove=root, succeeds=read_what_only_root_may, noticed="it runs as user 0"
    ),
    "uid of its own": Removal(severity="PeerDoS", engines=BOTH, remove=one_user_for_all, succeeds=starve_a_neighbour),
    # Whoever is not root has no use of a capability unless something gives it to him.
    "drop all capabilities": Removal(
        severity="HostLeak",
        engines=BOTH,
        remove=keep_capabilities,
        succeeds=read_what_only_another_user_may,
        also=("not root",),
        noticed="CapBnd",
    ),
    # bubblewrap sets it by itself, and no option of its takes it away.
    "no-new-privileges": Removal(
        severity="Escape",
        remove=new_privileges,
        succeeds=read_through_a_setuid_program,
        noticed="NoNewPrivs is not set",
    ),
    "seccomp allow-list": Removal(
        severity="Escape",
        engines=BOTH,
        remove=unfiltered,
        succeeds=make_a_user_namespace,
        noticed="io_uring can be used",
    ),
    "socket families": Removal(
        severity="Escape",
        engines=BOTH,
        remove=any_socket,
        succeeds=open_a_socket_to_the_hypervisor,
        noticed="vsock can be used",
    ),
    "native architecture only": Removal(
        severity="Escape", engines=BOTH, remove=other_architectures, succeeds=call_by_the_32_bit_door
    ),
    "namespaces refused": Removal(
        severity="Escape", engines=BOTH, remove=any_clone, succeeds=clone_into_a_user_namespace
    ),
    "TIOCSTI refused": Removal(
        severity="Escape", engines=BOTH, remove=any_ioctl, succeeds=get_through_to_the_terminals_ioctl
    ),
    "socket pairs of AF_UNIX": Removal(
        severity="Escape",
        engines=BOTH,
        remove=lambda ground: let_through(ground, "socketpair"),
        succeeds=get_through_to_pairs_of_any_family,
    ),
    "orders for its own process only": Removal(
        severity="Integrity", engines=BOTH, remove=orders_for_other_processes, succeeds=give_pid_1_the_least_priority
    ),
    "PID 1 compared at a restart": Removal(
        severity="Integrity",
        remove=changed_first_process,
        succeeds=fill_the_disk_of_later_kernels,
        also=("orders for its own process only",),
    ),
}
