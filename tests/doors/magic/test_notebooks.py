"""The example notebooks of the magics, the agent and the sandboxed kernel, run as nbclient runs them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from kernel_sandbox.setup.kernelspec import install, prefix_directory
from tests.agents.model_server import Say, model_server
from tests.conftest import missing
from tests.doors.magic.host import Host

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
MAGIC, AGENTS, KERNEL = (
    NOTEBOOKS / name for name in ("02_magic.ipynb", "03_agents.ipynb", "04_sandboxed_kernel.ipynb")
)


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a notebook anew, with its outputs taken out before."""
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    monkeypatch.setenv("KERNEL_SANDBOX_ENGINE", "bubblewrap")
    monkeypatch.setenv("JUPYTER_PATH", str(install(prefix_directory(directory / "prefix")).parent.parent))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    notebook = read(path)
    for cell in code(notebook):
        cell.outputs = []
    resources = {"metadata": {"path": str(directory)}}
    NotebookClient(notebook, timeout=120, kernel_name=notebook.metadata.kernelspec.name, resources=resources).execute()
    return notebook


def shapes(notebook: Any) -> list[list[Any]]:
    """What each cell showed: the kinds of outputs, and of displays their MIME types."""
    return [
        [sorted(output.data) if "data" in output else output.output_type for output in cell.outputs]
        for cell in code(notebook)
    ]


def texts(notebook: Any) -> list[str]:
    """The text of every stream, result and display, without times."""
    found = []
    for output in (output for cell in code(notebook) for output in cell.outputs):
        text = output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue", "")
        found.append(re.sub(r"\d+(?:\.\d)? m?s\b", "… s", text))
    return found


@pytest.mark.parametrize("path", [MAGIC, AGENTS, KERNEL], ids=lambda path: path.stem)
def test_notebook_shows_now_what_is_stored(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, made = read(path), run(path, tmp_path, monkeypatch)
    assert shapes(made) == shapes(stored)
    assert texts(made) == texts(stored)


@pytest.mark.parametrize("path", [MAGIC, AGENTS, KERNEL], ids=lambda path: path.stem)
def test_notebook_has_figures_and_no_paths_of_a_host(path: Path) -> None:
    text = path.read_text()
    assert "image/png" in text
    assert not re.search(r"/(?:root|work|tmp|home/(?!sandbox))\b/?", text)
    assert not any(cell.outputs == [] and "%ask" in cell.source for cell in code(read(path)))


def test_magic_notebook_keeps_its_promises() -> None:
    cells = {cell.source.split("\n")[-1]: cell for cell in code(read(MAGIC)) if cell.outputs}
    assert cells['"secret" in globals()'].outputs[0].data["text/plain"] == "False"
    assert cells["share(1, 0)"].outputs[0].ename == "ZeroDivisionError"
    html, script = (output.data for output in cells["display(Javascript(\"alert('nor here')\"))"].outputs)
    assert html["text/html"].startswith('<iframe sandbox=""')
    assert script["text/plain"] == "[application/javascript of the sandbox is not shown here]"


def test_agents_notebook_has_steps_and_an_answer() -> None:
    asked = next(cell for cell in code(read(AGENTS)) if cell.source.startswith("%ask --data"))
    assert asked.outputs[0].data["text/plain"].startswith("✓ offline · 2 cells")
    assert all("<details>" in output.data["text/html"] for output in asked.outputs[1:-1])
    assert "\n1. area: Pearson +0.961, Spearman" in asked.outputs[-1].data["text/markdown"]


def test_readme_magics_run(host: Host) -> None:
    blocks = re.findall(r"```ipython\n(.*?)```", (NOTEBOOKS.parent / "README.md").read_text(), re.DOTALL)
    host.run("import pandas as pd; sales = pd.DataFrame({'city': ['Oslo', 'Rome', 'Oslo'], 'sold': [3, 5, 4]})")
    assert len(blocks) >= 3
    with model_server(Say("Oslo, with 7.")) as server:
        host.run(f"%env OPENAI_BASE_URL={server.url}")
        for block in blocks:
            assert host.run(block.rstrip()).status == "ok", block
        host.run("import os; del os.environ['OPENAI_BASE_URL']")
    assert host.run("print(totals['sold'].tolist())").stream() == "[7, 5]\n"
