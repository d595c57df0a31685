"""The languages that images of this package are for, and what a test needs to run their cells. Not tests."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kernel_sandbox import EngineError, Session
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.sandbox.engines import NAMES, get_engine
from kernel_sandbox.spec.values import SandboxSpec


@dataclass(frozen=True)
class Cells:
    """Cells of one language that do the same as those of the others."""

    image: str
    kernel: str
    language: str
    assign: str
    """Sets x to 41."""
    show: str
    """Shows x + 1."""
    fail: str
    """Fails, in a way that says "bad"."""
    endless: str
    """Runs for ever, and can be interrupted."""
    die: str
    """Ends the kernel's process."""
    complete: str
    """Is completed to `completed`."""
    completed: str
    suffix: str


CELLS = {
    "bash": Cells(
        *("bash", "bash", "bash", "x=41", "echo $((x + 1))", "ls /bad", "sleep 60", "kill -9 $PPID"),
        *("fals", "false", ".sh"),
    ),
    "javascript": Cells(
        *("javascript", "deno", "typescript", "let x: number = 41", "x + 1", "throw new TypeError('bad')"),
        *("while (true) {}", "Deno.exit(3)", "Math.fl", "floor", ".ts"),
    ),
    "r": Cells(
        *("r", "ir", "R", "x <- 41", "x + 1", "stop('bad')", "repeat {}", "tools::pskill(Sys.getpid(), 9)"),
        *("data.fram", "data.frame", ".R"),
    ),
    "java": Cells(
        *("java", "java", "java", "var x = 41;", "x + 1", 'throw new IllegalStateException("bad");'),
        *("while (true) {}", "Runtime.getRuntime().halt(3);", "Math.flo", "floor", ".java"),
    ),
}
EVERY = "KERNEL_SANDBOX_TEST_LANGUAGES"
"""Set to `all`, tests run cells of all languages; else of those whose images are built quickly, by `tests/run`."""
TESTED = tuple(CELLS) if os.environ.get(EVERY) == "all" else ("bash", "javascript")


@functools.cache
def missing_image(engine: str, image: str) -> str:
    """Why an engine has not an image, or an empty string."""
    try:
        portal().call(get_engine(engine).check, SandboxSpec(image=image))
    except EngineError as exc:
        return f"{engine}: {exc}"
    return ""


def require_image(engine: str, image: str) -> None:
    """Skip a test where an engine has not an image."""
    if reason := missing_image(engine, image):
        pytest.skip(reason)


@pytest.fixture(scope="module", params=[(engine, language) for engine in NAMES for language in TESTED], ids="-".join)
def spoken(request: pytest.FixtureRequest) -> Iterator[tuple[Session, Cells]]:
    """A session of each language on each engine, with its cells."""
    engine, language = request.param
    require_image(engine, CELLS[language].image)
    with Session(engine=engine, image=CELLS[language].image) as session:
        yield session, CELLS[language]
