"""System calls from inside, by a table: each family of calls with the error that it must give, on both engines."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.sandbox.engines.system_calls import ALLOWED, CONDITIONAL, DENIED, parse
from tests.conftest import missing

EPERM, ENOSYS, EOPNOTSUPP = 1, 38, 95
COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
REFUSED_WITHOUT_TRYING = {"reboot", "vhangup", "kexec_load", "swapoff", "acct"}
"""Not even tried: were the filter not there, and the capabilities, they would hit the test's own machine."""

PROBES = """
import ctypes, errno, json, os
libc = ctypes.CDLL(None, use_errno=True)
def probe(number, *arguments):
    # In a child: a call that came through might end the kernel.
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        ctypes.set_errno(0)
        result = libc.syscall(number, *(ctypes.c_long(a) for a in arguments))
        os.write(writer, str(ctypes.get_errno() if result == -1 else 0).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 9)
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return int(told) if told else f"ended with {status}"
"""


@pytest.fixture(scope="module", params=NAMES)
def inside(request: pytest.FixtureRequest) -> Iterator[Session]:
    if reason := missing(request.param):
        pytest.skip(reason)
    with Session(engine=request.param, image="python") as session:
        session.execute(PROBES).raise_for_error()
        yield session


def probe(session: Session, calls: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    cell = f"print(json.dumps({{name: probe(*call) for name, call in {calls!r}.items()}}))"
    found: dict[str, int] = json.loads(session.execute(cell).raise_for_error().text)
    return found


def number(name: str) -> int:
    tables = {**parse(ALLOWED), **parse(CONDITIONAL), **parse(DENIED)}
    found = tables[name][COLUMN]
    assert found is not None
    return found


def test_every_call_of_the_kernel_headers_is_classified() -> None:
    tables = [parse(ALLOWED), parse(CONDITIONAL), parse(DENIED)]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))
    assert 220 <= len(tables[0]) <= 250
    for column in (0, 1):
        numbers = [found[column] for table in tables for found in table.values() if found[column] is not None]
        assert len(numbers) == len(set(numbers))
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if header.exists():
        rows = (line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_"))
        listed = {row[1].removeprefix("__NR_"): int(row[2]) for row in rows}
        known = {name: found[0] for table in tables for name, found in table.items()}
        assert {name: known.get(name) for name, number in listed.items() if number <= 450} == {
            name: number for name, number in listed.items() if number <= 450
        }


def test_denied_calls_are_not_permitted(inside: Session) -> None:
    calls = {
        name: (found[COLUMN] or 0, -1, -1, -1, -1, -1, -1)
        for name, found in parse(DENIED).items()
        if found[COLUMN] is not None and name not in REFUSED_WITHOUT_TRYING
    }
    assert len(calls) > 80
    assert {name: error for name, error in probe(inside, calls).items() if error != EPERM} == {}


def test_sockets_of_other_families_are_not_permitted(inside: Session) -> None:
    socket = number("socket")
    families = {str(family): (socket, family, 1, 0) for family in range(1, 46)}
    found = probe(inside, families)
    assert {family for family, error in found.items() if error == 0} == {"1", "2", "10"}
    assert {error for family, error in found.items() if family not in ("1", "2", "10", "16")} == {EPERM}
    netlink = {str(protocol): (socket, 16, 3, protocol) for protocol in range(23)}
    assert set(probe(inside, netlink).values()) == {EOPNOTSUPP}


def test_internet_sockets_are_of_tcp_alone(inside: Session) -> None:
    socket = number("socket")
    shapes = [
        (family, kind, protocol) for family in (2, 10) for kind in range(1, 7) for protocol in (*range(264), 1000)
    ]
    found = probe(inside, {str(shape): (socket, *shape) for shape in shapes if shape[2] in (0, 6) or shape[1] < 3})
    assert {shape for shape, error in found.items() if error != EPERM} == {
        str((family, 1, protocol)) for family in (2, 10) for protocol in (0, 6)
    }


def test_calls_for_other_processes_are_not_permitted(inside: Session) -> None:
    """PID 1 among them, whose limits, priority and processors would outlive a restart."""
    allowed = {
        "limits of its own": (number("prlimit64"), 0, 7, 0, 0),
        "its own group": (number("setpriority"), 0, 0, 19),
        "its threads' policy": (number("sched_setscheduler"), 1, 0, -1),
    }
    refused = {
        "limits": (number("prlimit64"), 1, 7, 0, 0),
        "limits, high bits": (number("prlimit64"), 1 << 32 | 1, 7, 0, 0),
        "priority": (number("setpriority"), 0, 1, 19),
        "priority of a group": (number("setpriority"), 1, 0, 19),
        "priority of a user": (number("setpriority"), 2, 0, 19),
        "policy": (number("sched_setscheduler"), 1, 3, -1),
        "parameters": (number("sched_setparam"), 1, -1),
        "attributes": (number("sched_setattr"), 1, -1, 0),
        "processors": (number("sched_setaffinity"), 1, 0, 0),
        "disks": (number("ioprio_set"), 1, 1, 0x6000),
    }
    assert {name for name, error in probe(inside, allowed).items() if error == EPERM} == set()
    assert {name for name, error in probe(inside, refused).items() if error != EPERM} == set()


def test_namespaces_terminals_and_new_calls(inside: Session) -> None:
    calls = {
        "user namespace": (number("clone"), 0x10000000 | 17, 0, 0, 0, 0),
        "mount namespace": (number("clone"), 0x00020000 | 17, 0, 0, 0, 0),
        "clone3": (number("clone3"), 0, 0),
        "typing": (number("ioctl"), 0, 0x5412, 0),
        "typing, high bits": (number("ioctl"), 0, 1 << 40 | 0x5412, 0),
        "personality": (number("personality"), 0x0040000),
        "newer than the tables": (600, 0, 0),
    }
    found = probe(inside, calls)
    expected = dict.fromkeys(calls, EPERM) | {"clone3": ENOSYS, "newer than the tables": ENOSYS}
    if inside.engine == "docker":  # what an unknown call gives is the engine's own choice
        assert found.pop("newer than the tables") in (EPERM, ENOSYS)
        expected.pop("newer than the tables")
    assert found == expected


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is a second door of x86_64 alone")
def test_other_architectures_are_no_way_round(inside: Session) -> None:
    found = probe(inside, {"x32 getpid": (0x40000000 | 39, 0)})
    assert found["x32 getpid"] in (EPERM, ENOSYS, "ended with -31")  # SIGSYS


def test_ordinary_work_is_not_hindered(inside: Session) -> None:
    work = """
import asyncio, concurrent.futures, fcntl, mmap, multiprocessing, shutil, signal, socket, sqlite3, subprocess, tempfile
import threading
with tempfile.TemporaryDirectory() as folder:
    path = folder + "/db"
    with sqlite3.connect(path) as db:
        db.execute("create table t (x)"); db.executemany("insert into t values (?)", [(n,) for n in range(100)])
    assert sqlite3.connect(path).execute("select sum(x) from t").fetchone() == (4950,)
    shutil.copytree(folder, folder + "2"); shutil.rmtree(folder + "2")
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX); assert mmap.mmap(file.fileno(), 0)[:6] == b"SQLite"
with multiprocessing.get_context("fork").Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]
with concurrent.futures.ThreadPoolExecutor(4) as pool: assert list(pool.map(abs, [-3])) == [3]
assert subprocess.run("echo $((1+1)) | cat", shell=True, capture_output=True).stdout == b"2\\n"
left, right = socket.socketpair(); left.send(b"x"); assert right.recv(1) == b"x"
async def echo():
    server = await asyncio.start_server(lambda r, w: w.write(b"hi") or w.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    said = await reader.read(); writer.close(); server.close()
    return said
assert await echo() == b"hi"
os.sched_setaffinity(0, os.sched_getaffinity(0)); os.nice(1); os.getrandom(4); os.memfd_create("m")
print("done")
"""
    assert inside.execute(work).text == "done\n"
