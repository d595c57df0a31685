"""The example notebooks, run by the tools that people run them with, and the data generator beside them."""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient

from kernel_sandbox.setup.kernelspec import install, prefix_directory
from tests.conftest import missing

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
FIRST = NOTEBOOKS / "01_first_session.ipynb"
BOUNDS = {
    "accidents": (0, 40),
    "traffic_fine_amount": (0, 20),
    "traffic_density": (0, 10),
    "traffic_lights": (0, 30),
    "pavement_quality": (0, 5),
    "urban_area": (0, 1),
    "average_speed": (8, 120),
    "rain_intensity": (0, 100),
    "vehicle_count": (0, 5000),
    "time_of_day": (0, 23),
}


@pytest.fixture
def kernelspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernelspec python-sandbox, where Jupyter finds it."""
    if reason := missing("docker"):
        pytest.skip(reason)
    directory = prefix_directory(tmp_path / "prefix")
    install(directory)
    monkeypatch.setenv("JUPYTER_PATH", str(directory.parent))


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


def check_outputs(notebook: Any) -> None:
    """What the prose of the first notebook promises."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [cell.outputs for cell in code]
    assert [len(found) for found in outputs] == [1, 1, 1, 1, 1, 1, 2, 1]
    table, cleaned, _, figure, slip, recovered, (progress, _), wall = [
        found if len(found) > 1 else found[0] for found in outputs
    ]
    assert "<table" in table.data["text/html"]
    assert cleaned.text == "1 row dropped, 2 values missing\n"
    assert "image/png" in figure.data
    assert slip.text == "no such product: 'croisant'\n"
    assert "croissants" in recovered.text
    assert progress.data["text/markdown"].startswith("**1000** weeks")
    assert wall.text == "network: Network is unreachable\n"


def test_first_notebook_is_stored_with_real_outputs() -> None:
    notebook = read(FIRST)
    assert notebook.metadata.kernelspec.name == "python-sandbox"
    check_outputs(notebook)


@pytest.mark.usefixtures("kernelspec")
def test_first_notebook_runs_under_nbclient() -> None:
    notebook = read(FIRST)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=120).execute()
    check_outputs(notebook)


@pytest.mark.usefixtures("kernelspec")
def test_first_notebook_runs_under_papermill(tmp_path: Path) -> None:
    papermill.execute_notebook(FIRST, tmp_path / "out.ipynb", progress_bar=False, log_output=False)
    notebook = read(tmp_path / "out.ipynb")
    check_outputs(notebook)
    assert all(cell.metadata.papermill.status == "completed" for cell in notebook.cells)


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """The rows that the generator writes."""
    path = tmp_path_factory.mktemp("traffic") / "out.csv"
    made = subprocess.run(
        [sys.executable, NOTEBOOKS / "make_traffic_data.py", path], capture_output=True, text=True, check=True
    )
    assert "8756 rows of synthetic traffic data (10 columns)" in made.stdout
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_traffic_data_have_their_shape_and_bounds(traffic: list[dict[str, float]]) -> None:
    assert len(traffic) == 8756
    assert list(traffic[0]) == list(BOUNDS)
    for name, (low, high) in BOUNDS.items():
        assert all(low <= row[name] <= high for row in traffic), name
        assert len({row[name] for row in traffic}) >= 2, name


def test_traffic_data_hold_what_an_analysis_looks_for(traffic: list[dict[str, float]]) -> None:
    def correlation(one: str, other: str, where: str = "urban_area", value: float = 1.0) -> float:
        rows = [row for row in traffic if row[where] == value]
        return statistics.correlation([row[one] for row in rows], [row[other] for row in rows])

    assert correlation("traffic_density", "accidents") > 0.15
    assert correlation("rain_intensity", "accidents") > 0.15
    assert correlation("average_speed", "accidents", "time_of_day", 12.0) > 0.15
    assert correlation("pavement_quality", "accidents") < -0.1
    assert correlation("traffic_density", "average_speed") < -0.5
    assert correlation("traffic_density", "vehicle_count") > 0.8


def test_traffic_data_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one.csv", "two.csv"):
        subprocess.run([sys.executable, NOTEBOOKS / "make_traffic_data.py", tmp_path / name], check=True)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
