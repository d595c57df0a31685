"""An image whose package attacks where a template imports it: a sandbox is as without one, or starts by itself."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from kernel_sandbox import Limits
from kernel_sandbox.sandbox.engines import control_groups
from kernel_sandbox.sandbox.engines.bubblewrap_newborn import TemplateFailed, check_descriptors
from tests.sandbox.engines.forked import FILTERS, children, is_forked, keepers, opened, templates, until
from tests.sandbox.engines.spoiled import spoiled

pytestmark = pytest.mark.usefixtures("from_templates")

IN_TEMPLATE = """
import sys
offspring = sys.modules.get("kernel_sandbox.inside.offspring")
if offspring is not None:
    import ctypes, fcntl, json, os, socket, time
    from kernel_sandbox.inside import confinement
"""
"""The rest is the attack: it runs where the modules of the image are imported before any sandbox is."""

UNCONFINED = {
    "privileges": "confinement.drop_capabilities = lambda: None",
    "filter": "confinement.filter_system_calls = lambda program: None",
    "network namespace": "offspring.NAMESPACES &= ~0x40000000",
    "pid namespace": "offspring.NAMESPACES &= ~0x20000000",
    "mounts of the template": """
        for name in ("shm", "pts"):
            os.makedirs(f"/home/sandbox/{name}", exist_ok=True)
        os.chmod("/home/sandbox", 0o777)
        offspring._make_devices = lambda slot: offspring._bind("/home/sandbox", "/dev")
    """,
    "descriptor": """
        common = socket.socketpair()
        def keep(descriptors):
            for number, high in enumerate([fcntl.fcntl(one, fcntl.F_DUPFD, 64) for one in descriptors]):
                os.dup2(high, number)
            os.closerange(offspring.TALK + 1, common[0].fileno())
        offspring._keep_only = keep
    """,
    "second process": """
        honest = confinement.give_up
        def fork_too(program):
            if os.fork() == 0:
                time.sleep(600)
            honest(program)
        confinement.give_up = fork_too
    """,
    "privileges of the monitor": """
        honest = confinement.drop_capabilities
        confinement.drop_capabilities = lambda: honest() if os.getpid() == 1 else None
    """,
    "filter of the monitor": """
        honest = confinement.filter_system_calls
        confinement.filter_system_calls = lambda program: honest(program) if os.getpid() == 1 else None
    """,
    "descriptor of the monitor": """
        honest = offspring._give_up
        def hold(*given):
            honest(*given)
            offspring.held = os.open("/etc/passwd", os.O_RDONLY)
        offspring._give_up = hold
    """,
    "process beside the monitor": """
        honest = offspring._step
        def leave(host, word):
            honest(host, word)
            if "monitor" in word and (child := os.fork()) == 0:
                os.closerange(0, 64)
                if os.fork() == 0:
                    time.sleep(600)
                os._exit(0)
            elif "monitor" in word:
                os.waitpid(child, 0)
        offspring._step = leave
    """,
    "limits": "confinement.limit = lambda values: confinement.drop_bounding_set()",
    "early words": """
        def unending(order, descriptors):
            os.write(descriptors[-1], b"[" * 8000)
            time.sleep(600)
        offspring.run = unending
    """,
}


def attack(source: str) -> dict[str, str]:
    lines = source.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return {"hostile_package.py": IN_TEMPLATE + "".join(f"    {line[indent:]}\n" for line in lines)}


NOTICED = {
    "privileges": "a sandbox has privileges: CapPrm, CapEff",
    "filter": "a sandbox may make more system calls",
    "network namespace": "namespaces in common: net",
    "pid namespace": "",
    "mounts of the template": "a file system in common at /dev",
    "descriptor": "more descriptors than its own",
    "second process": "more processes than a sandbox begins with",
    "privileges of the monitor": "a sandbox has privileges: CapPrm, CapEff",
    "filter of the monitor": "a sandbox may make more system calls",
    "descriptor of the monitor": "more descriptors than its own",
    "process beside the monitor": "more processes than a sandbox begins with",
    "limits": "a sandbox has another RLIMIT_",
    "early words": "nothing that can be read",
}


@pytest.mark.parametrize("name", UNCONFINED)
def test_sandbox_that_a_package_has_changed_is_not_used(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with spoiled("python", attack(UNCONFINED[name])), opened(preload=("hostile_package",)) as session:
        assert session.execute(FILTERS).text == "1\n"
        assert session.execute("import sys; print('hostile_package' in sys.modules)").text == "True\n"
    assert "did not fork a sandbox" in caplog.text
    assert NOTICED[name] in caplog.text


STAYS = """
honest = offspring._step, offspring.confine
def step(host, word):
    if "confined" not in word or offspring.slot != "/run/2/sockets":
        return honest[0](host, word)
    host.send(b'{"confined": []}')
    time.sleep(600)
def stay(order):
    offspring.slot = order["slot_sockets"]
    if offspring.slot == "/run/2/sockets" and os.fork() == 0:
        time.sleep(600)
    return honest[1](order)
offspring._step, offspring.confine = step, stay
"""


def test_fork_that_is_refused_leaves_nobody_in_the_control_group_of_the_next() -> None:
    with spoiled("python", attack(STAYS)), opened(preload=("hostile_package",)) as first:
        [template] = templates()
        [monitor] = children(template)
        with opened(preload=("hostile_package",)) as session:
            assert session.execute(FILTERS).text == "1\n"
            assert children(template) == [monitor]
        assert first.execute(FILTERS).text == "2\n"


LISTENS = """
if os.fork() == 0:
    os.closerange(3, 64)
    while True:
        told = {}
        for number in range(10):
            with socket.socket(socket.AF_UNIX) as asking:
                told[number] = asking.connect_ex(f"/run/1/sockets/{number}/s-2")
        with open("/home/sandbox/new", "w") as file:
            json.dump(told, file)
        os.rename("/home/sandbox/new", "/home/sandbox/told")
        time.sleep(0.05)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="without root a template has the user of its sandboxes")
def test_process_that_a_package_leaves_in_its_template_reaches_no_sockets_of_a_sandbox() -> None:
    with spoiled("python", attack(LISTENS)), opened(preload=("hostile_package",)) as session:
        assert is_forked(session)
        [keeper] = keepers()
        place = Path(f"/proc/{keeper}/root")
        assert list(place.glob("run/1/sockets/*/s-2"))
        told, since = place / "home/sandbox/told", time.time()
        assert until(lambda: told.stat().st_mtime > since)
        assert set(json.loads(told.read_text()).values()) == {errno.EACCES}


def test_file_of_another_device_with_a_streams_number_is_no_stream() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        statuses = [os.fstat(stream.fileno()) for stream in (process.stdin, process.stdout, process.stderr) if stream]
        check_descriptors(process.pid, {(status.st_dev, status.st_ino) for status in statuses})
        with pytest.raises(TemplateFailed, match="more descriptors than its own"):
            check_descriptors(process.pid, {(status.st_dev + 1, status.st_ino) for status in statuses})
        process.kill()


LIES = """
honest = offspring._step
def lie(host, word):
    honest(host, word)
    if "confined" in word:
        mine = socket.socket(fileno=os.dup(host.fileno()))
        import threading
        threading.Timer(1.0, mine.send, (b'{"status": 0}',)).start()
offspring._step = lie
"""


def test_end_that_a_package_makes_up_is_an_end() -> None:
    with spoiled("python", attack(LIES)), opened(preload=("hostile_package",)) as session:
        [template] = templates()
        below = [process for monitor in children(template) for process in (monitor, *children(monitor))]
        assert len(below) == 2
        assert until(lambda: not any(Path(f"/proc/{process}").exists() for process in below), 5)
        assert session.execute("1").status == "dead"


LOOKS = """
def attempt(action):
    try:
        return str(action())
    except BaseException as exc:
        return type(exc).__name__
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    return "done" if getattr(libc, name)(*arguments) != -1 else "refused"
found = {
    "processes": attempt(lambda: [name for name in os.listdir("/proc") if name.isdigit()]),
    "parent": attempt(os.getppid),
    "shadow": attempt(lambda: open("/etc/shadow").read()),
    "host": attempt(lambda: any(map(os.path.exists, ("/root/.ssh", "/run/docker.sock", "/var/cache/kernel-sandbox")))),
    "written": attempt(lambda: open("/opt/venv/planted", "w")),
    "network": attempt(lambda: socket.create_connection(("1.1.1.1", 53), 1)),
    "traced": call("ptrace", 16, 1, 0, 0),
    "entered": call("setns", 0, 0),
    "capabilities": [line.split()[1] for line in open("/proc/cpuinfo") if line.startswith("Cap")],
    "user": attempt(os.getuid),
    "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "node": attempt(lambda: os.mknod("/home/sandbox/disk", 0o60666, os.makedev(8, 0))),
    "modules": call("syscall", 175, 0, 0, 0),
    "cmdline": attempt(lambda: open("/proc/cmdline").read()),
    "killed": attempt(lambda: os.kill(-1, 0)),
}
import builtins
builtins.found = found
"""


def test_package_reaches_from_its_template_nothing_that_a_cell_does_not() -> None:
    with spoiled("python", attack(LOOKS)), opened(preload=("hostile_package",)) as session:
        assert is_forked(session)
        found = session.execute("import builtins, json; print(json.dumps(builtins.found))").text
    told = json.loads(found)
    assert told.pop("user") != str(os.getuid()) or os.getuid() != 0
    assert told == {
        "processes": "[]",
        "parent": "0",
        "shadow": "FileNotFoundError",
        "host": "False",
        "written": "OSError",
        "network": "OSError",
        "traced": "refused",
        "entered": "refused",
        "capabilities": [],
        "mount": "refused",
        "node": "PermissionError",
        "modules": "refused",
        "cmdline": "",
        "killed": "ProcessLookupError",
    }


def test_package_that_takes_all_memory_in_its_template_has_sandboxes_start_by_themselves() -> None:
    source = "kept = []\nwhile True:\n    kept.append(bytearray(64 * 1024**2))"
    with spoiled("python", attack(source)), opened(preload=("hostile_package",)) as session:
        assert session.execute(FILTERS).text == "1\n"


ENDLESS = """
if "kernel_sandbox.inside.offspring" in __import__("sys").modules:
    memory = 0
    try:
        while memory < 64:
            kept = memory, bytearray(1024**3), globals().get("kept")
            memory += 1
    except MemoryError:
        kept = None
    assert memory <= 2, memory
"""


def test_template_without_control_groups_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_groups, "create", lambda name, limits: control_groups.ControlGroup())
    with spoiled("python", {"hostile_package.py": ENDLESS}), opened(preload=("hostile_package",)) as session:
        assert is_forked(session)
        lines = Path(f"/proc/{templates()[0]}/limits").read_text().splitlines()
        limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
        assert limits["Max data size"] == [str(2 * 1024**3)] * 2
        assert limits["Max processes"] == ["4096"] * 2
        with opened(preload=("hostile_package",), limits=Limits(memory="3g")) as larger:
            assert not is_forked(larger)
