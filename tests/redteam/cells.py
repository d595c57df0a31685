"""How tests attack: armed sessions, and cells that answer in JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import Execution, Limits, PoolSettings, SandboxSpec, Session, SessionPool
from kernel_sandbox.engines import NAMES

ATTACKER = Path(__file__).with_name("inside") / "attacker.py"
TRY = """
import contextlib, ctypes, errno, json, os, resource, signal, socket, stat, subprocess, sys, threading, time
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
EPERM, ENOENT, EAGAIN, EACCES, EMFILE, EFBIG, ENOSPC, EROFS, ENOSYS = 1, 2, 11, 13, 24, 27, 28, 30, 38
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
    return session.execute(names + source, timeout=timeout)


def ask(session: Session, source: str, *, timeout: float = 30, **values: Any) -> Any:
    """Run a cell that calls `answer`, and return what it answered last."""
    execution = strike(session, source, timeout=timeout, **values).raise_for_error()
    return json.loads(execution.text.splitlines()[-1])


def is_well(session: Session) -> bool:
    """Whether the session's next cell runs as if nothing had happened."""
    execution = session.execute("print(6 * 7)", timeout=10)
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


def service_notebook(engine: str, directory: Path) -> Path:
    """Make a service's pool keep a notebook in a directory that everybody may read; the umask hides nothing."""

    async def keep() -> Path:
        path = directory / "kept.ipynb"
        settings, spec = PoolSettings(ready=0), SandboxSpec(image="python")
        pool = SessionPool(settings, spec=spec, engine=engine, transcripts=lambda _: path)
        async with pool, pool.acquire("one") as session:
            (await session.execute("'a secret'")).raise_for_error()
        return path

    directory.chmod(0o755)
    mask = os.umask(0)
    try:
        return asyncio.run(keep())
    finally:
        os.umask(mask)
