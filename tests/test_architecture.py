"""Budgets and arrows: what kernel_sandbox/README.md promises about the code's shape, held by machine."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kernel_sandbox

PACKAGE = Path(kernel_sandbox.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_images" not in path.parts)
FIRST_PARTY = "kernel_sandbox"

ROOMS = [
    *("text", "errors", "spec", "inside", "host", "sandbox", "session", "setup", "show", "artifacts", "pool"),
    *("service", "agents", "terminal", "doors"),
]
"""Lowest first: a module imports only from rooms before its own."""
SHARED = ("inside.mux", "inside.accounts", "inside.variables")
"""What runs at both ends, and the host may import."""

DOORS = {
    "docker": {"sandbox/engines/docker_client.py"},
    "platformdirs": {"host/directories.py"},
    "jupyter_client": {"doors/jupyter/provisioner.py", "session/session_kernel.py", "session/channels.py"},
    "nbformat": {"session/transcript/reading.py"},
    # Those of variables run in the sandbox, too: they need nothing of ours there.
    "pandas": {"session/outputs/dataframes.py"},
    "IPython": {"doors/magic/extension.py"},
    "nbconvert": {"show/page.py"},
    "nh3": {"show/tags.py"},
    "openai": {"agents/models.py"},
    "fastjsonschema": {"agents/arguments.py"},
    "pydantic": {"agents/typed_tools.py", "doors/http/native_models.py"},
    "jwt": {"service/oidc.py"},
    "sqlalchemy": {"service/schema.py", "service/storage.py"},
    "prometheus_client": {"service/metrics.py"},
    "opentelemetry": {"service/traces.py"},
    "mcp": {"doors/mcp/mcp_server.py"},
    "mcp_types": {"doors/mcp/mcp_server.py"},
    "uvicorn": {"doors/http/serving.py"},
}

ROOM_DOORS = {
    "fastapi": {"doors/http"},
    "starlette": {"doors/http", "doors/mcp"},
    "click": {"doors/cli", "doors/http", "doors/mcp", "terminal"},
    "rich": {"doors/cli", "doors/http", "terminal"},
}
"""Frameworks, whose words a whole room speaks: routes, layers and answers."""

INSIDE = ("inside/", "agents/offline/cells/")
"""What runs in the sandbox: read as text, and imported by nobody on the host."""


def runs_inside(path: Path) -> bool:
    return str(path.relative_to(PACKAGE)).startswith(INSIDE)


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    """A module's name below the package; a folder's for its __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {dotted(path): path for path in MODULES}


def resolved(path: Path, node: ast.Import | ast.ImportFrom) -> list[str]:
    """The modules and names that an import statement is of, from the top: relative ones and submodules included."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = node.module or ""
    if node.level:
        here = f"{FIRST_PARTY}.{dotted(path)}".split(".") + ["__init__"] * (path.name == "__init__.py")
        module = ".".join([*here[: -node.level], *filter(None, [module])])
    return [f"{module}.{alias.name}" for alias in node.names]


@functools.cache
def imports(path: Path, *, at_run_time: bool = False) -> frozenset[str]:
    """The dotted names that a module imports, where only a type checker does too, or `at_run_time`."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if at_run_time and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return frozenset(itertools.chain.from_iterable(resolved(path, node) for node in nodes))


@functools.cache
def uses(path: Path) -> frozenset[str]:
    """The modules of this package that a module imports."""
    found = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == FIRST_PARTY:
            found.add(
                next(".".join(parts[1:end]) for end in range(len(parts), 0, -1) if ".".join(parts[1:end]) in NAMES)
            )
    return frozenset(found - {dotted(path)})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_down_only(path: Path) -> None:
    here = dotted(path)
    if not here:
        return
    assert room(path) in ROOMS, f"{room(path)} is a new room: give it a place"
    for used in uses(path):
        below = used.partition(".")[0]
        assert below, f"{here} imports the package's public names, which stand above all"
        assert ROOMS.index(below) <= ROOMS.index(room(path)), f"{here} imports {used}, above it"
        if below == room(path) == "doors":
            assert used.split(".")[1] == here.split(".")[1], f"{here} imports another door: {used}"


def test_no_module_needs_itself() -> None:
    """No circle of imports, within a folder or across."""
    left = {name: set(uses(path)) - {""} for name, path in NAMES.items()}
    while free := {name for name, below in left.items() if not below & left.keys()}:
        left = {name: below for name, below in left.items() if name not in free}
    assert left == {}


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent for path in MODULES if path.parent.name != "cells"} - {PACKAGE}),
    ids=lambda path: path.name,
)
def test_map_of_a_folder_names_what_lives_there(folder: Path) -> None:
    """Its __init__'s docstring: one sentence, then each module by its name."""
    told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    here = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/*.py")}
    assert here - {"__init__"} <= set(re.findall(r"\w+", told))


def test_name_of_a_module_stands_once() -> None:
    names = [path.stem for path in MODULES if path.name != "__init__.py"]
    assert [name for name in set(names) if names.count(name) > 1] == []


def test_name_of_a_class_stands_once() -> None:
    trees = [ast.parse(path.read_text()) for path in MODULES]
    names = [node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert [name for name in set(names) if names.count(name) > 1 and not name.startswith("_")] == []


def test_engines_know_nothing_of_what_stands_beside_them() -> None:
    for name, path in NAMES.items():
        if name.startswith("sandbox.engines"):
            assert all(used.startswith("sandbox.engines") for used in uses(path) if used.startswith("sandbox")), name


def test_resolver_finds_each_way_to_import() -> None:
    gate = PACKAGE / "sandbox/gate.py"
    statements = {
        "from .zmtp import Bounds": "sandbox.zmtp",
        "from . import zmtp": "sandbox.zmtp",
        "from ..host import forks": "host.forks",
        "from kernel_sandbox import errors": "errors",
        "from kernel_sandbox.host import forks": "host.forks",
        "import kernel_sandbox.host.forks": "host.forks",
        "if TYPE_CHECKING:\n    from kernel_sandbox.session.cell import Cell": "session.cell",
    }
    for source, meant in statements.items():
        (node,) = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom))
        assert any(name.startswith(f"{FIRST_PARTY}.{meant}") for name in resolved(gate, node)), source
    (beside,) = ast.parse("from . import gate").body
    assert isinstance(beside, ast.ImportFrom)
    assert resolved(PACKAGE / "sandbox/__init__.py", beside) == [f"{FIRST_PARTY}.sandbox.gate"]


def test_code_for_the_sandbox_needs_only_the_standard_library_and_the_kernels() -> None:
    of_the_kernel = ("kernel.py", "copying.py", "streams.py", "table_data.py", "application.py", "debugging.py")
    for path in MODULES:
        if room(path) == "inside" and path.name not in of_the_kernel and path.parent.name == "inside":
            others = {name.split(".")[0] for name in imports(path)} - set(__import__("sys").stdlib_module_names)
            assert others <= ({FIRST_PARTY, "pandas"} if path.name == "preview.py" else {FIRST_PARTY}), path


def test_host_imports_of_the_code_for_the_sandbox_what_runs_at_both_ends() -> None:
    for path in MODULES:
        if not runs_inside(path):
            assert all(used.startswith(SHARED) for used in uses(path) if used.startswith("inside")), path


READS = {"input", "click.confirm", "click.prompt", "getpass.getpass"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_questions_take_nothing_that_was_typed_before(path: Path) -> None:
    """Whoever reads from the terminal asks by `questions.put`; the prompt takes cells, and the answers to them."""
    if runs_inside(path) or path.relative_to(PACKAGE) == Path("doors/cli/prompt.py"):
        return
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    assert not [ast.unparse(call) for call in calls if ast.unparse(call.func) in READS]


STARTS = {"subprocess.run", "subprocess.Popen", "asyncio.create_subprocess_exec"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_program_that_is_started_gets_an_environment_of_programs(path: Path) -> None:
    """And is found by it: any other search path may lead into the working directory."""
    if runs_inside(path):
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    for call in calls:
        if ast.unparse(call.func) in STARTS:
            assert "env" in {keyword.arg for keyword in call.keywords}, call.lineno
        assert ast.unparse(call.func) != "shutil.which" or path.name == "programs.py", call.lineno
        assert not ast.unparse(call.func).startswith(("os.system", "os.popen", "os.exec", "os.spawn")), call.lineno


@pytest.mark.parametrize("dependency", DOORS)
def test_dependency_has_one_door(dependency: str) -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if not runs_inside(path) and any(name.split(".")[0] == dependency for name in imports(path, at_run_time=True))
    }
    assert users == DOORS[dependency]


@pytest.mark.parametrize("framework", ROOM_DOORS)
def test_framework_stays_in_its_rooms(framework: str) -> None:
    found = {path for path in MODULES if any(name.split(".")[0] == framework for name in imports(path))}
    users = {re.sub(r"(?<!doors)/.*", "", str(path.relative_to(PACKAGE))) for path in found}
    assert users == ROOM_DOORS[framework]


IN_A_SANDBOX = {"sandbox/link.py", "sandbox/engines/bubblewrap_profile.py"}
"""What starts an interpreter of an image, as PID 1 in its root directory (Python 3.9 knows no -P)."""


def unsafe_starts(tree: ast.AST) -> list[str]:
    """The command lines with an interpreter that is not told at once (-P, -I) to leave the working directory alone."""
    found = []
    for node in ast.walk(tree):
        words: list[ast.expr] = []
        if isinstance(node, ast.List | ast.Tuple):
            words = node.elts
        elif isinstance(node, ast.Call) and ast.unparse(node.func) not in ("getattr", "Path"):
            words = node.args
        elif isinstance(node, ast.JoinedStr):
            words = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
        told = [str(word.value) if isinstance(word, ast.Constant) else ast.unparse(word) for word in words]
        for word, following in itertools.pairwise([*told, ""]):
            option = (following.split() or [""])[0]
            ours = word == "sys.executable"
            named = re.fullmatch(r"(.*/)?python[\d.]*", word) and option.startswith("-")
            if (ours or named) and option not in ("-P", "-I", "isolation()"):  # kernelspec.isolation: one of them
                found.append(f"{word} {option}")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_interpreter_imports_what_lies_in_the_working_directory(path: Path) -> None:
    if not runs_inside(path) and str(path.relative_to(PACKAGE)) not in IN_A_SANDBOX:
        assert unsafe_starts(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    ["run([sys.executable, '-m', 'pip'])", "c = [sys.executable, str(pip)]", "exec('/x/python3', '-c', 'pass')",
     "f'{sys.executable} -m pip'", "start(sys.executable)", "('python', '-W', 'error', '-P')"],
)  # fmt: skip
def test_start_of_an_interpreter_is_found(source: str) -> None:
    assert unsafe_starts(ast.parse(source))
    assert not unsafe_starts(ast.parse("[sys.executable, '-P', '-m', 'pip']; f'{sys.executable} -P -m pip'"))


@pytest.mark.parametrize("path", [path for path in MODULES if not runs_inside(path)], ids=lambda path: path.name)
def test_no_cancellation_is_swallowed(path: Path) -> None:
    """Before Python 3.12 asyncio.wait_for returns where it is cancelled at the moment of a result; `timeout` raises."""
    names = [node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    assert "wait_for" not in names or path.name == "forks.py"  # of a threading.Condition


NEWER_NAMES = {
    *("asyncio.Barrier", "asyncio.Runner", "asyncio.TaskGroup", "asyncio.timeout", "asyncio.timeout_at"),
    *("aiter", "anext", "BaseExceptionGroup", "ExceptionGroup", "EncodingWarning"),
    *("contextlib.aclosing", "contextlib.chdir", "datetime.UTC", "enum.StrEnum", "functools.Placeholder", "tomllib"),
    *("inspect.get_annotations", "inspect.getmembers_static", "itertools.batched", "itertools.pairwise", "math.cbrt"),
    *("operator.call", "os.process_cpu_count", "os.EFD_CLOEXEC", "os.eventfd", "os.splice", "os.unshare", "os.setns"),
    *("sys.exception", "sys.orig_argv", "sys.stdlib_module_names", "sys.monitoring", "threading.gettrace"),
    *("types.EllipsisType", "types.NoneType", "types.NotImplementedType"),
    *("types.UnionType", "typing.Concatenate", "typing.LiteralString", "typing.Never", "typing.NotRequired"),
    *("typing.ParamSpec", "typing.Required", "typing.Self", "typing.TypeAlias", "typing.TypeGuard", "typing.Unpack"),
    *("typing.assert_never", "typing.override", "typing.reveal_type", "compression", "annotationlib"),
}
"""Of the standard library since Python 3.10: what one might reach for."""
NEWER_METHODS = {"add_note", "bit_count", "is_junction", "uncancel"}
NEWER_ARGUMENTS = {
    ("zip", "strict"), ("map", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only"), ("Popen", "process_group"),
    ("bisect", "key"), ("open_code", "encoding"), ("extractall", "filter"), ("extract", "filter"), ("rmtree", "onexc"),
}  # fmt: skip
ON_THE_HOST_ALONE = {"inside/mux.py": {"asyncio.timeout"}}
IN_OUR_OWN_IMAGES = {"inside/source_builder.py": {"tomllib"}}
"""What never meets an image of somebody else's."""
TYPES = {"bool", "bytes", "dict", "float", "frozenset", "int", "list", "object", "set", "str", "tuple", "type", "Any"}


def newer(tree: ast.Module) -> set[str]:
    """What Python 3.9 does not have, as far as the text alone tells."""
    late = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    notes = itertools.chain.from_iterable(types_of(node) for node in ast.walk(tree)) if late else ()
    unread = {id(node) for note in notes for node in ast.walk(note)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name for name in resolved(PACKAGE, node) if {name, name.partition(".")[0]} & NEWER_NAMES}
        elif isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in NEWER_NAMES:
            found.add(ast.unparse(node))
        elif isinstance(node, ast.Attribute) and node.attr in NEWER_METHODS:
            found.add(node.attr)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            found |= {f"{name}({word.arg}=)" for word in node.keywords if (name, word.arg) in NEWER_ARGUMENTS}
            if name in ("isinstance", "issubclass") and isinstance(node.args[-1], ast.BinOp):
                found.add(ast.unparse(node))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and id(node) not in unread:
            sides = {ast.unparse(side).partition("[")[0] for side in (node.left, node.right)}
            found |= {ast.unparse(node)} if sides & (TYPES | {"None"}) else set()
    return found


def types_of(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the annotations of a node, which nothing evaluates where they are put off."""
    for name in ("annotation", "returns"):
        if (note := getattr(node, name, None)) is not None:
            yield note


@pytest.mark.parametrize("path", [path for path in MODULES if runs_inside(path)], ids=lambda path: path.name)
def test_what_runs_in_a_sandbox_runs_on_python_3_9(path: Path) -> None:
    """An image of somebody's own may have that one."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    name = str(path.relative_to(PACKAGE))
    assert newer(tree) == ON_THE_HOST_ALONE.get(name, IN_OUR_OWN_IMAGES.get(name, set()))


@pytest.mark.parametrize(
    "source",
    ["zip(a, b, strict=True)", "isinstance(a, int | str)", "Names = list[str] | None", "def f(a: int | None): ...",
     "from itertools import pairwise", "itertools.pairwise(a)", "import tomllib", "async with asyncio.timeout(1): ...",
     "@dataclass(slots=True)\nclass A: ...", "n.bit_count()"],
)  # fmt: skip
def test_what_python_3_9_does_not_have_is_found(source: str) -> None:
    source = source if not source.startswith("async") else f"async def f():\n    {source}"
    assert newer(ast.parse(source))
    later = (
        "from __future__ import annotations\ndef f(a: int | None) -> str | None:\n    b: int | str = 1 | 2\nzip(a, b)"
    )
    assert newer(ast.parse(later)) == set()


@pytest.mark.parametrize("source", ["match a:\n    case 1: ...", "try: ...\nexcept* OSError: ..."])
def test_grammar_of_python_3_9_is_held(source: str) -> None:
    with pytest.raises(SyntaxError):
        ast.parse(source, feature_version=(3, 9))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = node.end_lineno - node.lineno + 1 - len(docstring.splitlines())  # type: ignore[operator]
            assert length <= 50, f"{path.name}: {node.name} has {length} lines"


def test_public_names_are_exported_and_documented() -> None:
    for name in kernel_sandbox.__all__:
        value = getattr(kernel_sandbox, name)
        assert value.__doc__ or (not inspect.isclass(value) and not inspect.isfunction(value)), name
    assert sorted(kernel_sandbox.__all__) == kernel_sandbox.__all__
