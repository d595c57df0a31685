"""What the host's kernel holds in numbers: memory, processes, files, and what else a process may have."""

from __future__ import annotations

import re
from pathlib import Path

from kernel_sandbox import Limits, Session
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.redteam import kernel_side
from tests.redteam.cells import SMALL, ask, strike
from tests.redteam.without.edits import edit_preparation, edit_tmpfs, raise_ulimit, set_config, unlimit
from tests.redteam.without.removal import BOTH, Ground, Removal
from tests.redteam.without.rights import IN_CHILD, number

MEGABYTE = 1024**2
ROOMY = Limits(memory="1g", pids=48)
LITTLE_TIME = Limits(cpus=0.12)


def any_memory(ground: Ground) -> None:
    set_config(ground, Memory=0, MemorySwap=0)
    unlimit(ground, "memory")


def take_memory(ground: Ground) -> bool:
    """A quarter more than there is, by a child, and no more than that."""
    take = """
reader, writer = os.pipe()
if (pid := os.fork()) == 0:
    with contextlib.suppress(MemoryError):
        taken = [bytearray(b"x") * 2**20 for _ in range(400)]
        os.write(writer, b"all of it")
    os._exit(0)
os.close(writer)
answer(os.read(reader, 9).decode())
os.waitpid(pid, 0)
"""
    with ground.session(limits=SMALL) as session:
        return "all of it" in strike(session, take).text


def any_processor_time(ground: Ground) -> None:
    set_config(ground, NanoCpus=0)
    unlimit(ground, "cpu")


def take_processor_time(ground: Ground) -> bool:
    """Four processes want a processor each, and the host's scheduler holds them up at no time.

    How much they get says little where the machine has other work.
    """
    burn = """
end = time.monotonic() + 1
pids = []
for _ in range(4):
    if (pid := os.fork()) == 0:
        while time.monotonic() < end: pass
        os._exit(0)
    pids.append(pid)
for pid in pids: os.waitpid(pid, 0)
"""
    with ground.session(limits=LITTLE_TIME) as session:
        strike(session, burn).raise_for_error()
        return _times_held_up(session) == 0


def _times_held_up(session: Session) -> int:
    """Read how often a sandbox had used its share up (Documentation/scheduler/sched-bwc.rst)."""
    stat = kernel_side.group(kernel_side.first_process(session), "cpu") / "cpu.stat"
    return int(dict(entry.split() for entry in stat.read_text().splitlines())["nr_throttled"])


def any_processes(ground: Ground) -> None:
    """Where bubblewrap has a user id for each sandbox, processes are counted by that, too."""
    set_config(ground, PidsLimit=0)
    unlimit(ground, "pids")
    edit_preparation(ground, lambda config: config["rlimits"].update(RLIMIT_NPROC=4096))


def start_processes(ground: Ground) -> bool:
    """A hundred where 48 are allowed."""
    bomb = """
pids, found = [], 0
while len(pids) < 100 and not found:
    try:
        if (pid := os.fork()) == 0: time.sleep(60); os._exit(0)
        pids.append(pid)
    except OSError as exc:
        found = exc.errno
for pid in pids: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
answer(len(pids))
"""
    with ground.session(limits=ROOMY) as session:
        return bool(ask(session, bomb, timeout=60) == 100)


def any_size(ground: Ground) -> None:
    edit_tmpfs(ground, lambda options: re.sub(r"size=\d+,", "", options))


def fill_a_place(ground: Ground) -> bool:
    """96 MB where 16 are allowed."""
    fill = """
written = 0
with contextlib.suppress(OSError):
    for number in range(8):
        with open(f"/tmp/fill-{number}", "wb", 0) as file: written += file.write(b"x" * 12 * 2**20)
answer(written)
"""
    with ground.session(limits=SMALL) as session:
        return bool(ask(session, fill) == 96 * MEGABYTE)


def any_number_of_files(ground: Ground) -> None:
    edit_tmpfs(ground, lambda options: re.sub(r"nr_inodes=\d+,", "", options))


def flood_with_files(ground: Ground) -> bool:
    """Three thousand where 600 are allowed."""
    flood = """
count = 0
while count < 3000 and not error(lambda: os.close(os.open(f"/tmp/{count}", os.O_CREAT | os.O_WRONLY))): count += 1
answer(count)
"""
    with ground.session(limits=SMALL) as session:
        return bool(ask(session, flood) == 3000)


def dump_core(ground: Ground) -> bool:
    crash = """
if (pid := os.fork()) == 0:
    os.chdir("/mnt/data")
    ctypes.string_at(0)
answer(os.WCOREDUMP(os.waitpid(pid, 0)[1]))
"""
    with ground.session() as session:
        return bool(ask(session, crash))


def stretch_a_file(ground: Ground) -> bool:
    """To a terabyte that takes no room, but for whoever copies it."""
    stretch = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
error(lambda: os.truncate(os.open("/mnt/data/long", os.O_CREAT | os.O_RDWR), 2**40))
"""
    with ground.session(limits=SMALL) as session:
        strike(session, stretch).raise_for_error()
        return max(info.size for info in session.files.list()) == 2**40


def hoard_descriptors(ground: Ground) -> bool:
    """A thousand where 256 are allowed."""
    hoard = """
held = []
while len(held) < 1000 and not error(lambda: held.append(os.open("/dev/null", os.O_RDONLY))): pass
count = len(held)
for descriptor in held: os.close(descriptor)
answer(count)
"""
    with ground.session(limits=SMALL) as session:
        return bool(ask(session, hoard) == 1000)


def make_a_message_queue(ground: Ground) -> bool:
    make = f"""{IN_CHILD}
name = ctypes.create_string_buffer(b"queue")
answer(call(N, ctypes.addressof(name), os.O_CREAT | os.O_RDWR, 0o600, 0))
"""
    with ground.session() as session:
        return bool(ask(session, make, N=number("mq_open")) == 0)


def lock_memory(ground: Ground) -> bool:
    """A megabyte where 64 KB are allowed."""
    with ground.session() as session:
        return bool(ask(session, "page = ctypes.create_string_buffer(2**20); answer(libc.mlock(page, 2**20))") == 0)


def queue_signals(ground: Ground) -> bool:
    """Three thousand, each a piece of the host kernel's memory, where 1,024 are allowed."""
    send = """
if (pid := os.fork()) == 0:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    count = 0
    while count < 3000 and libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), None) == 0: count += 1
    os._exit(count == 3000)
answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    with ground.session() as session:
        return bool(ask(session, send) == 1)


def log_to_files(ground: Ground) -> None:
    set_config(ground, LogConfig={"Type": "json-file", "Config": {"max-size": "64m"}})


def fill_the_log(ground: Ground) -> bool:
    """With transport forward all that is printed passes PID 1's standard output."""
    with ground.session(transport="forward") as session:
        strike(session, "for _ in range(4): print('x' * 2**20)").raise_for_error()
        label = f"org.kernel-sandbox.session={session.id}"
        (container,) = connect().containers.list(filters={"label": label})
        log = container.attrs["LogPath"]
        return bool(log) and Path(log).stat().st_size > 4 * MEGABYTE


REMOVALS = {
    "memory limit": Removal(
        severity="HostDoS", engines=BOTH, remove=any_memory, succeeds=take_memory, noticed="no limit for the memory"
    ),
    "cpu limit": Removal(severity="PeerDoS", engines=BOTH, remove=any_processor_time, succeeds=take_processor_time),
    "pids limit": Removal(
        severity="HostDoS",
        engines=BOTH,
        remove=any_processes,
        succeeds=start_processes,
        noticed="no limit for the number of processes",
    ),
    "tmpfs sizes": Removal(
        severity="HostDoS", engines=BOTH, remove=any_size, succeeds=fill_a_place, noticed="it is [0-9.]+ [MG]B"
    ),
    "tmpfs inodes": Removal(
        severity="HostDoS",
        engines=BOTH,
        remove=any_number_of_files,
        succeeds=flood_with_files,
        noticed="has no limit of files",
    ),
    # Each engine sets all of them in one way: bubblewrap's is shown by one.
    "ulimit core": Removal(
        severity="HostDoS",
        remove=lambda ground: raise_ulimit(ground, "core", 64 * MEGABYTE),
        succeeds=dump_core,
    ),
    "ulimit fsize": Removal(
        severity="HostDoS",
        remove=lambda ground: raise_ulimit(ground, "fsize", 2**50),
        succeeds=stretch_a_file,
    ),
    "ulimit nofile": Removal(
        severity="HostDoS",
        engines=BOTH,
        remove=lambda ground: raise_ulimit(ground, "nofile", 4096),
        succeeds=hoard_descriptors,
    ),
    # The filter refuses these calls, too.
    "ulimit msgqueue": Removal(
        severity="HostDoS",
        remove=lambda ground: raise_ulimit(ground, "msgqueue", 819_200),
        succeeds=make_a_message_queue,
        also=("seccomp allow-list",),
    ),
    "ulimit memlock": Removal(
        severity="HostDoS",
        remove=lambda ground: raise_ulimit(ground, "memlock", 4 * MEGABYTE),
        succeeds=lock_memory,
    ),
    "ulimit sigpending": Removal(
        severity="HostDoS",
        remove=lambda ground: raise_ulimit(ground, "sigpending", 4096),
        succeeds=queue_signals,
    ),
    "log driver none": Removal(severity="HostDoS", remove=log_to_files, succeeds=fill_the_log),
}
