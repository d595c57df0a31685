"""Charts that come as data, in words. Pure: what a sandbox sends may be anything."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_sandbox.session.outputs import bundle_text
from kernel_sandbox.session.outputs.chart_words import LONGEST_NAME, MOST_TRACES, PLOTLY, chart_words


def words(*traces: Any, layout: Any = None) -> str | None:
    return chart_words({PLOTLY: {"data": list(traces), "layout": layout}})


def test_figure_is_named_with_its_traces_and_how_much_they_draw() -> None:
    typed = {"type": "scatter", "name": "north", "y": {"dtype": "f8", "bdata": "A" * 31 + "="}}
    told = words({"type": "bar", "y": [1, 2, 3]}, typed, layout={"title": {"text": "Sales"}})
    assert told == "[Plotly figure 'Sales': bar of 3 values, scatter 'north' of 2 values]"
    assert words() == "[Plotly figure: empty]"
    assert words({"type": "pie", "values": [5]}) == "[Plotly figure: pie of 1 value]"


def test_text_beside_a_figure_is_what_is_read() -> None:
    assert bundle_text({"text/plain": "mine", PLOTLY: {"data": []}}) == "mine"
    assert chart_words({"image/svg+xml": "<svg/>"}) is None


def test_large_figure_costs_a_bounded_line() -> None:
    told = words(*[{"type": "t" * 10_000, "name": "n" * 10_000, "y": [1]}] * 5000, layout={"title": "x" * 10**6})
    assert told is not None
    assert len(told) < (MOST_TRACES + 1) * (2 * LONGEST_NAME + 40)
    assert told.endswith(f", {5000 - MOST_TRACES} more]")


@pytest.mark.parametrize("figure", [None, 7, "text", [], {}, {"data": 1}, {"data": [1, None, "x"]}, {"layout": []}])
def test_what_is_no_figure_raises_nothing(figure: Any) -> None:
    assert "Plotly" in (chart_words({PLOTLY: figure}) or "Plotly")


@pytest.mark.parametrize("y", [7, {"dtype": 1}, {"dtype": "f8", "bdata": 1}, {"dtype": "f9", "bdata": ""}, {}, ""])
def test_values_that_cannot_be_counted_are_left_out(y: Any) -> None:
    assert words({"type": "bar", "y": y}) == "[Plotly figure: bar]"
