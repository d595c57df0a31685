"""The whole way on real, messy input: load, clean, group, plot, fail, recover, and a notebook that holds it all."""

from __future__ import annotations

import csv
import time
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from kernel_sandbox import Session, Transcript, TruncatedTable
from tests.conftest import missing

DENVER = Path(__file__).parents[2] / "shared" / "data" / "denver_traffic_accidents.csv"

CELLS = [
    "import pandas as pd\ndf = pd.read_csv('/mnt/data/denver.csv')\ndf.shape",
    "df['when'] = pd.to_datetime(df['FIRST_OCCURRENCE_DATE'])\n"
    "clean = df.dropna(subset=['NEIGHBORHOOD_ID'])\nprint(len(df) - len(clean), 'rows without a neighborhood')",
    "top = clean['NEIGHBORHOOD_ID'].value_counts().head(5)\n"
    "top = top.rename_axis('neighborhood').reset_index(name='accidents')\ntop",
    "import matplotlib.pyplot as plt\ntop.plot.barh(x='neighborhood', y='accidents')\nplt.show()\n"
    "df['when'].dt.hour.value_counts().sort_index().plot()\nplt.show()",
    "df['SEVERITY'].mean()",
    "df['DISTRICT_ID'].nunique()",
]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    if not DENVER.exists():
        pytest.skip("the Denver data set is not beside this checkout")
    with DENVER.open(newline="") as file:
        return list(csv.DictReader(file))


def test_analysis_builds_on_earlier_cells_and_ends_in_a_notebook(rows: list[dict[str, str]], tmp_path: Path) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    path = tmp_path / "analysis.ipynb"
    with Session(engine="docker", image="datascience", save=path) as session:
        session.files.upload(DENVER, "denver.csv")
        executions = [session.execute(source) for source in CELLS]
    assert [execution.status for execution in executions] == ["ok", "ok", "ok", "ok", "error", "ok"]

    loaded, cleaned, grouped, plotted, failed, recovered = executions
    assert loaded.text == f"({len(rows)}, 17)"
    without = sum(not row["NEIGHBORHOOD_ID"] for row in rows)
    assert cleaned.text == f"{without} rows without a neighborhood\n"

    counts = Counter(row["NEIGHBORHOOD_ID"] for row in rows if row["NEIGHBORHOOD_ID"])
    (top,) = grouped.dataframes
    assert top["accidents"].tolist() == sorted(counts.values(), reverse=True)[:5]
    assert all(counts[name] == count for name, count in zip(top["neighborhood"], top["accidents"], strict=True))
    assert set(grouped.result or ()) == {"text/plain", "text/html", "application/vnd.dataresource+json"}

    assert [kind for kind, _ in plotted.pictures] == ["image/png", "image/png"]
    assert all(data.startswith(b"\x89PNG\r\n") and len(data) > 5000 for _, data in plotted.pictures)
    assert failed.error is not None
    assert failed.error.ename == "KeyError"
    assert recovered.text == str(len({row["DISTRICT_ID"] for row in rows if row["DISTRICT_ID"]}))
    check_notebook(path)


def check_notebook(path: Path) -> None:
    """The saved notebook, cell by cell, as another program reads it."""
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert [cell.source for cell in notebook.cells] == CELLS
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3, 4, 5, 6]
    kinds = [[output.output_type for output in cell.outputs] for cell in notebook.cells]
    assert kinds[:3] == [["execute_result"], ["stream"], ["execute_result"]]
    assert kinds[3:] == [["display_data", "display_data"], ["error"], ["execute_result"]]
    assert notebook.cells[4].outputs[0].ename == "KeyError"
    assert notebook.cells[4].metadata["kernel_sandbox"] == {"status": "error", "ran": "whole", "kept": "all"}
    assert all("iopub.status.idle" in cell.metadata["execution"] for cell in notebook.cells)
    assert not any(cell.metadata.get("trusted") for cell in notebook.cells)
    assert notebook.metadata["language_info"]["name"] == "python"
    made = notebook.metadata["kernel_sandbox"]
    assert made["engine"] == "docker"
    assert made["image_digest"].startswith("sha256:")
    assert made["limits"]["memory"] == 2 * 1024**3
    assert len({cell.id for cell in notebook.cells}) == 6


def test_notebook_is_replayed_into_a_new_session(tmp_path: Path) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    with Session(engine="docker", image="python", save=tmp_path / "first.ipynb") as session:
        session.execute("x = 6")
        session.execute("x * 7")
    again = Transcript.load(tmp_path / "first.ipynb")
    with Session(engine="docker", image="python") as session:
        results = [session.execute(source).text for source in again.sources]
    assert results == ["", "42"]


def test_dataframes_come_back_as_data(science: Session) -> None:
    source = """
import pandas as pd
pd.DataFrame({'n': [1, 2, 3], 'x': [0.5, None, 2.25], 's': ['a', 'b', None], 'ok': [True, False, True],
              'when': pd.to_datetime(['2024-01-01 00:00', '2024-06-30 12:30', None])})
"""
    (frame,) = science.execute(source).raise_for_error().dataframes
    assert frame["n"].tolist() == [1, 2, 3]
    assert frame["x"].isna().tolist() == [False, True, False]
    assert frame["x"][2] == 2.25
    assert frame["ok"].tolist() == [True, False, True]
    assert str(frame["when"][1]) == "2024-06-30 12:30:00"


def test_large_dataframes_are_cut_to_the_row_limit(science: Session) -> None:
    execution = science.execute("import pandas as pd; pd.DataFrame({'n': range(10_000)})")
    with pytest.raises(TruncatedTable, match="10,000 rows, and the first 200 came"):
        _ = execution.dataframes
    output = execution.outputs[-1]
    assert output.output_type == "execute_result"
    assert output.metadata["application/vnd.dataresource+json"] == {"rows": 10_000, "truncated": True}


def test_figures_come_as_svg_on_request(science: Session) -> None:
    science.execute("%config InlineBackend.figure_formats = ['svg']")
    execution = science.execute("import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
    science.execute("%config InlineBackend.figure_formats = ['png']")
    ((kind, data),) = execution.pictures
    assert kind == "image/svg+xml"
    assert b"<svg" in data


def test_libraries_work_under_the_profile(science: Session) -> None:
    source = """
import asyncio, multiprocessing, sqlite3, subprocess
import numpy, scipy, sklearn, statsmodels, pyarrow, openpyxl, PIL, sympy, seaborn
from sklearn.ensemble import RandomForestClassifier
x = numpy.random.default_rng(0).normal(size=(200, 4))
forest = RandomForestClassifier(n_estimators=8, n_jobs=2, random_state=0).fit(x, x[:, 0] > 0)
with multiprocessing.Pool(2) as pool: squares = pool.map(abs, [-1, -2])
db = sqlite3.connect('/mnt/data/t.db'); db.execute('create table t (n)'); db.execute('insert into t values (7)')
async def answer(): return 42
print(forest.score(x, x[:, 0] > 0) > 0.9, squares, db.execute('select n from t').fetchone(), await answer(),
      subprocess.run(['echo', 'hi'], capture_output=True, text=True).stdout.strip())
"""
    assert science.execute(source).raise_for_error().text == "True [1, 2] (7,) 42 hi\n"


def test_restart_finds_pandas_imported(science: Session) -> None:
    """Once the sandbox had a few seconds in which it was asked for nothing."""
    deadline = time.monotonic() + 60
    while science.execute("import sys; 'pandas' in sys.modules").text != "True":
        assert time.monotonic() < deadline
        time.sleep(4)
        science.restart()
    timed = "import time; t = time.perf_counter(); import pandas; print(time.perf_counter() - t)"
    elsewhere = f"import subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {timed!r}]).decode())"
    assert float(science.execute(timed).text) < float(science.execute(elsewhere).text) / 3


def test_figures_still_come_after_a_restart(science: Session) -> None:
    plot = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
    for _ in range(3):
        science.restart()
        assert [kind for kind, _ in science.execute(plot).pictures] == ["image/png"]


def test_random_numbers_differ_between_kernels(science: Session) -> None:
    draw = "import numpy, random; (numpy.random.rand(), random.random())"
    first = science.execute(draw).text
    science.restart()
    assert science.execute(draw).text != first
