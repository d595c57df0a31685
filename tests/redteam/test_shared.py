"""What the host's kernel has once for everybody, or counts for nobody: no session takes it from the machine.

kernel_resources.md lists all that was looked at.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_sandbox import Limits, Mount, OutOfMemory, Session
from tests.redteam import kernel_side
from tests.redteam.cells import EPERM, armed, ask, attack, is_well, strike
from tests.redteam.test_privileges import IN_CHILD, numbers

CACHED = 8 * kernel_side.MEGABYTE
FILTER = """
import struct
def program(length):
    "A classic filter that lets everything through (struct sock_fprog)."
    steps = struct.pack("=HBBI", 0x04, 0, 0, 1) * (length - 1) + struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
    kept.append(ctypes.create_string_buffer(steps))
    return struct.pack("=HxxxxxxQ", length, ctypes.addressof(kept[-1]))
kept = []
"""
"""Each is compiled into memory that has a limit per machine (net.core.bpf_jit_limit); past it nobody's can be, and a
sandbox without its filter does not start."""


@attack("HostDoS")
@pytest.mark.parametrize("call", ["sync", "syncfs"])
def test_disks_of_the_host_are_not_told_to_write(engine: str, tmp_path: Path, call: str) -> None:
    """What a host program has written lately stays in memory until the host's kernel thinks fit."""
    tmp_path.chmod(0o755)
    flush = f"{IN_CHILD}\nanswer(call(NUMBER, os.open('/mnt/input/shown', os.O_RDONLY)))"
    with armed(engine, mounts=(Mount(tmp_path, "shown"),)) as session:
        assert ask(session, flush, NUMBER=numbers()[call]) == EPERM
        written = kernel_side.is_written_by(lambda: ask(session, flush, NUMBER=numbers()[call]), tmp_path)
    assert not written


@attack("PeerDoS")
def test_pages_that_others_read_stay_in_memory(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "shown"
    with file.open("wb") as written:
        written.write(b"x" * CACHED)
        kernel_side.write_out(written)
    advise = """
held = os.open("/mnt/input/shown", os.O_RDONLY)
answer([error(os.posix_fadvise, held, 0, 0, advice) for advice in range(6)])
"""
    file.chmod(0o644)
    with armed(engine, mounts=(Mount(file),)) as session:
        assert ask(session, advise) == [0, 0, 0, 0, EPERM, 0]
    pages = kernel_side.pages_of(file)
    assert pages is None or pages[0] == CACHED // kernel_side.PAGE


@attack("HostDoS")
def test_datagrams_take_no_memory_of_the_machine(target: Session) -> None:
    """Buffers of sockets are counted for nobody (control groups v1): 803 MB were held by a sandbox of 256."""
    send = """
held = []
with contextlib.suppress(OSError):
    for _ in range(40):
        held.append(receiver := socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind(("127.0.0.1", 0))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
        for _ in range(60): receiver.sendto(b"x" * 60_000, receiver.getsockname())
answer(len(held))
"""
    before = kernel_side.socket_buffers("UDP")
    assert ask(target, send) == 0
    assert kernel_side.socket_buffers("UDP") - before < 16 * kernel_side.MEGABYTE


HOARD_CONNECTIONS = """
held, made = [], 0
for _ in range(40):  # 20,000 connections, as fast as may be
    held.append(listener := socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(500)
    for _ in range(500):
        with socket.socket() as one:
            one.settimeout(1)
            one.connect(listener.getsockname())
            one.send(b"x" * 10_000)
time.sleep(3)
"""


@attack("HostDoS")
def test_buffers_of_connections_are_bounded(engine: str) -> None:
    """Version 1 of control groups counts them apart from memory, and only where there is a limit for them."""
    fill = """
held, listener = [], socket.create_server(("127.0.0.1", 0))
for _ in range(80):
    held.append(one := socket.create_connection(listener.getsockname()))
    held.append(other := listener.accept()[0])
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(64): one.send(b"x" * 2**16)
answer(len(held))
"""
    before = kernel_side.socket_buffers("TCP")
    with armed(engine, limits=Limits(memory="256m")) as session:
        filled = strike(session, fill)
        taken = kernel_side.socket_buffers("TCP") - before
        bounded = kernel_side.group(kernel_side.first_process(session), "memory") / "memory.kmem.tcp.limit_in_bytes"
        if isinstance(filled.cause, OutOfMemory):  # with version 2 they are memory like any other
            assert not bounded.exists()
            session.restart()
        assert is_well(session)
    assert taken < (40 if bounded.exists() else 256) * kernel_side.MEGABYTE


@attack("HostDoS")
def test_connections_that_nobody_accepts_end_the_session(
    engine: str, record_property: Callable[[str, object], None]
) -> None:
    """No control group counts them, nor what waits in them, until they are accepted."""
    before = kernel_side.socket_buffers("TCP")
    with armed(engine, limits=Limits(memory="256m")) as session:
        started = time.monotonic()
        ended = strike(session, HOARD_CONNECTIONS, timeout=30)
        record_property("detection", time.monotonic() - started)
        assert ended.status == "dead"
        assert "TCP sockets, of which 2,048 are allowed" in str(ended.cause)
        assert session.death is not None
        session.restart()
        assert is_well(session)
    assert kernel_side.socket_buffers("TCP") - before < 16 * kernel_side.MEGABYTE


TAKE_TERMINALS = """
def take():
    taken = 0
    with contextlib.suppress(OSError):
        while taken < 400: os.openpty(); taken += 1
    return taken
"""


@attack("PeerDoS")
def test_terminals_are_left_to_neighbours(engine: str) -> None:
    """The machine has 4,096, and each shell command of a cell needs one."""
    hoard = f"""{TAKE_TERMINALS}
reader, writer = os.pipe()
for _ in range(3):
    if os.fork() == 0: os.write(writer, str(take()).encode() + b" "); time.sleep(60); os._exit(0)
told = b""
while told.count(b" ") < 3: told += os.read(reader, 99)
answer(sum(map(int, told.split())))
"""
    with armed(engine) as greedy, armed(engine) as neighbour:
        assert ask(greedy, hoard) <= 64
        assert neighbour.execute("!echo hello").text.split() == ["hello"]


@attack("HostDoS")
def test_open_files_of_a_session_are_a_small_part_of_the_machines(engine: str) -> None:
    hoard = """
count = 0
with contextlib.suppress(OSError):
    while count < 200:
        if os.fork() == 0:
            with contextlib.suppress(OSError):
                while True: os.open("/dev/null", os.O_RDONLY)
            time.sleep(60)
            os._exit(0)
        count += 1
time.sleep(3)
answer(count)
"""

    def opened() -> int:
        return int(Path("/proc/sys/fs/file-nr").read_text().split()[0])

    before = opened()
    with armed(engine) as greedy, armed(engine) as neighbour:
        assert ask(greedy, hoard) < 128
        held = opened() - before
        assert is_well(neighbour)
    assert held < 128 * 1024 + 10_000  # and what else the machine opened meanwhile


@attack("HostDoS")
def test_answers_of_the_kernel_are_not_hoarded(target: Session) -> None:
    """What netlink answers waits in memory that is counted for nobody: 323 MB were held by forty sockets."""
    hoard = "answer([error(lambda: socket.socket(socket.AF_NETLINK, kind, 0).close()) for kind in (2, 3)])"
    assert ask(target, hoard) == [95, 95]  # EOPNOTSUPP, which libraries understand


@attack("PeerDoS")
@pytest.mark.parametrize("level", ["socket", "reuseport", "process", "seccomp"])
def test_no_filter_is_compiled_for_a_cell(target: Session, level: str) -> None:
    compiling = f"""{IN_CHILD}{FILTER}
described = ctypes.create_string_buffer(program(64))
held = socket.socket(socket.AF_UNIX)
calls = {{
    "socket": (NUMBER["setsockopt"], held.fileno(), 1, 26, ctypes.addressof(described), 16),
    "reuseport": (NUMBER["setsockopt"], held.fileno(), 1, 51, ctypes.addressof(described), 16),
    "process": (NUMBER["prctl"], 22 | 1 << 32, 2, ctypes.addressof(described), 0, 0),
    "seccomp": (NUMBER["seccomp"], 1, 8, ctypes.addressof(described)),
}}
answer(call(*calls[LEVEL]))
"""
    assert ask(target, compiling, NUMBER=numbers(), LEVEL=level) == EPERM


@attack("HostDoS")
def test_keys_of_connections_are_not_hoarded(target: Session) -> None:
    """Keys of TCP (RFC 2385) and their kin take up to 128 KB a socket that is counted for nobody."""
    keys = """
with socket.socket() as held:
    answer([error(held.setsockopt, 6, option, bytes(256)) for option in (14, 31, 32, 38, 39, 40)])
"""
    assert set(ask(target, keys)) == {EPERM}


@attack("PeerDoS")
def test_no_processor_core_is_kept_from_others(target: Session) -> None:
    assert ask(target, f"{IN_CHILD}\nanswer(call(PRCTL, 62, 1, 0, 0, 0))", PRCTL=numbers()["prctl"]) == EPERM


COUNTED = {
    "pipes": """
for _ in range(400):
    held.append(os.pipe())
    os.set_blocking(held[-1][1], False)
    with contextlib.suppress(BlockingIOError):
        while True: os.write(held[-1][1], b"x" * 2**16)
""",
    "unix sockets": """
for _ in range(100):
    held.append(pair := socket.socketpair())
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
    pair[0].setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True: pair[0].send(b"x" * 2**15)
""",
    "epoll": """
import select
held += [select.epoll() for _ in range(200)] + [os.eventfd(0) for _ in range(600)]
for poll in held[:200]:
    for watched in held[200:]: poll.register(watched)
""",
    "watches": """
watching = libc.inotify_init()
for number in range(20_000):
    open(f"/tmp/{number}", "w").close()
    libc.inotify_add_watch(watching, f"/tmp/{number}".encode(), 4095)
""",
    "names that are not there": """
for number in range(150_000): error(os.stat, f"/usr/nothing-{number}")
""",
    "files without names": """
for _ in range(300):
    held.append(os.memfd_create("x"))
    os.write(held[-1], b"x" * 2**16)
""",
}
"""Each takes 20 MB of the kernel's memory or more."""


@attack("HostDoS")
@pytest.mark.parametrize("what", COUNTED)
def test_memory_of_the_kernel_is_counted_as_the_sandboxs(fresh: Session, what: str) -> None:
    usage = kernel_side.group(kernel_side.first_process(fresh), "memory") / "memory.usage_in_bytes"
    if not usage.exists():
        usage = usage.with_name("memory.current")
    before = int(usage.read_text())
    strike(fresh, f"held = []\n{COUNTED[what]}").raise_for_error()
    assert int(usage.read_text()) - before > 12 * kernel_side.MEGABYTE


@attack("HostDoS")
def test_timers_are_bounded(target: Session) -> None:
    """By the limit of signals that wait: each timer keeps one ready."""
    make = f"""{IN_CHILD}
def count():
    made, timer = 0, ctypes.c_void_p()
    while made < 5000 and libc.timer_create(1, None, ctypes.byref(timer)) == 0: made += 1
    return made
answer(in_child(count))
"""
    assert ask(target, make) <= 1024


@attack("PeerDoS")
def test_random_numbers_are_there_for_neighbours(engine: str) -> None:
    drain = "end = time.monotonic() + 2\nwhile time.monotonic() < end: os.getrandom(2**20)"
    with armed(engine) as greedy, armed(engine) as neighbour:
        draining = threading.Thread(target=strike, args=(greedy, drain))
        draining.start()
        longest = ask(neighbour, "start = time.monotonic(); os.getrandom(4096); answer(time.monotonic() - start)")
        draining.join()
    assert longest < 1
