"""What a user's editor and type checker see of the package: the sync twins, the exported types."""

from __future__ import annotations

import ast
import builtins
import inspect
import itertools
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from mypy import api

import kernel_sandbox
from kernel_sandbox import AsyncCellStream, AsyncSandboxFiles, AsyncSession, CellStream, SandboxFiles, Session

TWINS: list[tuple[type, type]] = [
    (Session, AsyncSession),
    (SandboxFiles, AsyncSandboxFiles),
    (CellStream, AsyncCellStream),
]
IN_SYNC = {"aclose": "close", "an `async with": "a `with", "AsyncCellStream": "CellStream", "AsyncIterator": "Iterator"}
"""How the words of the original read in its twin."""


def in_sync(text: str) -> str:
    return re.sub("|".join(rf"\b{word}\b" for word in IN_SYNC), lambda found: IN_SYNC[found[0]], text)


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def functions(kind: type) -> dict[str, Any]:
    """Its public methods and its properties' getters; of a class that users make, its constructor too."""
    members = {name: inspect.getattr_static(kind, name) for name in sorted(public(kind))}
    found = {name: value.fget if isinstance(value, property) else value for name, value in members.items()}
    found = {name: getattr(value, "__func__", value) for name, value in found.items()}
    return {name: inspect.unwrap(value) for name, value in found.items() if inspect.isroutine(value)}


def attributes(kind: type) -> dict[str, str]:
    """The docstrings that stand under the attributes that a constructor sets, where editors look for them."""
    (defined,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(defined, ast.ClassDef)
    (made,) = (node for node in defined.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    pairs = [(ast.unparse(one), other) for one, other in itertools.pairwise(made.body) if isinstance(other, ast.Expr)]
    said = {name: other.value for name, other in pairs if isinstance(other.value, ast.Constant)}
    return {re.split(r"\W", name.removeprefix("self."))[0]: str(value.value) for name, value in said.items()}


@pytest.mark.parametrize(("twin", "original"), TWINS, ids=lambda kind: kind.__name__)
def test_sync_twin_has_the_signatures_and_docstrings_of_the_original(twin: type, original: type) -> None:
    ours, theirs = functions(twin), {in_sync(name): value for name, value in functions(original).items()}
    assert theirs.keys() <= ours.keys()
    for name, function in theirs.items():
        assert str(inspect.signature(ours[name])) == in_sync(str(inspect.signature(function))), name
        assert inspect.getdoc(ours[name]) == in_sync(inspect.getdoc(function) or ""), name
        assert inspect.getdoc(function), name
        is_property = isinstance(inspect.getattr_static(original, function.__name__), property)
        assert isinstance(inspect.getattr_static(twin, name), property) == is_property, name
    assert inspect.getdoc(twin) == in_sync(inspect.getdoc(original) or "")


def test_sync_session_is_made_and_read_as_the_original() -> None:
    assert str(inspect.signature(Session)) == str(inspect.signature(AsyncSession))
    # The attributes of the original are set in its constructor; `on_death` is a pool's.
    original = {name for name in vars(AsyncSession()) if not name.startswith("_")} - {"on_death"}
    assert public(Session) | vars(Session()).keys() - {"_session"} == {*map(in_sync, public(AsyncSession)), *original}
    assert public(SandboxFiles) == public(AsyncSandboxFiles)
    assert public(CellStream) == {*map(in_sync, public(AsyncCellStream))}
    told = {name: inspect.getdoc(inspect.getattr_static(Session, name, None)) for name in original}
    assert told | attributes(Session) == {name: attributes(AsyncSession)[name] for name in original}


# Types

SNIPPET = """
from kernel_sandbox import AsyncSession, CellStream, Event, Execution, FileInfo, Session, CommandResult, Timeout
from kernel_sandbox import Sesion  # attr-defined

def right(session: Session, wait: Timeout) -> tuple[Execution, str, bytes, CommandResult, list[Event]]:
    stream: CellStream = session.stream("1", metadata={"tags": ["a"]})
    listed: tuple[FileInfo, ...] = session.files.list()
    with Session(image="python", engine=None) as opened:
        opened.put("x", listed[0].size, limit="1m")
    result = session.run_command(["ls", "-l"], timeout=None, posix=True)
    return session.execute("1", timeout=wait), session.id, session.files.read("a"), result, list(stream)

def wrong(session: Session) -> None:
    Session(imgae="x")  # call-arg
    Session(limits={"memory": "1g"})  # arg-type
    Session("python")  # call-arg
    session.execute(1)  # arg-type
    session.execute("1", timeout="soon")  # arg-type
    session.execute("1").txt  # attr-defined
    number: int = session.execute("1").text  # assignment
    session.files.write("a", 1)  # arg-type
    session.files.read("a").strip(",")  # arg-type
    session.run_command(["ls", 1])  # list-item
    session.run_command("ls").exit_status.upper()  # attr-defined
    session.id = "x"  # misc
    for event in session.stream("1"):
        event.text  # union-attr

async def wrong_async(session: AsyncSession) -> None:
    AsyncSession(imgae="x")  # call-arg
    (await session.run_command("ls")).status  # attr-defined
"""


def test_type_checker_knows_the_calls_of_a_session(tmp_path: Path) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(SNIPPET)
    options = ["--config-file=", "--strict", "--follow-imports=silent", "--no-error-summary", f"--cache-dir={tmp_path}"]
    told, failed, _ = api.run([*options, f"--python-executable={sys.executable}", str(script)])
    assert not failed
    found = re.findall(r"^\S+?:(\d+): error: .*\[([a-z-]+)\]$", told, re.MULTILINE)
    expected = [
        (str(number), line.rpartition("# ")[2]) for number, line in enumerate(SNIPPET.split("\n"), 1) if "  # " in line
    ]
    assert sorted(set(found), key=lambda each: int(each[0])) == expected, told


# Exports

MADE_BY_US = {"AsyncSandboxFiles", "SandboxFiles", "AsyncCellStream", "CellStream", "PooledSession", "PoolMetrics"}
"""What users get and never make: their constructors are nobody's to call."""
EXPORTED = [getattr(kernel_sandbox, name) for name in kernel_sandbox.__all__]


def own_names(module: str) -> set[str]:
    """What a module defines, and what it imports from this package, for type checking only included."""
    tree = ast.parse(Path(inspect.getfile(sys.modules[module])).read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kernel_sandbox":
            names |= {alias.asname or alias.name for alias in node.names}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def named(annotation: Any) -> set[str]:
    """The names in an annotation, which is text where the module defers its annotations."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return {node.id for node in ast.walk(ast.parse(text.strip("\"'"))) if isinstance(node, ast.Name)}


def annotated(value: Any) -> dict[str, set[str]]:
    """What the annotations of an exported class or function name, by where they stand."""
    if inspect.isfunction(value):
        return {value.__name__: set().union(*map(named, value.__annotations__.values()))}
    found = functions(value)
    if value.__name__ not in MADE_BY_US:
        found["__init__"] = value.__init__
    said = {name: list(getattr(each, "__annotations__", {}).values()) for name, each in found.items()}
    said |= {name: [field.type] for name, field in getattr(value, "__dataclass_fields__", {}).items()}
    return {f"{value.__name__}.{name}": set().union(*map(named, each)) for name, each in said.items()}


@pytest.mark.parametrize("value", [each for each in EXPORTED if inspect.isclass(each) or inspect.isfunction(each)])
def test_types_of_public_methods_are_exported(value: Any) -> None:
    ours = own_names(value.__module__) - set(dir(builtins))
    for place, names in annotated(value).items():
        assert names & ours <= set(kernel_sandbox.__all__), place


def test_types_that_a_checker_sees_are_those_that_there_are() -> None:
    tree = ast.parse(Path(kernel_sandbox.__file__).read_text())
    imported = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kernel_sandbox.")
        for alias in node.names
    }
    assert imported.keys() == set(kernel_sandbox.__all__)
    for name, module in imported.items():
        assert getattr(sys.modules[str(module)], str(name)) is getattr(kernel_sandbox, str(name))
