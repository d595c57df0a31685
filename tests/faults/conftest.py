"""Each fault that is injected is recorded: what, where, whether it was survived, how soon noticed, what was left.

KERNEL_SANDBOX_FAULTS_REPORT names a file that gets a JSON object a line: fault, engine, survived, detected_s (seconds
or null), leaked (how many things were left). Without it the figures are in pytest's summary only.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from kernel_sandbox.sandbox.engines.bubblewrap_shelf import shelf
from tests.conftest import missing
from tests.faults.private_engine import PrivateEngine

REPORT = "KERNEL_SANDBOX_FAULTS_REPORT"
passed = pytest.StashKey[bool]()


@dataclass
class Fault:
    """One fault that a test injects; the test fills it in, and its outcome says whether it was survived."""

    fault: str
    engine: str = ""
    survived: bool = False
    detected_s: float | None = None
    """Seconds until it was noticed, and told by name or cleaned up."""
    leaked: int = 0

    def line(self) -> str:
        seconds = "" if self.detected_s is None else f"{self.detected_s:.2f} s"
        verdict = "survived" if self.survived else "NOT SURVIVED"
        return f"{self.fault:<52}{self.engine:<12}{verdict:<14}{seconds:>8}{self.leaked:>4} left"


recorded: list[Fault] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.alone)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[passed] = report.passed
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if recorded:
        terminalreporter.section("faults injected")
        for fault in recorded:
            terminalreporter.line(fault.line())


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Fault]:
    """The record of the fault that this test injects; named by the test, until it says better."""
    record = Fault(request.node.name)
    if "engine" in request.fixturenames:
        record.engine = request.getfixturevalue("engine")
    yield record
    record.survived = request.node.stash.get(passed, False)
    recorded.append(record)
    if path := os.environ.get(REPORT):
        with Path(path).open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of this test's own for run directories: nobody else's clearing away reaches in, and all that is left
    there is this test's."""
    shelf().end_all()  # what stands yet is noted elsewhere
    # A short path: socket names have room for 107 bytes.
    made = Path(tempfile.mkdtemp(prefix="ks-fault-", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(made))
    yield made
    shelf().end_all()
    shutil.rmtree(made)


@pytest.fixture
def bubblewrap() -> None:
    """For what only bubblewrap has."""
    if reason := missing("bubblewrap"):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def private_engine() -> Iterator[PrivateEngine]:
    """A Docker engine that a test may kill, where one can be started."""
    if reason := missing("docker"):
        pytest.skip(reason)
    if os.getuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a second Docker engine needs root and dockerd")
    with PrivateEngine("python") as engine:
        yield engine
    assert not engine.processes()
    assert not engine.mounts()
    assert not engine.directory.exists()
