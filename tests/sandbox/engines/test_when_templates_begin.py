"""When a process gets a template: not for one session that nobody follows, and early enough for those that do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from kernel_sandbox.sandbox.engines import environments, registry
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import CROWD, KINDS, MOST, QUIET, SWITCH, Shelf, shelf
from kernel_sandbox.sandbox.standing import BegunSandbox
from kernel_sandbox.session.sync import session_in
from kernel_sandbox.spec.values import SandboxSpec
from tests.sandbox.engines.forked import is_forked, keepers, opened, templates, until

STANDS = 30.0
"""Seconds in which a template imports, whatever else the machine does."""


@pytest.fixture(autouse=True)
def as_it_comes(quick: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(SWITCH, raising=False)
    shelf().end_all()
    yield
    shelf().end_all()


def stands() -> bool:
    """Whether a session that comes now is forked; a template that imports is not ready yet."""
    with opened() as another:
        return is_forked(another)


def test_first_session_starts_by_itself_and_a_template_follows_when_it_is_ready() -> None:
    with opened() as first:
        assert not is_forked(first)
        assert not keepers()
        assert until(lambda: bool(keepers()), QUIET + 5)
        assert until(stands, STANDS)


def test_second_session_has_a_template_begin_at_once() -> None:
    with opened() as first, opened() as second:
        assert not is_forked(first)
        assert not is_forked(second)
        assert keepers()


def test_session_that_ends_at_once_has_no_template_begin() -> None:
    with opened():
        pass
    time.sleep(QUIET + 0.5)
    assert not keepers()


def test_session_that_loads_modules_first_waits_for_the_template_that_does() -> None:
    with opened(preload=("json",)) as first:
        assert is_forked(first)


def test_command_that_opens_one_session_pays_for_no_template() -> None:
    spec = SandboxSpec(image="python", env={"KIND": "command"})
    with BegunSandbox(spec, "bubblewrap") as begun, session_in(begun) as session:
        assert not is_forked(session)
        time.sleep(QUIET + 0.5)
        assert not keepers()


def test_crowd_waits_for_a_template_but_its_first() -> None:
    count = CROWD + 8
    sessions = [opened() for _ in range(count)]
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        list(pool.map(stack.enter_context, sessions))
        assert sum(map(is_forked, sessions)) >= 6
        assert len(templates()) == 1


def test_process_whose_sessions_are_all_of_other_kinds_gets_none_for_each() -> None:
    with ExitStack() as stack:
        for number in range(MOST + 3):
            stack.enter_context(opened(env={"NUMBER": str(number)}))
        time.sleep(QUIET + 0.5)
        assert len(keepers()) <= MOST


def test_kinds_of_sessions_that_have_ended_are_forgotten() -> None:
    made, environment = Shelf(), environments.find("python")
    for number in range(10 * KINDS):
        visit = made.enter(environment, str(number).encode())
        assert visit is not None
        made.leave(visit)
    assert len(made._kinds) == KINDS


ENDS = """
from kernel_sandbox import Session
for _ in range(2):
    session = Session(engine="bubblewrap", image="datascience")
    session.open()
"""


@pytest.mark.alone  # it looks at the templates of all processes
def test_process_that_ends_while_a_template_imports_is_not_held_up_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-W", "error", "-c", ENDS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 20
    assert not [record for record in registry.records() if record["session"] is None]
