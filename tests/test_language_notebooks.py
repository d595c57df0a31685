"""The example notebooks of other languages, run by the command and by nbclient."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from kernel_sandbox.host import programs
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.setup.kernelspec import install, names_for, prefix_directory
from kernel_sandbox.spec.values import SandboxSpec
from tests.languages import TESTED, require_image

NOTEBOOKS = {"r": "05_r", "javascript": "06_typescript", "bash": "07_bash", "java": "08_java"}
FOLDER = Path(__file__).parent.parent / "notebooks"
SHOWN = {"r": "image/png", "javascript": "image/svg+xml", "java": "image/png"}


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


def seconds(image: str) -> int:
    """How long a cell may run: enough for what the notebook loads, where others use the machine too."""
    return 4 if image in ("bash", "javascript") else 8


def check(notebook: Any, image: str) -> None:
    """State, a figure or a table, an error, an interrupt, and what is still there after both."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    *_, failed, after, interrupted, last = code
    assert [cell.metadata.get("tags") for cell in (failed, interrupted)] == [["raises-exception"]] * 2
    assert any(output.output_type == "error" for output in failed.outputs)
    assert not any(output.output_type == "error" for cell in (after, last) for output in cell.outputs)
    assert last.outputs[-1].text.endswith("all still here\n")
    bundles = [output.data for cell in code for output in cell.outputs if "data" in output]
    assert image not in SHOWN or any(SHOWN[image] in bundle for bundle in bundles)


@pytest.mark.parametrize("image", NOTEBOOKS)
def test_notebook_is_stored_as_it_ran(image: str) -> None:
    notebook = read(FOLDER / f"{NOTEBOOKS[image]}.ipynb")
    assert notebook.metadata.kernelspec.name == names_for(image)[0]
    check(notebook, image)


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("image", TESTED)
def test_notebook_runs_in_the_image_of_its_language(engine: str, image: str, tmp_path: Path) -> None:
    require_image(engine, image)
    source, saved = FOLDER / f"{NOTEBOOKS[image]}.ipynb", tmp_path / "out.ipynb"
    command: list[str | Path] = [
        Path(sys.executable).with_name("kernel-sandbox"),
        "run",
        source,
        "--save",
        saved,
        "--engine",
        engine,
    ]
    command += ["--cell-timeout", str(seconds(image)), "--keep-going"]
    done = subprocess.run(command, env=programs.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    check(read(saved), image)


@pytest.mark.parametrize("image", TESTED)
def test_notebook_runs_under_nbclient(quick: str, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_image(quick, image)
    directory = prefix_directory(tmp_path / "prefix")
    name, display_name = names_for(image)
    install(directory, name=name, display_name=display_name, engine=quick, spec=SandboxSpec(image=image))
    monkeypatch.setenv("JUPYTER_PATH", str(directory.parent))
    notebook = read(FOLDER / f"{NOTEBOOKS[image]}.ipynb")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=seconds(image), interrupt_on_timeout=True).execute()
    check(notebook, image)
