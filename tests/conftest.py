"""Fixtures: real engines, real sandboxes. An engine that is absent is a skip with its reason."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import IO

import pytest

from kernel_sandbox import EngineError, Session
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.sandbox.engines import NAMES, get_engine
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import SWITCH, shelf
from kernel_sandbox.spec.values import SandboxSpec


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@functools.cache
def missing(engine: str) -> str:
    """Why an engine cannot be used here, or an empty string."""
    try:
        for image in ("python", "datascience"):
            portal().call(get_engine(engine).check, SandboxSpec(image=image))
    except EngineError as exc:
        return f"{engine}: {exc}"
    return ""


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine; a test that asks for it runs over each of them."""
    if reason := missing(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def quick() -> str:
    """The engine that starts sooner, for what is the same in both."""
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    return "bubblewrap"


@pytest.fixture
def by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have bubblewrap start each sandbox, and no template fork one."""
    monkeypatch.setenv(SWITCH, "off")


@pytest.fixture
def from_templates(quick: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have each session of bubblewrap wait for a template, and leave none to the next test."""
    monkeypatch.setenv(SWITCH, "first")
    yield
    shelf().end_all()


@pytest.fixture(params=["by_itself", "from_templates"])
def either_way(request: pytest.FixtureRequest) -> str:
    """How a session of bubblewrap starts; a test that asks for it runs over both ways."""
    request.getfixturevalue(request.param)
    return str(request.param)


@pytest.fixture
def docker() -> None:
    """For what only Docker has: remote engines, contexts, labels."""
    if reason := missing("docker"):
        pytest.skip(reason)


@pytest.fixture
def session(engine: str) -> Iterator[Session]:
    """A fresh session on the small image."""
    with Session(engine=engine, image="python") as opened:
        yield opened


@pytest.fixture(scope="module")
def science() -> Iterator[Session]:
    """A session with pandas and matplotlib, shared by the tests of a module."""
    if reason := missing("docker"):
        pytest.skip(reason)
    with Session(engine="docker", image="datascience") as opened:
        yield opened


def read_to(stream: IO[bytes], sign: str) -> str:
    """Read what a command writes until a sign of it has come."""
    shown = ""
    while not shown.endswith(sign):
        piece = os.read(stream.fileno(), 1).decode(errors="replace")
        assert piece, f"no {sign!r} in {shown!r}"
        shown += piece
    return shown
