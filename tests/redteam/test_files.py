"""Files that cells leave for the host to read, write and list: names, links, sizes and races lead nowhere else."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import FileError, FileNameRefused, SandboxError, SandboxFileNotFound, SandboxFull, Session
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.redteam.canaries import Canaries
from tests.redteam.cells import armed, ask, attack, is_well, lock_on_the_host, strike
from tests.redteam.without.removal import growth
from tests.redteam.without.values import MANY_COLUMNS, MANY_PARTS, ONE_FOR_MANY, fetch, fetch_nothing

CLEAR = """
import shutil
for name in os.listdir("/mnt/data"):
    path = "/mnt/data/" + name
    if name != "attacker.py":
        shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
"""


@pytest.fixture
def place(target: Session) -> Session:
    """The standing session, with nothing of an earlier attack under /mnt/data."""
    strike(target, CLEAR).raise_for_error()
    return target


LINKS = {
    "to a file of the sandbox": "os.symlink('/etc/passwd', 'x')",
    "to PID 1's environment": "os.symlink('/proc/self/environ', 'x')",
    "to PID 1's memory": "os.symlink('/proc/self/mem', 'x')",
    "to PID 1's stream": "os.symlink('/proc/self/fd/4', 'x')",
    "to a device": "os.symlink('/dev/zero', 'x')",
    "to itself": "os.symlink('x', 'x')",
    "to a file beside it": "open('y', 'w').write('y'); os.symlink('y', 'x')",
}


@attack("InternalRead")
@pytest.mark.parametrize("link", LINKS)
def test_link_is_not_followed(place: Session, link: str, tmp_path: Path) -> None:
    """The host's read is carried out by PID 1: followed, a link would read PID 1's own."""
    strike(place, LINKS[link]).raise_for_error()
    with pytest.raises(FileNameRefused, match="not a regular file"):
        place.files.read("x")
    with pytest.raises(FileNameRefused, match="not a regular file"):
        place.files.download("x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    assert "x" not in {info.name for info in place.files.list()}


@attack("InternalRead")
def test_directory_that_is_a_link_is_not_entered(place: Session) -> None:
    strike(place, "os.symlink('/etc', 'd'); os.symlink('/proc/self', 'p'); os.symlink('..', 'up')").raise_for_error()
    for name in ("d/passwd", "p/environ", "up/data/attacker.py"):
        with pytest.raises(FileNameRefused, match="not a directory"):
            place.files.read(name)
        with pytest.raises(FileNameRefused, match="not a directory"):
            place.files.write(name + "2", b"x")
        with pytest.raises(FileError):
            place.files.delete(name)
    assert {info.name for info in place.files.list()} == {"attacker.py"}


@attack("Integrity")
def test_upload_replaces_a_link_and_does_not_write_through_it(place: Session) -> None:
    strike(place, "os.symlink('/home/sandbox/through', 'x'); os.symlink('/dev/full', 'y')").raise_for_error()
    place.files.write("x", b"uploaded")
    place.files.write("y", b"uploaded")
    assert place.files.read("x") == place.files.read("y") == b"uploaded"
    assert ask(place, "answer(os.path.exists('/home/sandbox/through'))") is False


NAMES = [
    "../etc/passwd",
    "a/../../etc/passwd",
    "/etc/passwd",
    "/mnt/data/../../etc/passwd",
    "./x",
    "a//b",
    "..",
    ".",
    "/",
]


@attack("InternalRead")
@pytest.mark.parametrize(
    "name", [*NAMES, "/", "", "x\0y", "two\nlines", "\x1b]0;x\x07", "\ud800", "x" * 5000, "x" * 256]
)
def test_name_that_leads_elsewhere_is_refused(place: Session, name: str, tmp_path: Path) -> None:
    for operation in (place.files.read, place.files.delete, lambda bad: place.files.write(bad, b"x")):
        with pytest.raises((FileNameRefused, SandboxFileNotFound)):
            operation(name)
    with pytest.raises(FileError):
        place.files.download(name, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    assert is_well(place)


@attack("HostDoS")
@pytest.mark.parametrize("kind", ["socket", "directory", "unreadable", "leased"])
def test_file_that_is_none_is_refused_at_once(place: Session, kind: str) -> None:
    make = {
        "socket": "held = socket.socket(socket.AF_UNIX); held.bind('/mnt/data/x')",
        "directory": "os.mkdir('/mnt/data/x')",
        "unreadable": "open('/mnt/data/x', 'w').close(); os.chmod('/mnt/data/x', 0)",
        # Whoever opens a leased file waits until its holder gives it up, for 45 s by default (fcntl(2), "Leases").
        "leased": "__import__('fcntl').fcntl(os.open('/mnt/data/x', os.O_CREAT | os.O_RDWR), 1024, 1)",
    }
    strike(place, make[kind]).raise_for_error()
    started = time.monotonic()
    with pytest.raises(FileError):
        place.files.read("x")
    place.files.list()
    assert time.monotonic() - started < 2
    strike(place, "os.chmod('/mnt/data/x', 0o700)")


@attack("HostDoS")
def test_sparse_file_is_not_taken_into_memory(engine: str, tmp_path: Path) -> None:
    """500 MB that take no room inside: `read` refuses, and `download` writes no more than it was promised."""
    with armed(engine) as session:
        strike(session, "os.truncate(os.open('/mnt/data/x', os.O_CREAT | os.O_RDWR), 500 * 2**20)").raise_for_error()
        with pytest.raises(FileError, match="500 MB: too large to read at once"):
            session.files.read("x")
        with pytest.raises(FileError, match="more than the limit"):
            session.files.download("x", tmp_path / "x", limit=2**20)
    assert list(tmp_path.iterdir()) == []


GROW = """
stop = threading.Event()
def grow():
    with open("/mnt/data/x", "ab", 0) as file:
        while not stop.is_set() and file.tell() < 24 * 2**20: file.write(b"x" * 65536)
open("/mnt/data/x", "wb").write(b"x" * 2**20)
threading.Thread(target=grow).start()
"""
SWITCH = """
stop = threading.Event()
open("/mnt/data/real", "w").write("harmless")
os.symlink("/proc/self/environ", "/mnt/data/link")
def switch():
    while not stop.is_set():
        for name in ("real", "link"):
            os.link(f"/mnt/data/{name}", "/mnt/data/next", follow_symlinks=False)
            os.rename("/mnt/data/next", "/mnt/data/x")
            with contextlib.suppress(OSError): os.unlink("/mnt/data/next")
os.link("/mnt/data/real", "/mnt/data/x")
threading.Thread(target=switch).start()
"""


@attack("HostDoS")
def test_file_that_grows_while_it_is_read_comes_to_an_end(place: Session, tmp_path: Path) -> None:
    strike(place, GROW).raise_for_error()
    for number in range(3):
        with contextlib.suppress(FileError):
            place.files.download("x", tmp_path / f"x{number}")
    strike(place, "stop.set()").raise_for_error()
    assert all(path.stat().st_size <= 25 * 2**20 for path in tmp_path.iterdir())
    assert is_well(place)


@attack("HostDoS")
def test_file_that_shrinks_while_it_is_read_is_not_kept(place: Session, tmp_path: Path) -> None:
    fill = "open('/mnt/data/x', 'wb').write(b'x' * 48 * 2**20)"
    shrink = f"{fill}\nthreading.Timer(0.02, os.truncate, ('/mnt/data/x', 9)).start()"
    strike(place, shrink).raise_for_error()
    with contextlib.suppress(FileError):
        place.files.download("x", tmp_path / "x")
    assert [path.stat().st_size for path in tmp_path.iterdir()] in ([], [9], [48 * 2**20])


@attack("InternalRead")
def test_file_that_becomes_a_link_while_it_is_opened_is_not_followed(place: Session) -> None:
    """A link and a file change places thousands of times a second: whichever is met, only the file is read."""
    strike(place, SWITCH).raise_for_error()
    met = set()
    for _ in range(200):
        try:
            met.add(place.files.read("x"))
        except FileError as exc:
            met.add(type(exc).__name__.encode())
    strike(place, "stop.set()").raise_for_error()
    assert b"harmless" in met
    assert met <= {b"harmless", b"FileNameRefused", b"SandboxFileNotFound"}


@attack("InternalRead")
def test_directory_that_becomes_a_link_while_it_is_walked_is_not_followed(place: Session) -> None:
    switch = """
stop = threading.Event()
os.makedirs("/mnt/data/a"); open("/mnt/data/a/passwd", "w").write("harmless")
os.symlink("/etc", "/mnt/data/b")
RENAME_EXCHANGE = 2
def switch():
    while not stop.is_set():
        libc.renameat2(-100, b"/mnt/data/a", -100, b"/mnt/data/b", RENAME_EXCHANGE)
threading.Thread(target=switch).start()
"""
    strike(place, switch).raise_for_error()
    met, listed = set(), set()
    for _ in range(100):
        try:
            met.add(place.files.read("a/passwd"))
        except FileError as exc:
            met.add(type(exc).__name__.encode())
        listed |= {info.name for info in place.files.list()}
    strike(place, "stop.set()").raise_for_error()
    assert b"harmless" in met
    assert met <= {b"harmless", b"FileNameRefused", b"SandboxFileNotFound"}
    assert listed <= {"a", "b", "a/passwd", "b/passwd", "attacker.py"}


@attack("HostDoS")
def test_flood_of_files_ends_a_listing(place: Session) -> None:
    strike(place, "for n in range(12_000): os.close(os.open(f'/mnt/data/{n}', os.O_CREAT))").raise_for_error()
    with pytest.raises(FileError, match="more than 10,000 files"):
        place.files.list()
    strike(place, CLEAR).raise_for_error()
    assert len(place.files.list()) == 1


@attack("HostDoS")
def test_depth_of_directories_ends_a_listing(place: Session) -> None:
    strike(place, "for _ in range(500): os.mkdir('d'); os.chdir('d')\nos.chdir('/mnt/data')").raise_for_error()
    assert 10 < len(place.files.list()) < 50
    with pytest.raises(FileNameRefused):
        place.files.read("/".join(["d"] * 40))
    strike(place, "subprocess.run(['rm', '-rf', 'd'])")


@attack("SelfDoS")
def test_full_place_is_told_by_name(cramped: Session) -> None:
    fill = "for n in range(40): error(lambda: open(f'/mnt/data/f{n}', 'wb', 0).write(b'x' * 2**20))"
    strike(cramped, fill).raise_for_error()
    with pytest.raises(SandboxFull):
        cramped.files.write("more", b"x" * 2**20)
    strike(cramped, CLEAR).raise_for_error()
    assert cramped.files.write("more", b"x").size == 1


@attack("HostDoS")
def test_times_and_modes_of_a_file_do_not_reach_the_host(place: Session, tmp_path: Path) -> None:
    make = "open('x', 'w').close(); os.utime('x', (2**62 // 10**9, 2**62 // 10**9)); os.utime('x', (-2**31, -2**31))"
    strike(place, f"{make}; os.chmod('x', 0o6777)").raise_for_error()
    assert {info.modified_at.year for info in place.files.list()} <= {1970, 2026, *range(2020, 2100)}
    target = place.files.download("x", tmp_path / "x")
    assert target.stat().st_mode & 0o7111 == 0


@attack("Escape")
def test_download_writes_where_its_caller_says(place: Session, tmp_path: Path) -> None:
    """Into a directory it goes under the last part of the name that the caller gave, never under another."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "kept" / "x").symlink_to(tmp_path / "precious")
    strike(place, "os.makedirs('a/b'); open('a/b/x', 'w').write('from the sandbox')").raise_for_error()
    assert place.files.download("a/b/x", tmp_path / "kept") == tmp_path / "kept" / "x"
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "kept" / "x").read_text() == "from the sandbox"


@attack("SelfDoS")
def test_hidden_uploads_and_half_ones_are_no_trap(place: Session) -> None:
    strike(place, "open('.upload-00', 'w').write('x'); os.symlink('/etc/passwd', '.upload-01')").raise_for_error()
    place.files.write("x", b"whole")
    assert place.files.read("x") == b"whole"
    with pytest.raises(FileNameRefused):
        place.files.read(".upload-01")


@attack("HostLeak")
def test_mount_shows_no_more_than_itself(engine: str, tmp_path: Path, canaries: Canaries) -> None:
    from kernel_sandbox import Mount

    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "file").write_text("shown")
    (tmp_path / "beside").write_text(canaries.token)
    (tmp_path / "shown" / "link").symlink_to(tmp_path / "beside")
    (tmp_path / "shown" / "up").symlink_to("..")
    for path in (tmp_path, tmp_path / "shown"):
        path.chmod(0o755)
    with armed(engine, mounts=(Mount(tmp_path / "shown", "shown"),)) as session:
        look = """
found = []
for at, folders, names in os.walk("/mnt/input", followlinks=True):
    for name in names:
        with contextlib.suppress(OSError): found.append(open(os.path.join(at, name)).read())
answer(sorted(set(found)))
"""
        assert ask(session, look) == ["shown"]
        change = """
answer([error(lambda: open("/mnt/input/shown/new", "w")), error(os.unlink, "/mnt/input/shown/file"),
        error(os.chmod, "/mnt/input/shown/file", 0o777), error(os.rename, "/mnt/input/shown", "/mnt/input/x")])
"""
        assert 0 not in ask(session, change)
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == ["file", "link", "up"]


@attack("Escape")
def test_engine_reaches_in_for_nothing_after_the_start(docker: None) -> None:
    """What an engine runs or copies inside runs with its rights on what a cell left there: PID 1 does it instead."""
    since = time.time()
    with armed("docker") as session:
        session.files.write("x", b"x")
        assert session.files.read("x") == b"x"
        session.usage()
        session.restart()
        filters = {"label": f"org.kernel-sandbox.session={session.id}", "type": "container"}
        api: Any = connect().api
        events = api.events(since=f"{since:.6f}", until=f"{time.time():.6f}", filters=filters, decode=True)
        assert {event["Action"] for event in events} == {"create", "attach", "start"}


@attack("PeerDoS")
def test_many_operations_at_once_are_bounded_and_answered(place: Session) -> None:
    """PID 1 is stopped by nobody, but slowed: every operation ends, with an answer or an error."""
    strike(place, "open('/mnt/data/x', 'wb').write(b'x' * 2**22)").raise_for_error()
    ended = []

    def read() -> None:
        try:
            ended.append(len(place.files.read("x")))
        except SandboxError:
            ended.append(-1)

    threads = [threading.Thread(target=read) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(ended) == 40
    assert set(ended) == {2**22}


@attack("HostDoS")
@pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)
@pytest.mark.parametrize("single", [False, True], ids=["directory", "file"])
def test_lock_on_a_mounted_file_does_not_hold_on_the_host(engine: str, single: bool, tmp_path: Path) -> None:
    """The host's SQLite would say that its database is locked."""
    assert not lock_on_the_host(engine, tmp_path, single=single)


MULTIPLIED = {
    "one part for three hundred columns": (ONE_FOR_MANY, "a part of the value is there for two"),
    "a hundred thousand columns": (MANY_COLUMNS, "more than 10,000 columns"),
    "three million parts": (MANY_PARTS, "more parts than columns"),
}
MOST_OF_A_VALUE = 100.0
"""Megabytes, for a head of up to six as JSON."""


@attack("HostDoS")
@pytest.mark.alone
@pytest.mark.parametrize("planted", MULTIPLIED)
def test_value_takes_no_more_than_what_came(planted: str, engine: str) -> None:
    fetch_nothing()
    source, reason = MULTIPLIED[planted]
    said: list[str] = []
    with armed(engine) as session:
        assert growth(lambda: said.append(fetch(session, source))) < MOST_OF_A_VALUE
        assert reason in said[0]
        assert session.execute("builtins.open = honest").status == "ok"
        assert session.get("x") == 1
