"""What a cell can see and do of the host: asserted by cells, on the default profile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines import NAMES
from tests.conftest import missing


@pytest.fixture(scope="module", params=NAMES)
def inside(request: pytest.FixtureRequest) -> Iterator[Session]:
    if reason := missing(request.param):
        pytest.skip(reason)
    os.environ["CANARY_KEY"] = "canary-4711"
    with Session(engine=request.param, image="python") as opened:
        yield opened
    del os.environ["CANARY_KEY"]


INTERFACES = "[line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line]"


def ask(session: Session, source: str) -> Any:
    """Run a cell whose last line prints JSON, and return that."""
    return json.loads(session.execute(f"import json, os, socket\n{source}").raise_for_error().text)


def test_sandbox_has_no_interface_but_loopback(inside: Session) -> None:
    assert ask(inside, f"print(json.dumps({INTERFACES}))") == ["lo"]
    reach = "s = socket.socket(); s.settimeout(2)\nprint(json.dumps(s.connect_ex(('192.0.2.1', 80))))"
    assert ask(inside, reach) == 101  # ENETUNREACH


def test_sandbox_has_no_name_service(inside: Session) -> None:
    assert inside.execute("socket.getaddrinfo('example.com', 80)").error is not None


def test_kernel_has_no_capability_and_can_gain_none(inside: Session) -> None:
    lines = "status = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)\n"
    status = ask(inside, lines + "print(json.dumps(status))")
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    uids = set(status["Uid"].split())
    assert len(uids) == 1
    assert int(uids.pop()) not in (0, os.getuid())


def test_two_sessions_have_two_users(inside: Session) -> None:
    with Session(engine=inside.engine, image="python") as other:
        assert ask(inside, "print(os.getuid())") != ask(other, "print(os.getuid())")


def test_root_file_system_is_read_only(inside: Session) -> None:
    attempts = """
refused = []
for path in ('/x', '/etc/x', '/opt/venv/x', '/usr/x', '/run/x', '/mnt/x', '/dev/x', '/proc/sys/kernel/x', '/sys/x'):
    try: open(path, 'w')
    except OSError as exc: refused.append(exc.errno)
print(json.dumps(refused))
"""
    refused = ask(inside, attempts)
    assert len(refused) == 9
    assert set(refused) <= {30, 13, 2, 1}  # EROFS, EACCES, ENOENT, EPERM


def test_environment_holds_nothing_of_the_host(inside: Session) -> None:
    environment = ask(inside, "print(json.dumps(dict(os.environ)))")
    assert "canary-4711" not in json.dumps(environment)
    assert environment["HOME"] == "/home/sandbox"
    shared = {name for name, value in os.environ.items() if environment.get(name) == value}
    assert shared <= {"LANG", "TERM", "TZ", "PATH", "HOME", "SHLVL", "PWD"}


def test_writable_places_are_sized_and_cannot_hold_programs(inside: Session) -> None:
    mounts = ask(inside, "print(json.dumps([line.split() for line in open('/proc/mounts')]))")
    options = {mount[1]: set(mount[3].split(",")) for mount in mounts if mount[2] == "tmpfs"}
    for place in ("/mnt/data", "/tmp", "/home/sandbox", "/dev/shm"):
        assert {"rw", "nosuid", "nodev", "noexec"} <= options[place]
        assert any(option.startswith("size=") for option in options[place])
        assert "nr_inodes=65536" in options[place] or "nr_inodes=64k" in options[place]


def test_pid_1_is_opaque(inside: Session) -> None:
    attempts = """
refused = []
for name in ('mem', 'environ', 'fd/3', 'fd/4', 'maps'):
    try: open('/proc/1/' + name, 'rb').read(1)
    except OSError as exc: refused.append(exc.errno)
print(json.dumps(refused))
"""
    assert ask(inside, attempts) == [13] * 5  # EACCES
    signals = "import signal\nfor number in (9, 15, 2, 10, 17, 19): os.kill(1, number)\nprint(json.dumps('sent'))"
    assert ask(inside, signals) == "sent"
    assert inside.usage().processes >= 3


def test_kernel_holds_no_descriptor_of_pid_1(inside: Session) -> None:
    links = "print(json.dumps([os.readlink('/proc/self/fd/' + n) for n in os.listdir('/proc/self/fd') if n in '0123']))"
    assert "/dev/null" in ask(inside, links)
    parent = "print(json.dumps([os.getppid(), os.getsid(0) == os.getpid()]))"
    assert ask(inside, parent) == [1, True]


def test_process_limit_holds(inside: Session) -> None:
    bomb = """
pids = []
try:
    while len(pids) < 1000: pids.append(os.fork() or os._exit(__import__('time').sleep(30) or 0))
except OSError as exc: pass
import signal
for pid in pids: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
print(json.dumps(len(pids)))
"""
    assert 50 < ask(inside, bomb) < 128


def test_neither_devices_nor_fifos_can_be_made(inside: Session) -> None:
    attempts = """
refused = []
for kind in (0o010000, 0o020000, 0o060000):
    try: os.mknod('/mnt/data/node', kind | 0o600, os.makedev(1, 3))
    except OSError as exc: refused.append(exc.errno)
print(json.dumps(refused))
"""
    assert ask(inside, attempts) == [1] * 3  # EPERM


def test_sockets_cannot_be_replaced_after_the_start(inside: Session) -> None:
    attempts = """
directory = '/opt/kernel-sandbox/run/' + os.listdir('/opt/kernel-sandbox/run')[0]
refused = []
for attack in (lambda: os.unlink(directory + '/s-1'), lambda: os.rename(directory + '/s-1', directory + '/s-9'),
               lambda: os.symlink('/etc/passwd', directory + '/s-6'), lambda: os.chmod(directory, 0o777),
               lambda: os.mkdir('/opt/kernel-sandbox/run/9')):
    try: attack()
    except OSError as exc: refused.append(exc.errno)
print(json.dumps(refused))
"""
    refused = ask(inside, attempts)
    assert len(refused) == 5
    assert set(refused) <= {1, 13, 30}  # EPERM, EACCES, EROFS
