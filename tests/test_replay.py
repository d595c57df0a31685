"""`run NOTEBOOK --save OUT` beside nbclient and papermill: what of a notebook stays, and how parameters get in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.usefixtures("docker")

SHOWN = [{"output_type": "stream", "name": "stdout", "text": "of an earlier run\n"}]
CELLS: list[dict[str, Any]] = [
    {"cell_type": "raw", "metadata": {"format": "text/x-rst"}, "source": "raw"},
    {"cell_type": "markdown", "metadata": {"slideshow": {"slide_type": "slide"}}, "source": "T\n![](attachment:a.png)",
     "attachments": {"a.png": {"image/png": "aGk="}}},
    {"cell_type": "code", "metadata": {"collapsed": True, "mine": [1, {"b": None}]}, "source": "print('hi')",
     "execution_count": 7, "outputs": SHOWN},
    {"cell_type": "code", "metadata": {"tags": ["skip-execution", "x"]}, "source": "1/0", "execution_count": 8,
     "outputs": SHOWN},
    {"cell_type": "code", "metadata": {"tags": ["raises-exception"]}, "source": "1/0", "execution_count": None,
     "outputs": []},
    {"cell_type": "code", "metadata": {}, "source": " \n", "execution_count": None, "outputs": []},
    {"cell_type": "code", "metadata": {"name": "last"}, "source": "x = 1\nx", "execution_count": None, "outputs": []},
]  # fmt: skip
METADATA = {
    "title": "A title",
    "authors": [{"name": "A", "mail": "a@example.org"}],
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python", "env": {}},
    "toc": {"base_numbering": 1},
}


def write_notebook(path: Path, cells: list[dict[str, Any]], *, minor: int = 5, **others: Any) -> Path:
    ids = [{"id": f"cell-{n}"} if minor >= 5 else {} for n in range(len(cells))]
    numbered = [cell | made for cell, made in zip(cells, ids, strict=True)]
    document = {"cells": numbered, "metadata": METADATA, "nbformat": 4, "nbformat_minor": minor}
    path.write_text(json.dumps(document | others))
    return path


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


def replay(directory: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line there."""
    command = [Path(sys.executable).with_name("kernel-sandbox"), "run", *arguments, "--image", "python"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)


def comparable(path: Path) -> dict[str, Any]:
    """What a run leaves of a notebook, apart from what tells of the run itself."""
    notebook: dict[str, Any] = json.loads(path.read_text())
    for own in ("kernel_sandbox", "language_info", "papermill"):
        notebook["metadata"].pop(own, None)
    for cell in notebook["cells"]:
        for own in ("execution", "papermill", "kernel_sandbox"):
            cell["metadata"].pop(own, None)
        for output in cell.get("outputs", []):
            output.pop("traceback", None)
    return notebook


@pytest.mark.parametrize("minor", [4, 5])
def test_run_leaves_what_nbclient_leaves(tmp_path: Path, minor: int) -> None:
    path = write_notebook(tmp_path / "in.ipynb", CELLS, minor=minor)
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()
    nbformat.write(notebook, tmp_path / "theirs.ipynb")  # type: ignore[no-untyped-call]
    done = replay(tmp_path, "in.ipynb", "--save", "ours.ipynb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    ours, theirs = comparable(tmp_path / "ours.ipynb"), comparable(tmp_path / "theirs.ipynb")
    assert ours["metadata"].pop("kernelspec")["name"] == "python-sandbox"
    assert theirs["metadata"].pop("kernelspec")["name"] == "python3"
    assert ours == theirs
    assert read(tmp_path / "ours.ipynb").cells[3].outputs[0].text == "of an earlier run\n"


PARAMETERS: dict[str, Any] = {
    "n": 7,
    "x": 0.5,
    "flag": True,
    "none": None,
    "text": "it's",
    "odd": "a=b \n'''\\",
    "inf": float("inf"),
}
DEFAULTS: list[dict[str, Any]] = [
    {"cell_type": "markdown", "metadata": {}, "source": "before"},
    {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "n = 1", "execution_count": None,
     "outputs": []},
    {"cell_type": "code", "metadata": {}, "source": "(n, x, flag, none, text, odd, inf)", "execution_count": None,
     "outputs": []},
]  # fmt: skip


def test_run_sets_parameters_as_papermill_does(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "in.ipynb", DEFAULTS)
    quiet: dict[str, Any] = {"progress_bar": False, "log_output": False}
    papermill.execute_notebook(path, tmp_path / "theirs.ipynb", PARAMETERS, kernel_name="python3", **quiet)
    given = ["-p", "n", "7", "-p", "x=0.5", "--parameters", "flag", "True", "-p", "none=None", "-p", "text=it's"]
    given += ["-r", "odd", PARAMETERS["odd"], "-y", "{inf: .inf}"]
    (tmp_path / "more.json").write_text('{"n": 2}')  # what is named is stronger than a file
    done = replay(tmp_path, "in.ipynb", *given, "-f", "more.json", "--save", "ours.ipynb")
    assert done.returncode == 0, done.stdout + done.stderr
    ours, theirs = comparable(tmp_path / "ours.ipynb")["cells"], comparable(tmp_path / "theirs.ipynb")["cells"]
    assert [cell["metadata"].get("tags", []) for cell in ours] == [cell["metadata"]["tags"] for cell in theirs]
    assert [cell["cell_type"] for cell in ours] == [cell["cell_type"] for cell in theirs]
    assert ours[3]["outputs"] == theirs[3]["outputs"]
    again = replay(tmp_path, "ours.ipynb", "-p", "n", "8", "-p", "month=July", "--save", "again.ipynb", "--keep-going")
    sources = ["".join(cell["source"]) for cell in comparable(tmp_path / "again.ipynb")["cells"]]
    assert sources == ["before", "n = 1", "# Parameters\nn = 8\nmonth = 'July'", DEFAULTS[2]["source"]], again.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-p", "a b", "1"], "no name of a Python variable"),
        (["-p", "class=1"], "no name of"),
        (["-y", "[1]"], "no mapping"),
    ],
)
def test_run_refuses_what_can_be_no_parameter(tmp_path: Path, given: list[str], said: str) -> None:
    write_notebook(tmp_path / "in.ipynb", DEFAULTS)
    done = replay(tmp_path, "in.ipynb", *given)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_run_takes_what_nbformat_only_warns_about(tmp_path: Path) -> None:
    prose, code = CELLS[1], CELLS[6]
    cells = [prose, code | {"mine": 1}, {"cell_type": "code", "metadata": {}, "source": "len('four')"}]
    metadata = {"kernelspec": {"name": "python3"}, "authors": "one"}
    path = write_notebook(tmp_path / "in.ipynb", cells, metadata=metadata, mine=2)
    path.write_text(path.read_text().replace('"id": "cell-2"', '"id": "cell-1"'))
    done = replay(tmp_path, "in.ipynb", "--save", "out.ipynb")
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "out.ipynb").read_text())
    assert (kept["mine"], kept["metadata"]["authors"], kept["cells"][1]["mine"]) == (2, "one", 1)
    assert kept["cells"][2]["outputs"][0]["data"]["text/plain"] == ["4"]
    ids = [cell["id"] for cell in kept["cells"]]
    assert ids[:2] == ["cell-0", "cell-1"]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("name", ["in.ipynb", "in.py"])
def test_run_of_prose_alone_is_well(tmp_path: Path, name: str) -> None:
    write_notebook(tmp_path / "in.ipynb", CELLS[:2])
    (tmp_path / "in.py").write_text("# %% [raw]\n# raw\n# %% [markdown]\n# # Title\n")
    done = replay(tmp_path, name, "--save", "out.ipynb")
    assert (done.returncode, "0 cells" in done.stdout) == (0, True), done.stderr
    assert [cell.cell_type for cell in read(tmp_path / "out.ipynb").cells] == ["raw", "markdown"]


def test_run_of_a_script_knows_tags_and_strings(tmp_path: Path) -> None:
    (tmp_path / "in.py").write_text(
        '# %% tags=["parameters"]\nn = 1\n# %% [markdown]\n# text\n# %% tags=["skip-execution"]\n1 / 0\n'
        "# %%\ntext = '''\n# %%\n'''\nprint(n, len(text))\n"
    )
    done = replay(tmp_path, "in.py", "-p", "n=5", "--save", "out.ipynb")
    assert done.returncode == 0, done.stdout
    cells = read(tmp_path / "out.ipynb").cells
    assert [cell.cell_type for cell in cells] == ["code", "code", "markdown", "code", "code"]
    assert cells[4].outputs[0].text == "5 6\n"
    assert not cells[3].outputs


def test_run_that_is_stopped_has_kept_all_cells(tmp_path: Path) -> None:
    failing = CELLS[4] | {"metadata": {}}
    write_notebook(tmp_path / "in.ipynb", [CELLS[2], failing, CELLS[2], CELLS[3]])
    assert replay(tmp_path, "in.ipynb", "--save", "out.ipynb").returncode == 1
    cells = read(tmp_path / "out.ipynb").cells
    assert [cell.id for cell in cells] == ["cell-0", "cell-1", "cell-2", "cell-3"]
    assert [len(cell.outputs) for cell in cells] == [1, 1, 0, 1]  # a cell that did not run shows nothing
    assert [cell.execution_count for cell in cells] == [1, 2, None, 8]
