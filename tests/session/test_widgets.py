"""Widgets and progress bars in a session: nothing draws them there, so their text has to stay true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_sandbox import Session
from kernel_sandbox.session.outputs import DisplayData
from kernel_sandbox.show.model_text import read_execution
from tests.conftest import missing


@pytest.fixture(scope="module")
def widgets() -> Iterator[Session]:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    with Session(engine="bubblewrap", image="datascience") as opened:
        opened.execute("import ipywidgets as w")
        yield opened


@pytest.mark.parametrize("module", ["tqdm", "tqdm.auto", "tqdm.notebook"])
def test_bar_that_has_ended_is_saved_and_read_at_its_end(widgets: Session, module: str, tmp_path: Path) -> None:
    done = widgets.execute(f"from {module} import tqdm\nfor part in tqdm(range(4), desc='work'): pass")
    read = read_execution(done)
    assert "work: 100%" in read
    assert "4/4" in read
    assert "0/4" not in read
    widgets.transcript.save(tmp_path / "saved.ipynb")
    last = str(json.loads((tmp_path / "saved.ipynb").read_text())["cells"][-1]["outputs"][-1])
    assert "4/4" in last.rpartition("\\r")[2]


def test_bar_of_a_loop_that_breaks_off_says_how_far_it_came(widgets: Session) -> None:
    widgets.execute("from tqdm.notebook import tqdm")
    done = widgets.execute("for part in tqdm(range(4), mininterval=0):\n    assert part < 2, 'broke off'")
    assert done.status == "error"
    read = read_execution(done)
    assert "2/4" in read
    assert "0/4" not in read


def test_bar_that_shall_not_stay_is_gone(widgets: Session) -> None:
    done = widgets.execute("for part in tqdm(range(4), leave=False): pass")
    assert done.text.strip() == ""


def test_widget_says_what_it_is_and_what_it_holds(widgets: Session) -> None:
    done = widgets.execute("slider = w.IntSlider(value=7, description='n', max=20)\nw.VBox([slider, w.Text('a')])")
    shown = done.outputs[0]
    assert isinstance(shown, DisplayData)
    assert list(shown.data) == ["text/plain"]
    assert "IntSlider(value=7, description='n', max=20), Text(value='a')" in done.text
    assert "nobody can operate it here" in done.text


def test_widget_that_a_later_cell_sets_is_shown_as_it_is(widgets: Session) -> None:
    widgets.execute("late = w.IntText(value=1)\nlate")
    place = len(widgets.transcript.cells) - 1
    widgets.execute("late.value = 2")
    assert "IntText(value=2)" in str(widgets.transcript.notebook.cells[place].outputs)


def test_widgets_without_end_cost_a_bounded_text(widgets: Session) -> None:
    cell = "for n in range(300): display(w.Text('x' * 10_000))\nw.HBox([w.Text('y')] * 5000)"
    done = widgets.execute(cell, timeout=60)
    assert done.status == "ok"
    assert max(len(output.data["text/plain"]) for output in done.outputs if isinstance(output, DisplayData)) < 2200
