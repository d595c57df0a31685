"""Sandboxes that a template forks: as those that bubblewrap starts, and nothing in common but what they began with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import Limits, Mount, Session
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import SWITCH
from kernel_sandbox.spec.values import SandboxSpec
from tests.sandbox.engines.spoiled import spoiled

FILTERS = "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('Seccomp_filters')])"
"""A sandbox that was forked has the filter of its template, and its own."""
DRAWN = """
import random, secrets, ssl, tempfile, uuid
import numpy
drawn = [random.random(), secrets.token_hex(), ssl.RAND_bytes(8).hex(), next(tempfile._get_candidate_names()),
         uuid.uuid4().hex, uuid._random_getnode(), uuid.getnode(),
         numpy.random.random(), numpy.random.default_rng().random()]
print(*drawn)
"""
EXHAUST = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        break
kept = bytearray(200 * 1024**2)
"""


@pytest.fixture(autouse=True)
def first(quick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "first")


def opened(image: str = "python", **spec: Any) -> Session:
    """Return a session of a kind that no other test has: what one does to its template is not another's."""
    kind = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
    return Session(engine="bubblewrap", spec=SandboxSpec(image=image, env={"KIND": kind}, **spec))


def is_forked(session: Session) -> bool:
    return session.execute(FILTERS).text == "2\n"


def children(process: int) -> list[int]:
    return [
        int(child) for path in Path(f"/proc/{process}/task").glob("*/children") for child in path.read_text().split()
    ]


def templates() -> list[int]:
    """The templates of this process, by what the kernel says: keepers below it, and who is below them."""
    named = [child for child in children(os.getpid()) if b"keeper" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return [template for keeper in named for template in children(keeper)]


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_forked_session_has_the_modules_of_its_image_and_nothing_else_is_weakened() -> None:
    with opened("datascience") as session, opened("datascience", strict=True) as exact:
        assert is_forked(session)
        assert not is_forked(exact)
        assert session.execute("import sys; print('pandas' in sys.modules)").text == "True\n"
        assert session.weakened == exact.weakened


def test_sandboxes_of_a_template_draw_other_values() -> None:
    with opened("datascience") as one, opened("datascience") as other:
        assert is_forked(one)
        assert is_forked(other)
        both = [session.execute(DRAWN).text.split() for session in (one, other)]
    assert len(both[0]) == 9
    assert not set(both[0]) & set(both[1])


def test_sandboxes_of_a_template_are_users_of_their_own() -> None:
    with opened() as one, opened() as other:
        assert is_forked(one)
        users = {session.execute("import os; print(os.getuid())").text for session in (one, other)}
        seen = one.execute("import os; print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit())[0])")
    assert len(users) == (2 if os.getuid() == 0 else len(users))
    assert seen.text == "1\n"


def test_session_that_takes_all_it_may_leaves_its_template_and_its_sibling_well() -> None:
    with opened() as sibling, opened(limits=Limits(memory="128m", pids=40)) as greedy:
        assert is_forked(greedy)
        assert greedy.execute(EXHAUST, timeout=20).status in ("dead", "timeout")
        assert sibling.execute("print(1)").text == "1\n"
        with opened() as another:
            assert is_forked(another)


def test_mount_and_strictness_have_bubblewrap_start_a_sandbox(tmp_path: Path) -> None:
    with opened(mounts=(Mount(tmp_path, "input"),)) as session:
        assert session.execute(FILTERS).text == "1\n"


def test_template_that_is_frozen_costs_two_seconds_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as session:
        assert is_forked(session)
        for template in templates():
            os.kill(template, signal.SIGSTOP)
        began = time.monotonic()
        with opened() as another:
            assert not is_forked(another)
        assert time.monotonic() - began < 6
        for template in templates():
            os.kill(template, signal.SIGCONT)
        assert "did not fork" in caplog.text
        assert session.execute("print(1)").text == "1\n"


def test_template_that_dies_takes_its_sandboxes_with_it_and_no_other() -> None:
    with opened() as session:
        assert is_forked(session)
        for template in templates():
            os.kill(template, signal.SIGKILL)
        assert session.execute("print(1)").status == "dead"
        with opened() as another:
            assert another.execute("print(1)").text == "1\n"


HOST = """
import sys
from kernel_sandbox import Session
sessions = [Session(engine="bubblewrap", image="python") for _ in range(2)]
for session in sessions:
    session.open()
print(sessions[1].execute(sys.argv[1]).text, flush=True)
sys.stdin.read()
"""


def of_group(process: int) -> list[int]:
    found = [process]
    for parent in found:
        found += children(parent)
    return found


def test_host_that_is_killed_takes_template_and_sandboxes_with_it() -> None:
    command = [sys.executable, "-c", HOST, FILTERS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "2\n"
        below = of_group(host.pid)[1:]
        assert len(below) > 6
        host.kill()
        host.wait()
    assert until(lambda: not any(Path(f"/proc/{process}").exists() for process in below), 2)


def test_forked_host_does_not_ask_its_parents_template() -> None:
    with opened() as session:
        assert is_forked(session)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with opened() as own:
                    status = 0 if is_forked(own) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert session.execute("print(1)").text == "1\n"


SHARING = "import builtins, mmap; builtins.common = mmap.mmap(-1, 4096)"
THREADED = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"


@pytest.mark.parametrize("source", [SHARING, THREADED], ids=["memory", "thread"])
def test_module_that_sandboxes_cannot_have_in_common_has_each_start_by_itself(
    source: str, caplog: pytest.LogCaptureFixture
) -> None:
    with spoiled("python", {"common_thing.py": source}), opened(preload=("common_thing",)) as session:
        assert session.execute(FILTERS).text == "1\n"
        assert session.execute("import sys; print('common_thing' in sys.modules)").text == "True\n"
    assert "emplate" in caplog.text
