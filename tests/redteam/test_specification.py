"""README.md here is the specification: a promise has its tests, an attack its promise, a control its absence."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.redteam import removals
from tests.redteam.report import SEVERITIES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Promise:
    number: int
    severity: str
    words: str
    controls: tuple[str, ...]
    tests: tuple[str, ...]


@functools.cache
def promises() -> tuple[Promise, ...]:
    """Read the chapters of README.md that are a promise."""
    found = []
    for chapter in re.split(r"^#{2,3} ", (HERE / "README.md").read_text(), flags=re.MULTILINE):
        if head := re.match(r"P(\d+)\. .+ \((\w+)\)\n", chapter):
            words, _, rest = chapter[head.end() :].partition("\nControls: ")
            controls, _, tests = rest.partition("\nTests: ")
            listed = [tuple(re.findall(r"`([^`]+)`", part)) for part in (controls, tests)]
            found.append(Promise(int(head[1]), head[2], " ".join(words.split()), *listed))
    return tuple(found)


@functools.cache
def functions(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """The tests of a module by name."""
    body = ast.parse(path.read_text()).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in body if isinstance(node, kinds) and node.name.startswith("test_")}


def attacks() -> set[str]:
    """The tests here that are marked as attacks, as promises name them."""
    return {
        f"{path.name}::{name}"
        for path in HERE.glob("test_*.py")
        for name, node in functions(path).items()
        if any(ast.unparse(decorator).startswith("attack(") for decorator in node.decorator_list)
    }


def test_specification_numbers_its_promises_one_after_the_other() -> None:
    assert len(promises()) > 30
    assert [promise.number for promise in promises()] == list(range(1, len(promises()) + 1))


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: f"P{promise.number}")
def test_promise_has_words_a_severity_controls_and_tests(promise: Promise) -> None:
    assert len(promise.words) > 40
    assert promise.severity in SEVERITIES
    assert promise.controls
    assert promise.tests


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: f"P{promise.number}")
def test_tests_of_a_promise_are_there(promise: Promise) -> None:
    for name in promise.tests:
        file, _, function = name.partition("::")
        path = ROOT / file if file.startswith("tests/") else HERE / file
        assert path.is_file(), name
        assert function in functions(path), name


def test_every_attack_belongs_to_a_promise() -> None:
    named = {name for promise in promises() for name in promise.tests}
    assert attacks() - named == set()


def test_every_control_is_taken_away_once_or_says_why_not() -> None:
    # While the table is made, it lists the names that are to come.
    planned = {name.strip() for name in re.split(r"[|\n]", getattr(removals, "PLANNED", "")) if name.strip()}
    known = {*removals.REMOVALS, *removals.NOT_REMOVABLE, *planned}
    named = {control for promise in promises() for control in promise.controls}
    assert named - known == set(), "no run takes these away"
    assert known - named == set(), "no promise names these"
    assert not set(removals.REMOVALS) & set(removals.NOT_REMOVABLE)


def test_no_attack_is_of_an_unknown_severity() -> None:
    marks = [
        decorator.args[0]
        for path in HERE.glob("test_*.py")
        for node in functions(path).values()
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "attack"
    ]
    assert {mark.value for mark in marks if isinstance(mark, ast.Constant)} <= set(SEVERITIES)
    assert len(marks) > 60


def test_tests_and_removals_of_the_kernels_resources_are_there() -> None:
    table = (HERE / "kernel_resources.md").read_text()
    known = {name for path in [*HERE.glob("test_*.py"), HERE.parent / "pool/test_pool.py"] for name in functions(path)}
    named = set(re.findall(r"`(test_\w+)`", table))
    assert len(named) > 20
    assert named - known == set()
    assert set(re.findall(r"removal `([^`]+)`", table)) - removals.REMOVALS.keys() == set()
