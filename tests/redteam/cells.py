"""How tests attack: armed sessions, and cells that answer in JSON."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import Execution, Limits, Mount, PoolSettings, SandboxSpec, Session, SessionPool
from kernel_sandbox.sandbox.engines import NAMES

ATTACKER = Path(__file__).with_name("inside") / "attacker.py"
TRY = """
import contextlib, ctypes, errno, json, os, resource, signal, socket, stat, subprocess, sys, threading, time, warnings
warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)  # of a process with threads, since Python 3.12
libc = ctypes.CDLL(None, use_errno=True)

def error(attempt, *arguments):
    "The error number of an attempt, 0 where it succeeded."
    try:
        attempt(*arguments)
    except OSError as exc:
        return exc.errno or -1
    return 0

def answer(value):
    print(json.dumps(value))
"""
EPERM, ENOENT, EAGAIN, EACCES, EINVAL, EMFILE, EFBIG, ENOSPC, EROFS, ENOSYS = 1, 2, 11, 13, 22, 24, 27, 28, 30, 38
ENETUNREACH, ECONNREFUSED = 101, 111

SMALL = Limits(
    memory="320m",
    cpus=0.5,
    pids=64,
    data_size="16m",
    tmp_size="16m",
    home_size="16m",
    shm_size="16m",
    inodes=600,
    open_files=256,
)
"""Little of everything."""

SLOWNESS = float(os.environ.get("KERNEL_SANDBOX_SLOWNESS", "1"))
"""By how much cells may take longer here than elsewhere: tests.guest sets it."""
opened_sessions: set[str] = set()
"""The ids of all that were opened, for the census at the end."""
host_processes: set[int] = set()
"""The processes that opened sessions beside this one."""

attack = pytest.mark.attack
"""attack(severity): a test that is an attack, and what it would be if it succeeded."""


def alternating(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pair names with the engines by turns: for what no engine has a part in, once is enough."""
    return [(NAMES[place % len(NAMES)], name) for place, name in enumerate(names)]


@contextlib.contextmanager
def armed(engine: str, **options: Any) -> Iterator[Session]:
    """Open a session on the small image, with the attacker's module in it."""
    with Session(engine=engine, image="python", **options) as session:
        opened_sessions.add(session.id)
        arm(session)
        yield session


def arm(session: Session) -> None:
    """Give the sandbox what the cells of these tests use. Call it again after a restart."""
    session.files.write("attacker.py", ATTACKER.read_bytes())
    session.execute(f"{TRY}\nimport attacker\nfrom attacker import *").raise_for_error()


def strike(session: Session, source: str, *, timeout: float = 20, **values: Any) -> Execution:
    """Run a cell that attacks. `values` are names that it finds set."""
    names = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return session.execute(names + source, timeout=timeout * SLOWNESS)


def ask(session: Session, source: str, *, timeout: float = 30, **values: Any) -> Any:
    """Run a cell that calls `answer`, and return what it answered last."""
    execution = strike(session, source, timeout=timeout, **values).raise_for_error()
    return json.loads(execution.text.splitlines()[-1])


def is_well(session: Session) -> bool:
    """Whether the session's next cell runs as if nothing had happened."""
    execution = session.execute("print(6 * 7)", timeout=10 * SLOWNESS)
    return execution.status == "ok" and execution.text == "42\n"


LEAVE_SETTINGS = """
import os, pathlib, time
homes = {pathlib.Path.home() / ".config/matplotlib", pathlib.Path(os.environ.get("MPLCONFIGDIR", "/mnt/data/mpl"))}
for place in (*homes, pathlib.Path("/mnt/data")):
    (place / "stylelib").mkdir(parents=True, exist_ok=True)
    (place / "matplotlibrc").write_text("font.size: 77\\n")
    (place / "stylelib/evil.mplstyle").write_text("font.size: 77\\n")
for path in pathlib.Path.home().glob(".cache/matplotlib/fontlist-*.json"):
    path.write_text(path.read_text().replace("DejaVu Sans", "Evil Sans"))
"""
IMPORTED = "import sys\nanswer('matplotlib.pyplot' in sys.modules)"
LEARNED = """
import matplotlib.pyplot, matplotlib.font_manager
styles = "evil" in matplotlib.style.available
fonts = "Evil Sans" in {font.name for font in matplotlib.font_manager.fontManager.ttflist}
answer([matplotlib.rcParams["font.size"] == 77, styles, fonts])
"""
IDLE = 8.0
"""Seconds in which the process that forks kernels imports the large image's modules, unless it is asked meanwhile."""


def settings_kept(session: Session) -> list[bool]:
    """Leave settings for matplotlib; return which of them a later kernel has that did not import it."""
    for patience in (IDLE, 2 * IDLE, 4 * IDLE):
        strike(session, LEAVE_SETTINGS).raise_for_error()
        time.sleep(patience)
        session.restart()
        arm(session)
        if ask(session, IMPORTED):
            return list(ask(session, LEARNED))
    raise AssertionError("no kernel began with its libraries")


WATCH = """
library = os.path.dirname(os.__file__)
watching = libc.inotify_init1(os.O_NONBLOCK)
for place in (library, "/usr/bin"):
    libc.inotify_add_watch(watching, place.encode(), 0x21)  # IN_ACCESS | IN_OPEN
"""
OPEN = """
for path in (os.path.dirname(os.__file__) + "/colorsys.py", "/usr/bin/env"):
    with open(path, "rb") as file: file.read()
"""
SEEN = """
try: seen = os.read(watching, 65536)
except BlockingIOError: seen = b""
answer([name for name in ("colorsys.py", "env") if name.encode() in seen])
"""


def told_of_a_neighbour(one: Session, other: Session) -> list[str]:
    """Return which files that one session opens another is told of, and whether a lock of one holds the other up."""
    strike(one, WATCH).raise_for_error()
    strike(other, OPEN).raise_for_error()
    told: list[str] = ask(one, SEEN)
    strike(one, OPEN).raise_for_error()
    assert ask(one, SEEN) == ["colorsys.py", "env"], "it is told of none of its own either"
    strike(one, "import fcntl; held = open(os.__file__); fcntl.flock(held, fcntl.LOCK_EX)").raise_for_error()
    lock = "answer(error(lambda: fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)))"
    return told + (["a lock"] if ask(other, f"import fcntl; held = open(os.__file__); {lock}") else [])


OF_ALL = "/dev/full"
"""A device of every machine that hardly any program opens."""
WATCHED = (OF_ALL, "/dev/null", "/sys/devices/system/cpu/online", "/proc/version", "/proc/sys/fs/file-nr")
"""What could be an inode of the host's: devices, files of the kernel's, and what covers them."""


def has_devices_of_the_host(session: Session) -> bool:
    """Whether this user makes no devices, as the session is to say."""
    shared = session.engine == "bubblewrap" and os.getuid() != 0
    assert any("makes no devices" in words for words in session.weakened) == shared
    return shared


def told_of_the_host(session: Session) -> list[str]:
    """Return of which of its places a cell is told that the host opens them, or its /dev/null, which may cover them."""
    watch = """
watching = {}
for path in PATHS:
    watching[path] = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watching[path], path.encode(), 0x20) > 0  # IN_OPEN
"""
    strike(session, watch, PATHS=WATCHED).raise_for_error()
    for path in WATCHED:
        Path(path).open("rb").close()
    answer = "answer([path for path, descriptor in watching.items() if not error(os.read, descriptor, 4096)])"
    told: list[str] = ask(session, answer)
    strike(session, f"open({OF_ALL!r}, 'rb').close()").raise_for_error()
    assert OF_ALL in ask(session, answer), "it is told of none of its own either"
    return told


def lock_on_a_device(session: Session, device: str = OF_ALL) -> bool:
    """Return whether a cell's lock on a device keeps the host from one."""
    take = (
        f"import fcntl; device = os.open({device!r}, os.O_RDONLY); fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    strike(session, take).raise_for_error()
    with Path(device).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def lock_on_the_host(engine: str, directory: Path, *, single: bool) -> bool:
    """Return whether a cell's read lock on a mounted database keeps the host from writing to it."""
    database = directory / "shown" / "base.db"
    database.parent.mkdir()
    for path in (directory, database.parent):
        path.chmod(0o755)
    with contextlib.closing(sqlite3.connect(database, timeout=0.2)) as host:
        host.execute("create table t (n)")
        mount = Mount(database if single else database.parent, "shown")
        inside = mount.target if single else f"{mount.target}/base.db"
        with Session(engine=engine, spec=SandboxSpec(image="python", mounts=(mount,), strict=False)) as session:
            opened_sessions.add(session.id)
            arm(session)
            strike(session, f"import fcntl; held = open({inside!r}, 'rb'); fcntl.lockf(held, fcntl.LOCK_SH)")
            try:
                host.execute("insert into t values (1)")
                host.commit()
            except sqlite3.OperationalError as exc:
                return "locked" in str(exc)
            read = "import sqlite3; base = sqlite3.connect(f'file:{PATH}?immutable=1', uri=True)"
            seen = ask(session, f"{read}; answer(base.execute('select * from t').fetchall())", PATH=inside)
            assert seen == [[1]], "it does not see what the host has written"
    return False


def service_notebook(engine: str, directory: Path) -> Path:
    """Make a service's pool keep a notebook in a directory that everybody may read; the umask hides nothing."""

    async def keep() -> Path:
        settings, spec = PoolSettings(ready=0), SandboxSpec(image="python")
        pool = SessionPool(settings, spec=spec, engine=engine, save_dir=directory)
        async with pool, pool.acquire("one") as session:
            (await session.execute("'a secret'")).raise_for_error()
        (path,) = directory.glob("*.ipynb")
        return path

    directory.chmod(0o755)
    mask = os.umask(0)
    try:
        return asyncio.run(keep())
    finally:
        os.umask(mask)
