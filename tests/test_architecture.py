"""Budgets and arrows: what kernel_sandbox/README.md promises about the code's shape, held by machine."""

from __future__ import annotations

import ast
import functools
import itertools
import re
from pathlib import Path

import pytest

import kernel_sandbox

PACKAGE = Path(kernel_sandbox.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "_images" not in path.parts)
FIRST_PARTY = "kernel_sandbox"

LAYERS = [
    ["text"],
    [
        "errors",
        "spelling",
        "programs",
        "directories",
        "policy",
        "forms",
        "remedies",
        "outputs",
        "transcript",
        "mux",
        "accounts",
        "zmtp",
        "validate",
        "self_check",
        "markdown",
        "links",
        "questions",
    ],
    ["run_directory", "reactor", "progress", "forks", "affinity"],
    ["wheels", "images", "environment_etc", "environment_files", "build_sandbox", "environments"],
    ["engines", "docker_images", "image_builder", "debian_root", "kernelspec", "system_packages"],
    ["engine_images", "survey"],
    ["guest_link", "wire", "gate"],
    ["transports", "files"],
    ["live"],
    ["standing", "channels"],
    ["provisioner", "launcher", "cell", "prompts"],
    ["recorder", "other_clients", "variables"],
    ["session_kernel"],
    ["cell_runner"],
    ["session"],
    ["sync", "known_kernel", "artifacts", "exports", "pool"],
    ["agents"],
    ["doctor", "doctor_host", "setup_steps"],
    ["server", "mcp"],  # each is a door to the other: the service mounts the tools, whose HTTP side uses it
    ["cli", "magic"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

DOORS = {
    "docker": {"engines/docker_client.py"},
    "jupyter_client": {"provisioner.py", "session_kernel.py", "channels.py"},
    "nbformat": {"transcript/reading.py"},
    # Those of variables run in the sandbox, too: they need nothing of ours there.
    "pandas": {"outputs/tables.py", "variables/packing.py", "variables/plain.py", "variables/unpacking.py"},
    "numpy": {"variables/packing.py", "variables/plain.py", "variables/unpacking.py"},
    "IPython": {"magic/extension.py"},
    "nbconvert": {"exports/page.py"},
    "nh3": {"exports/tags.py"},
    "openai": {"agents/models.py"},
    "jwt": {"server/oidc.py"},
    "sqlalchemy": {"server/schema.py", "server/storage.py"},
    "prometheus_client": {"server/metrics.py"},
    "opentelemetry": {"server/traces.py"},
    "mcp": {"mcp/mcp_server.py"},
    "mcp_types": {"mcp/mcp_server.py"},
    "uvicorn": {"server/serving.py"},
}

ROOM_DOORS = {"fastapi": {"server"}, "starlette": {"server", "mcp"}}
"""Frameworks, whose words a whole room speaks: routes, layers and answers."""

INSIDE = ("guest/", "agents/preview.py", "agents/offline/cells/", "variables/inside.py", "server/inside/")
"""What runs in the sandbox: read as text, and imported by nobody on the host."""


def runs_inside(path: Path) -> bool:
    return str(path.relative_to(PACKAGE)).startswith(INSIDE)


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


@functools.cache
def imports(path: Path) -> set[str]:
    """The dotted names that a module imports at run time (not those for type checking only)."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_down_only(path: Path) -> None:
    here = room(path)
    if here in ("__init__", "guest"):
        return
    assert here in LEVEL, f"{here} is a new room: give it a layer"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == FIRST_PARTY and len(parts) > 1 and parts[1] in LEVEL and parts[1] != here:
            assert LEVEL[parts[1]] <= LEVEL[here], f"{here} imports {parts[1]}, which lies above it"


def test_guest_is_imported_by_nobody_and_needs_only_the_standard_library() -> None:
    for path in MODULES:
        inside = room(path) == "guest"
        assert inside or not any(name.startswith("kernel_sandbox.guest.") for name in imports(path)), path
        if inside and path.name not in ("kernel.py", "streams.py", "tables.py", "application.py"):
            others = {name.split(".")[0] for name in imports(path)} - set(__import__("sys").stdlib_module_names)
            assert others <= {FIRST_PARTY}, path


def test_code_for_the_sandbox_is_imported_by_nobody() -> None:
    names = {str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".") for path in MODULES if runs_inside(path)}
    for path in MODULES:
        if not runs_inside(path):
            assert not {name.removeprefix(f"{FIRST_PARTY}.") for name in imports(path)} & names, path


READS = {"input", "click.confirm", "click.prompt", "getpass.getpass"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_questions_take_nothing_that_was_typed_before(path: Path) -> None:
    """Whoever reads from the terminal asks by `questions.put`; `cli/prompt.py` takes cells, and the answers to them."""
    if runs_inside(path) or path.relative_to(PACKAGE) == Path("cli/prompt.py"):
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
        assert ast.unparse(call.func) != "shutil.which" or room(path) == "programs", call.lineno
        assert not ast.unparse(call.func).startswith(("os.system", "os.popen", "os.exec", "os.spawn")), call.lineno


@pytest.mark.parametrize("dependency", DOORS)
def test_dependency_has_one_door(dependency: str) -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if not runs_inside(path) and any(name.split(".")[0] == dependency for name in imports(path))
    }
    assert users == DOORS[dependency]


@pytest.mark.parametrize("framework", ROOM_DOORS)
def test_framework_stays_in_its_rooms(framework: str) -> None:
    users = {room(path) for path in MODULES if any(name.split(".")[0] == framework for name in imports(path))}
    assert users == ROOM_DOORS[framework]


IN_A_SANDBOX = {"guest_link.py", "engines/bubblewrap_profile.py"}
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
        assert value.__doc__ or name == "Output", name
    assert sorted(kernel_sandbox.__all__) == kernel_sandbox.__all__
