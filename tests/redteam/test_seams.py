"""The table of what removals take away: it names what is there, and nothing is taken away past it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kernel_sandbox
from tests.places import owner_of
from tests.redteam.without import seams
from tests.redteam.without.seams import Passage, Seam

PACKAGE = Path(kernel_sandbox.__file__).parent
FILES = sorted(path for path in Path(seams.__file__).parent.glob("*.py") if path.name != "seams.py")
SEAMS = {name: seam for name, seam in vars(seams).items() if isinstance(seam, Seam)}
PASSAGES = {name: passage for name, passage in vars(seams).items() if isinstance(passage, Passage)}


@pytest.mark.parametrize("seam", SEAMS.values(), ids=list(SEAMS))
def test_seam_stands_where_the_table_says(seam: Seam) -> None:
    for place in seam.places:
        owner, name = owner_of(place)
        assert name in vars(owner), f"not there any more: {place}"


@pytest.mark.parametrize("passage", PASSAGES.values(), ids=list(PASSAGES))
def test_passage_stands_where_the_table_says(passage: Passage) -> None:
    assert passage.text in (PACKAGE / f"{passage.module.replace('.', '/')}.py").read_text()


def test_each_entry_of_the_table_is_used() -> None:
    read = [node for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in read if ast.unparse(node.value) == "seams"}
    assert used == SEAMS.keys() | PASSAGES.keys()


@functools.cache
def private_names() -> set[str]:
    """What the package defines with a name that begins with one underscore."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in found if re.match(r"_[^\W_]", name)}


def words(tree: ast.AST) -> Iterator[str]:
    """Yield the words by which a module may reach into another: imported names, attributes, and all in its texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"\w+", node.value)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kernel_sandbox"):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_removals_name_nothing_private(path: Path) -> None:
    assert private_names() & set(words(ast.parse(path.read_text()))) == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_removals_take_nothing_away_past_the_table(path: Path) -> None:
    """But standard input, which is nobody's of the package."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    made = [ast.unparse(call) for call in calls if ast.unparse(call.func).split(".")[-1] == "setattr"]
    allowed = {"removal.py": ["self.patch.setattr(*owner_of(place), new)"]}
    assert [call for call in made if "'sys.stdin'" not in call] == allowed.get(path.name, [])
