"""`run` starts its sandbox first and imports the rest meanwhile; whatever comes between, no sandbox is left."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kernel_sandbox import EngineError, SandboxSpec
from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.sandbox.engines import get_engine
from kernel_sandbox.sandbox.standing import BegunSandbox
from kernel_sandbox.session.sync import session_in
from tests.conftest import missing

LATER = {"rich", "jupyter_client", "zmq", "nbformat", "docker", "IPython"}
"""What takes longer to import than a sandbox needs to begin."""


def sandboxes(engine: str) -> set[str]:
    return {info.session_id for info in call_reactor(get_engine(engine).sandboxes)}


def test_command_that_begins_a_sandbox_has_not_imported_what_shows_cells() -> None:
    look = "import sys, kernel_sandbox.doors.cli.run; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-P", "-c", look], check=True, capture_output=True, text=True).stdout
    assert not LATER & set(told.split())


@pytest.mark.parametrize("engine", ["docker", "bubblewrap"])
def test_session_takes_a_begun_sandbox_over(engine: str) -> None:
    if reason := missing(engine):
        pytest.skip(reason)
    with BegunSandbox(SandboxSpec(image="python"), engine) as begun:
        session = session_in(begun)
        session.open()
        assert session.execute("6 * 7").text == "42"
        assert session.id == begun.standing.session_id
        assert session.id in sandboxes(engine)
    assert session.id not in sandboxes(engine)


@pytest.mark.parametrize("engine", ["docker", "bubblewrap"])
def test_begun_sandbox_ends_with_its_block_if_nobody_takes_it_over(engine: str) -> None:
    if reason := missing(engine):
        pytest.skip(reason)
    with pytest.raises(KeyboardInterrupt), BegunSandbox(SandboxSpec(image="python"), engine) as begun:
        raise KeyboardInterrupt  # before there is a session
    assert begun.standing.session_id not in sandboxes(engine)


def test_failure_of_a_begun_sandbox_is_told_when_the_session_opens() -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    begun = BegunSandbox(SandboxSpec(image="no-such-image"), "bubblewrap")
    with begun, pytest.raises(EngineError, match="no-such-image"):
        session_in(begun).open()
    assert begun.standing.session_id not in sandboxes("bubblewrap")
