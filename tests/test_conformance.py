"""A small core of Jupyter's own suites: the sandboxed kernel by both ways in, and the stock kernel beside it.

`python -m tests.long foreign_suites` runs those suites whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from kernel_sandbox.setup.kernelspec import install, prefix_directory
from kernel_sandbox.spec.values import SandboxSpec
from tests.conftest import missing

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

WAYS = ("provisioner", "launcher")
CELLS = [
    "print('one', end='\\n\\ttwo\\r'); import sys; print('oh', file=sys.stderr)",
    "from IPython.display import HTML, clear_output, display, update_display\nh = display('a', display_id='same')",
    "h.update('b')\n_ = display('c', display_id='same')",
    "print('gone'); clear_output(wait=True); print('stays')",
    "display({'text/plain': 'p', 'text/html': '<b>h</b>', 'application/x+json': [1]}, raw=True, metadata={'k': 1})",
    "%%time\n_ = 1",
    "input()",
    "1 / 0",
    "x = 'é' * 3\nx, _",
    "get_ipython().set_next_input('later'); None",
    "raise KeyError('as tagged')",
]


@pytest.fixture(scope="module")
def stock() -> Iterator[pytest.MonkeyPatch]:
    """The name python3 stands for the stock kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JUPYTER_PATH", raising=False)
        yield patch


@pytest.fixture(params=WAYS)
def sandboxed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name python3 stands for a sandboxed kernel, with a provisioner or without."""
    if reason := missing("docker"):
        pytest.skip(reason)
    target = install(prefix_directory(tmp_path), name="python3", engine="docker", spec=SandboxSpec(image="python"))
    if request.param == "launcher":
        document = json.loads((target / "kernel.json").read_text())
        del document["metadata"]["kernel_provisioner"]
        (target / "kernel.json").write_text(json.dumps(document))
    monkeypatch.setenv("JUPYTER_PATH", str(target.parent.parent))


def shown_by_nbclient() -> list[Any]:
    """What nbclient keeps of the cells, apart from what names files of the machine."""
    new: Any = nbformat.v4
    notebook = new.new_notebook(cells=[new.new_code_cell(source) for source in CELLS])
    client = NotebookClient(notebook, kernel_name="python3", timeout=60, allow_errors=True)
    client.execute()
    assert "--HistoryManager.hist_file=:memory:" in client.extra_arguments
    for cell in notebook.cells:
        for output in cell.outputs:
            output.pop("traceback", None)
            if "time" in cell.source and "text" in output:
                output["text"] = "some"
    return [(cell.execution_count, cell.outputs) for cell in notebook.cells]


@pytest.fixture(scope="module")
def shown_by_stock(stock: pytest.MonkeyPatch) -> list[Any]:
    return shown_by_nbclient()


@pytest.mark.usefixtures("sandboxed")
def test_nbclient_keeps_what_it_keeps_of_the_stock_kernel(shown_by_stock: list[Any]) -> None:
    assert shown_by_nbclient() == shown_by_stock


@pytest.mark.usefixtures("sandboxed")
def test_papermill_sets_parameters_and_marks_failures(tmp_path: Path) -> None:
    new: Any = nbformat.v4
    cells = [new.new_code_cell("n = 1", metadata={"tags": ["parameters"]}), new.new_code_cell("10 / n")]
    metadata = {"language_info": {"name": "python"}}
    nbformat.write(new.new_notebook(cells=cells, metadata=metadata), tmp_path / "in.ipynb")  # type: ignore[no-untyped-call]
    quiet: dict[str, Any] = {"kernel_name": "python3", "progress_bar": False, "log_output": False}
    done = papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {"n": 4}, **quiet)
    assert done.cells[2].outputs[0].data["text/plain"] == "2.5"
    with pytest.raises(papermill.exceptions.PapermillExecutionError, match="ZeroDivisionError"):
        papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {"n": 0}, **quiet)
    failed = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert failed.metadata.papermill.exception is True


def answers() -> list[Any]:
    """How a kernel answers a request of each kind: types where values are the machine's own."""
    history = ["--HistoryManager.hist_file=:memory:"]
    manager, client = start_new_kernel(startup_timeout=60, kernel_name="python3", extra_arguments=history)
    try:
        return [told(client, name, arguments) for name, arguments in REQUESTS]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("execute", {"code": "a = 5", "user_expressions": {"b": "a + 1", "c": "1 / 0"}}),
    ("execute", {"code": "a; 6", "silent": True}),
    ("execute", {"code": "zip?"}),
    ("complete", {"code": "a.bit_l"}),
    ("inspect", {"code": "a"}),
    ("inspect", {"code": "nothing_there"}),
    ("is_complete", {"code": "if a:"}),
    ("is_complete", {"code": "a = "}),
    ("history", {"hist_access_type": "tail", "n": 3, "raw": True, "output": True}),
    ("comm_info", {}),
    ("kernel_info", {}),
    ("execute", {"code": "quit", "allow_stdin": False}),
]


def told(client: BlockingKernelClient, name: str, arguments: dict[str, Any]) -> Any:
    asked = getattr(client, name)(**arguments)
    content: Any = None
    while content is None:
        reply: Any = client.get_shell_msg(timeout=60)
        content = reply["content"] if reply["parent_header"]["msg_id"] == asked else None
    kinds: list[str] = []
    while True:
        message: Any = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == asked:
            kinds.append(message["msg_type"])
            if message["content"].get("execution_state") == "idle":
                if name == "complete":  # with Jedi or without it, the same text comes of it
                    start = arguments["code"][: content["cursor_start"]]
                    content = {"completed": [start + match for match in content["matches"]]}
                return name, arguments, shape(content), kinds


def shape(value: Any) -> Any:
    """A reply without what differs between two machines."""
    if isinstance(value, dict):
        own = ("traceback", "banner", "implementation_version", "language_info", "debugger", "supported_features")
        return {key: type(inner) if key in own else shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value) if isinstance(value, str) and "\n" in value else value


@pytest.fixture(scope="module")
def answers_of_stock(stock: pytest.MonkeyPatch) -> list[Any]:
    return answers()


@pytest.mark.usefixtures("sandboxed")
def test_kernel_answers_every_request_as_the_stock_kernel(answers_of_stock: list[Any]) -> None:
    assert answers() == answers_of_stock
