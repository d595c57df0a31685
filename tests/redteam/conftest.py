"""Armed sessions, canaries on the host, a census at the end, and what each attack came to.

KERNEL_SANDBOX_REDTEAM_REPORT names a file that gets a JSON object a line: attack, severity, engine, contained, and the
figures that the test recorded (growth in megabytes; detection, p99 in seconds and milliseconds); control, engine,
noticed; at the end sessions, leaks.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import SWITCH, shelf
from tests.redteam import census
from tests.redteam.arena import Arena, arena
from tests.redteam.canaries import Canaries
from tests.redteam.canaries import canaries as planted
from tests.redteam.cells import SMALL, armed, host_processes, is_well, opened_sessions

REPORT = "KERNEL_SANDBOX_REDTEAM_REPORT"


@pytest.fixture(scope="package")
def canaries() -> Iterator[Canaries]:
    with planted() as made:
        yield made


@pytest.fixture(scope="package", autouse=True)
def forked() -> Iterator[None]:
    """Have bubblewrap's sessions wait for a template; KERNEL_SANDBOX_TEMPLATES=off has each start by itself."""
    with pytest.MonkeyPatch.context() as patch:
        if SWITCH not in os.environ:
            patch.setenv(SWITCH, "first")
        yield


@pytest.fixture(scope="package", autouse=True)
def nothing_is_left(forked: None) -> Iterator[None]:
    """What the host had before all attacks, it has after them, and no more."""
    shelf().end_all()
    before, opened = census.take(), len(opened_sessions)
    yield
    shelf().end_all()
    left = census.left(before, opened_sessions, host_processes)
    _write({"leaks": len(left), "sessions": len(opened_sessions) - opened})
    assert not left


class Standing:
    """Armed sessions that the attacks share for as long as they stand."""

    def __init__(self) -> None:
        self._stacks: dict[str, contextlib.ExitStack] = {}
        self._sessions: dict[str, Session] = {}

    def session(self, engine: str, name: str, **options: Any) -> Session:
        """Return the session of this name, another one where it has fallen."""
        key = f"{engine} {name}"
        found = self._sessions.get(key)
        if found is None or not is_well(found):
            self._close(key)
            stack = self._stacks[key] = contextlib.ExitStack()
            self._sessions[key] = found = stack.enter_context(armed(engine, **options))
        return found

    def close(self) -> None:
        for key in list(self._stacks):
            self._close(key)

    def _close(self, key: str) -> None:
        self._sessions.pop(key, None)
        if (stack := self._stacks.pop(key, None)) is not None:
            stack.close()


@pytest.fixture(scope="package")
def standing(canaries: Canaries) -> Iterator[Standing]:
    made = Standing()
    yield made
    made.close()


@pytest.fixture
def target(engine: str, standing: Standing) -> Session:
    """A session under attack, which the attack leaves standing."""
    return standing.session(engine, "target")


@pytest.fixture
def cramped(engine: str, standing: Standing) -> Session:
    """The same, with little of everything."""
    return standing.session(engine, "cramped", limits=SMALL)


@pytest.fixture
def fresh(engine: str, canaries: Canaries) -> Iterator[Session]:
    """A session under attack that may end by it."""
    with armed(engine) as session:
        yield session


@pytest.fixture(scope="package")
def arenas(canaries: Canaries) -> Iterator[dict[str, Arena]]:
    with contextlib.ExitStack() as stack:
        yield {engine: stack.enter_context(arena(engine)) for engine in NAMES}


@pytest.fixture
def ring(engine: str, arenas: dict[str, Arena]) -> Arena:
    """A host process that measures itself, for what floods it."""
    return arenas[engine]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marker, recorded = item.get_closest_marker("attack"), dict(item.user_properties)
    if "control" in recorded and call.when == "call":
        engine = getattr(item, "funcargs", {}).get("engine", "")
        _write({**recorded, "engine": engine, "noticed": report.passed})
    if marker is not None and not report.skipped and (call.when == "call" or report.failed):
        arguments: dict[str, Any] = getattr(item, "funcargs", {})
        engine = arguments.get("engine", "")
        record = {"attack": _name(item, engine), "severity": marker.args[0], "engine": engine}
        _write({**record, "contained": report.passed, **recorded})
    return report


def _name(item: pytest.Item, engine: str) -> str:
    """The test and its parameters, without the engine."""
    name, _, parameters = item.name.partition("[")
    for part in (f"{engine}-", f"-{engine}", engine):
        if engine and part in parameters:
            parameters = parameters.replace(part, "", 1)
            break
    return f"{name}[{parameters}" if parameters.rstrip("]") else name


def _write(line: dict[str, Any]) -> None:
    if path := os.environ.get(REPORT):
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")
