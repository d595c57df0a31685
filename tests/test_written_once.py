"""What several doors need of untrusted output is written once: one grammar, one table, one list, one reader."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kernel_sandbox

PACKAGE = Path(kernel_sandbox.__file__).parent
INSIDE = ("inside/", "agents/offline/cells/", "_images/")
"""What runs in a sandbox imports nothing of the host's, and may say again what it needs."""
HOST = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if not str(path.relative_to(PACKAGE)).startswith(INSIDE) and path.stat().st_size
)


@functools.cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def texts(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def has_ansi_grammar(tree: ast.AST) -> bool:
    """A pattern with an escape character in it; what only writes a command has no backslash behind it."""
    return any(re.search(r"\\x1b|\\033|\\e\[|\\u001b|\x1b\\", text) for text in texts(tree))


def has_table_of_characters(tree: ast.AST) -> bool:
    """A range of a pattern that ends with control characters, or a mark of direction; or numbers of several such."""
    ranges = (
        r"\\x1f|\\x7f|\\x9f|\\u200[bcdef]|\\u202[a-e]|\\u206|[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]|\x00-\x1f"
    )
    numbers = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is int}
    return any(re.search(ranges, text) for text in texts(tree)) or len(numbers & {0x200B, 0x200F, 0x202E, 0x2060}) > 1


def lists_kinds_of_pictures(tree: ast.AST) -> bool:
    lists = (
        node.keys if isinstance(node, ast.Dict) else node.elts
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict | ast.Tuple | ast.List | ast.Set)
    )
    named = ([text for item in items if item for text in texts(item) if text.startswith("image/")] for items in lists)
    return any(len(kinds) > 1 for kinds in named) or any(re.search(r"png\|jpe?g", text) for text in texts(tree))


def reads_tables(tree: ast.AST) -> bool:
    found = set(texts(tree))
    return {"schema", "fields"} <= found or bool(found & {"primaryKey", "application/vnd.dataresource+json"})


def shortens(tree: ast.AST) -> bool:
    """A slice of a text, and an ellipsis behind it."""
    written = (node.values for node in ast.walk(tree) if isinstance(node, ast.JoinedStr))
    return any(
        isinstance(one, ast.FormattedValue)
        and isinstance(one.value, ast.Subscript)
        and isinstance(one.value.slice, ast.Slice)
        and isinstance(other, ast.Constant)
        and str(other.value).startswith("…")
        for parts in written
        for one, other in itertools.pairwise(parts)
    )


ONCE: dict[str, tuple[Callable[[ast.AST], bool], str, str]] = {
    "the grammar of a terminal's commands": (has_ansi_grammar, "text/ansi.py", r"SGR = re.compile(r'\x1b\[[0-9]*m')"),
    "the table of dangerous characters": (
        has_table_of_characters,
        "text/characters.py",
        r"CONTROL = re.compile(r'[\x00-\x1f\x7f]')",
    ),
    "the kinds of pictures": (
        lists_kinds_of_pictures,
        "session/outputs/pictures.py",
        "KINDS = ('image/png', 'image/jpeg')",
    ),
    "the reader of tables": (
        reads_tables,
        "session/outputs/tables.py",
        "fields = resource.get('schema', {}).get('fields')",
    ),
    "what shortens a text": (shortens, "text/clipping.py", "line = f'{line[:60]}…'"),
}


@pytest.mark.parametrize(("finds", "home", "copy"), ONCE.values(), ids=ONCE)
def test_is_written_once(finds: Callable[[ast.AST], bool], home: str, copy: str) -> None:
    assert finds(parsed(copy)), "and a copy of it would be found"
    assert [str(path.relative_to(PACKAGE)) for path in HOST if finds(parsed(path.read_text()))] == [home]
