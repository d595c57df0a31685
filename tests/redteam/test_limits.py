"""Limits: what a sandbox may use of the host is a number, and no more than that is had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.redteam.cells import EAGAIN, EFBIG, EMFILE, ENOSPC, armed, ask, attack, is_well, strike

MEGABYTE = 1024**2
PLACES = ("/mnt/data", "/tmp", "/home/sandbox", "/dev/shm")


@attack("HostDoS")
def test_memory_is_limited(cramped: Session) -> None:
    """Twice its memory is asked for, by a child, which is what the host's kernel ends first."""
    take = """
reader, writer = os.pipe()
if (pid := os.fork()) == 0:
    with contextlib.suppress(MemoryError):
        taken = [bytearray(b"x") * 2**20 for _ in range(640)]
        os.write(writer, b"all of it")
    os._exit(0)
os.close(writer)
answer(os.read(reader, 9).decode())
"""
    taken = strike(cramped, take)
    assert "all of it" not in taken.text
    if taken.status == "dead":
        assert "memory" in str(taken.cause)
    else:
        assert is_well(cramped)


@attack("HostDoS")
def test_files_without_names_count_as_memory(cramped: Session) -> None:
    take = """
if (pid := os.fork()) == 0:
    taken = 0
    with contextlib.suppress(OSError):
        for _ in range(40):
            held = os.memfd_create("m")
            taken += sum(os.write(held, b"x" * 2**20) for _ in range(16))
    os._exit(taken >= 40 * 2**24)
answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    found = strike(cramped, take)
    assert found.status == "dead" or json.loads(found.text) != 1, "all of it was had"


@attack("HostDoS")
@pytest.mark.parametrize("place", PLACES)
def test_writable_place_holds_its_size(cramped: Session, place: str) -> None:
    fill = """
written = 0
try:
    for number in range(40):
        with open(f"{PLACE}/fill-{number}", "wb", 0) as file:
            written += file.write(b"x" * 2**20)
    found = 0
except OSError as exc:
    found = exc.errno
for name in os.listdir(PLACE):
    if name.startswith("fill-"): os.unlink(f"{PLACE}/{name}")
answer([written, found])
"""
    written, error = ask(cramped, fill, PLACE=place)
    assert error == ENOSPC, f"{written:,} bytes written"
    assert written <= 16 * MEGABYTE


@attack("HostDoS")
@pytest.mark.parametrize("place", PLACES)
def test_writable_place_holds_so_many_files(cramped: Session, place: str) -> None:
    flood = """
count, found = 0, 0
os.mkdir(f"{PLACE}/flood")
while count < 3000 and not found:
    found = error(lambda: os.close(os.open(f"{PLACE}/flood/{count}", os.O_CREAT | os.O_WRONLY)))
    count += not found
__import__("shutil").rmtree(f"{PLACE}/flood")
answer([count, found])
"""
    count, error = ask(cramped, flood, PLACE=place)
    assert error == ENOSPC, f"{count} files made"
    assert count <= 600


@attack("HostDoS")
def test_file_cannot_be_longer_than_the_largest_place(cramped: Session) -> None:
    stretch = "answer(error(lambda: os.truncate(os.open('/tmp/long', os.O_CREAT | os.O_RDWR), 2**40)))"
    signal = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    assert ask(cramped, signal + stretch) == EFBIG


@attack("HostDoS")
def test_processes_are_limited(cramped: Session) -> None:
    bomb = """
pids, found = [], 0
while len(pids) < 200 and not found:
    try:
        if (pid := os.fork()) == 0: time.sleep(60); os._exit(0)
        pids.append(pid)
    except OSError as exc:
        found = exc.errno
for pid in pids: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
answer([len(pids), found])
"""
    count, error = ask(cramped, bomb)
    assert error == EAGAIN, f"{count} processes started"
    assert count < 64


@attack("HostDoS")
def test_threads_are_limited(cramped: Session) -> None:
    bomb = """
halt, threads, found = threading.Event(), [], ""
while len(threads) < 200 and not found:
    try:
        threads.append(threading.Thread(target=halt.wait))
        threads[-1].start()
    except RuntimeError as exc:
        found = str(exc)
halt.set()
answer([len(threads), found])
"""
    count, error = ask(cramped, bomb)
    assert "can't start new thread" in error, f"{count} threads started"
    assert count < 64


@attack("HostDoS")
def test_descriptors_are_limited(cramped: Session) -> None:
    hoard = """
held, found = [], 0
while len(held) < 2000 and not found:
    try: held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as exc: found = exc.errno
for descriptor in held: os.close(descriptor)
answer([len(held), found])
"""
    count, error = ask(cramped, hoard)
    assert error == EMFILE, f"{count} descriptors opened"
    assert count < 256


@attack("PeerDoS")
def test_processor_time_is_limited(cramped: Session) -> None:
    burn = """
end = time.monotonic() + 1.5
pids = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        while time.monotonic() < end: pass
        os._exit(0)
    pids.append(pid)
for pid in pids: os.waitpid(pid, 0)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
answer((used.ru_utime + used.ru_stime) / 1.5)
"""
    first = ask(cramped, burn)
    used = ask(cramped, burn) - first  # what children have used adds up
    assert used < 0.75, f"{used:.2f} processors used"


@attack("HostDoS")
def test_limits_cannot_be_raised(cramped: Session) -> None:
    raising = """
found = {}
for name in ("CORE", "NOFILE", "FSIZE", "MEMLOCK", "MSGQUEUE", "SIGPENDING", "RTPRIO", "NICE"):
    number = getattr(resource, "RLIMIT_" + name, {"SIGPENDING": 11, "MSGQUEUE": 12, "NICE": 13, "RTPRIO": 14}.get(name))
    soft, hard = resource.getrlimit(number)
    raised = hard + 1 if hard >= 0 else -1
    try:
        resource.setrlimit(number, (raised, raised))
        found[name] = [soft, hard, "raised"]
    except (ValueError, OSError):
        found[name] = [soft, hard, ""]
answer(found)
"""
    found = ask(cramped, raising)
    assert {name: limit for name, limit in found.items() if limit[2]} == {}
    hard = {name: limit[1] for name, limit in found.items()}
    expected = {"CORE": 0, "NOFILE": 256, "FSIZE": 16 * MEGABYTE, "MEMLOCK": 65536, "MSGQUEUE": 0, "SIGPENDING": 1024}
    assert hard | expected == hard


@attack("HostDoS")
def test_crash_leaves_no_core_dump(cramped: Session) -> None:
    crash = """
before = set(os.listdir("/mnt/data"))
if (pid := os.fork()) == 0:
    os.chdir("/mnt/data")
    ctypes.string_at(0)
status = os.waitpid(pid, 0)[1]
answer([os.WTERMSIG(status), os.WCOREDUMP(status), sorted(set(os.listdir("/mnt/data")) - before)])
"""
    assert ask(cramped, crash) == [11, False, []]


@attack("HostDoS")
def test_memory_cannot_be_locked(cramped: Session) -> None:
    # mlock2 of 8 MB; EPERM, or ENOMEM for more than the limit.
    lock = "page = ctypes.create_string_buffer(2**23); answer(libc.mlock(page, 2**23))"
    assert ask(cramped, lock) == -1


@attack("HostDoS")
def test_printing_leaves_nothing_on_the_hosts_disk(docker: None) -> None:
    """With transport forward all that is printed passes PID 1's standard output, which engines like to log."""
    with armed("docker", transport="forward") as session:
        strike(session, "for _ in range(8): print('x' * 2**20)")
        (container,) = connect().containers.list(filters={"label": f"org.kernel-sandbox.session={session.id}"})
        log = container.attrs["LogPath"]
        assert not log, f"{Path(log).stat().st_size:,} bytes logged"
