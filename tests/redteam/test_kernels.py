"""Kernels that reach for what made them, end in odd ways, or leave something for those that come after."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kernel_sandbox import Limits, OutOfMemory, SandboxLost, Session
from tests.redteam import census
from tests.redteam.cells import alternating, arm, armed, ask, attack, is_well, opened_sessions, settings_kept, strike


@attack("Integrity")
def test_kernel_holds_no_line_to_pid_1(target: Session) -> None:
    """No socket whose other end is another process of the sandbox, and no end of a pipe without the other."""
    look = """
import struct
lines, ends = [], {}
for name in os.listdir("/proc/self/fd"):
    with contextlib.suppress(OSError):
        link = os.readlink(f"/proc/self/fd/{name}")
        if link.startswith("socket:"):
            with copy_of(int(name)) as probe:
                pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            lines += [pid] if pid not in (0, os.getpid()) else []
        elif link.startswith("pipe:"):
            ends.setdefault(link, set()).add(os.stat(f"/proc/self/fd/{name}", follow_symlinks=False).st_mode & 0o700)
answer([lines, [link for link, modes in ends.items() if len(modes) < 2]])
"""
    assert ask(target, look) == [[], []]


@attack("SelfDoS")
def test_storm_of_signals_leaves_pid_1_answering(target: Session) -> None:
    """SIGCHLD is the one signal that PID 1 handles."""
    storm = """
pids = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        end = time.monotonic() + 1.5
        while time.monotonic() < end: os.kill(1, signal.SIGCHLD)
        os._exit(0)
    pids.append(pid)
"""
    strike(target, storm).raise_for_error()
    started, slowest = time.monotonic(), 0.0
    while time.monotonic() - started < 1.2:
        clock = time.monotonic()
        target.files.write("x", b"x")
        slowest = max(slowest, time.monotonic() - clock)
    strike(target, "for pid in pids: os.waitpid(pid, 0)").raise_for_error()
    assert slowest < 3
    assert is_well(target)


@attack("SelfDoS")
def test_dead_children_are_taken_away(target: Session) -> None:
    """Orphans become PID 1's: as zombies they would use up the sandbox's processes."""
    orphan = """
for _ in range(100):
    if (pid := os.fork()) == 0:
        if os.fork(): os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
"""
    strike(target, orphan).raise_for_error()
    deadline = time.monotonic() + 5
    while (count := target.usage().processes) > 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count == 3


PLANT = """
import os, sys
said = "import os; open('/mnt/data/importers', 'a').write(f'{os.getpid()} {__name__}\\\\n')\\n"
names = ["numpy", "pandas", "json", "colorsys", "sitecustomize", "usercustomize", "matplotlib", "IPython"]
site = os.path.expanduser(f"~/.local/lib/python3.{sys.version_info.minor}/site-packages")
os.makedirs(site, exist_ok=True)
for folder in ("/mnt/data", "/tmp", "/dev/shm", site):
    for name in names:
        open(f"{folder}/{name}.py", "w").write(said)
    open(f"{folder}/evil.pth", "w").write("import colorsys\\n")
"""


@attack("Integrity")
def test_modules_that_a_cell_leaves_are_not_in_the_next_kernel(engine: str) -> None:
    """/mnt/data stays, and is where the next kernel begins; what makes kernels imports nothing from there."""
    with armed(engine) as session:
        for _ in range(2):
            strike(session, PLANT).raise_for_error()
            session.restart()
        told = ask(session, "import json, os, sys\nprint(json.dumps([os.getpid(), os.path.exists('importers')]))")
        importers = session.files.read("importers").decode().splitlines() if told[1] else []
        loaded = "[m.__file__ for m in list(sys.modules.values()) if '/mnt/data' in str(getattr(m, '__file__', ''))]"
        found = ask(session, f"print(json.dumps({loaded}))")
    assert {line.split()[0] for line in importers} <= {str(told[0])}, "another process than a kernel has run it"
    assert found == [], "the kernel began with it"


@attack("Integrity")
@pytest.mark.parametrize("env", [{}, {"MPLCONFIGDIR": "/mnt/data/mpl"}], ids=["home", "a variable"])
def test_settings_that_a_cell_leaves_are_not_in_the_next_kernel(engine: str, env: dict[str, str]) -> None:
    """What makes kernels imports libraries while a cell runs that writes their settings."""
    with Session(engine=engine, image="datascience", env=env) as session:
        opened_sessions.add(session.id)
        arm(session)
        assert settings_kept(session) == [False, False, False], "rc file, styles, fonts"


@attack("Lateral")
@pytest.mark.parametrize(
    ("engine", "other"),
    alternating(["/proc/1/fd/3", "/mnt/data/impostor", "/opt/kernel-sandbox/run"]),
    indirect=["engine"],
)
def test_forwarded_channel_leads_nowhere_but_inside(engine: str, other: str) -> None:
    """With transport forward the cell's user owns the socket directory, and PID 1 connects to what stands there."""
    replace = """
directory = "/opt/kernel-sandbox/run/" + max(os.listdir("/opt/kernel-sandbox/run"))
held = socket.socket(socket.AF_UNIX)
held.bind("/mnt/data/impostor")
held.listen()
for port in (1, 4):
    os.rename(f"{directory}/s-{port}", f"{directory}/old-{port}")
    os.symlink(OTHER, f"{directory}/s-{port}")
def cut():
    for channel in ("shell", "control"):
        for number in descriptors(channel):
            with contextlib.suppress(OSError): copy_of(number).shutdown(socket.SHUT_RDWR)
threading.Timer(0.1, cut).start()
"""
    with armed(engine, transport="forward", limits=Limits(interrupt_grace=0.2)) as session:
        strike(session, replace, OTHER=other).raise_for_error()
        time.sleep(0.3)
        assert session.execute("'lost'", timeout=0.5).status in ("ok", "timeout", "dead")
        session.restart()
        assert is_well(session)


@attack("SelfDoS")
def test_kernel_that_becomes_another_program_is_replaced(engine: str) -> None:
    with armed(engine, limits=Limits(interrupt_grace=0.2)) as session:
        become = "os.execv(sys.executable, ['python3', '-c', 'import signal, time; time.sleep(600)'])"
        execution = strike(session, become, timeout=0.5)
        assert execution.status in ("timeout", "dead")
        session.restart()
        assert is_well(session)


@attack("SelfDoS")
def test_memory_taken_by_many_small_processes_ends_in_a_named_way(
    engine: str, record_property: Callable[[str, object], None]
) -> None:
    """PID 1 is then the largest process, and may be the one that the host's kernel ends: with it the sandbox ends."""
    many = """
pids = []
while len(pids) < 48:
    if (pid := os.fork()) == 0:
        held = bytearray(b"x") * (12 * 2**20)
        time.sleep(60)
    pids.append(pid)
time.sleep(2)
"""
    limits = Limits(
        memory="320m", data_size="16m", tmp_size="16m", home_size="16m", shm_size="16m", interrupt_grace=0.3
    )
    with armed(engine, limits=limits) as session:
        started = time.monotonic()
        execution = strike(session, many, timeout=15)
        if execution.status == "dead":
            record_property("detection", time.monotonic() - started)
            assert isinstance(execution.cause, OutOfMemory | SandboxLost), execution.cause
        session.restart()
        assert is_well(session)
        identifier = session.id
    assert census.running(engine, [identifier]) == []


@attack("SelfDoS")
def test_kernel_that_is_stopped_from_within_is_restarted_with_its_sandbox(target: Session) -> None:
    """Every process that a cell may signal is stopped, the one that forks kernels too."""
    stop = """
for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"):
    if pid != os.getpid(): os.kill(pid, signal.SIGSTOP)
print("stopped")
"""
    assert strike(target, stop).text == "stopped\n"
    target.restart()
    arm(target)
    assert is_well(target)
