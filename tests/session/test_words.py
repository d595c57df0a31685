"""The words of what a cell displayed: the same at every door."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from kernel_sandbox import DisplayData, Execution
from kernel_sandbox.artifacts import PictureFolder
from kernel_sandbox.doors.http.azure_results import stdout_of
from kernel_sandbox.doors.http.cell_views import view_cell
from kernel_sandbox.doors.magic.agent_view import CellBlock
from kernel_sandbox.show.model_text import read_output
from kernel_sandbox.terminal.cell_view import CellView
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.interrupts import Interrupts


def on_a_terminal(display: DisplayData) -> str:
    screen = Screen(Console(file=io.StringIO(), markup=False, emoji=False, highlight=False))
    with CellView(screen, PictureFolder(None), "1", Interrupts(lambda: None)) as view:
        view.take(display)
    return screen.console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def on_the_page(display: DisplayData) -> str:
    output = {"output_type": "display_data", "data": display.data, "metadata": {}}
    cell = {"cell_type": "code", "source": "", "metadata": {}, "execution_count": 1, "outputs": [output]}
    return str(view_cell(cell)["outputs"][0]["text"])


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        ({"text/plain": "<IPython.core.display.Markdown object>", "text/markdown": "**hi**"}, "**hi**"),
        ({"text/plain": "<IPython.core.display.Latex object>", "text/latex": "$x^2$"}, "$x^2$"),
        ({"text/plain": "x**2", "text/latex": "$x^2$"}, "x**2"),
        ({"text/plain": "  a b\n1 2 3", "text/markdown": "| a | b |", "text/html": "<table>"}, "  a b\n1 2 3"),
        (
            {"text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>"},
            "<IPython.core.display.HTML object>",
        ),
        ({"text/html": "<b>"}, "<text/html>"),
    ],
    ids=["Markdown", "LaTeX", "a formula of sympy's", "a table of R's", "HTML", "nothing but HTML"],
)
def test_words_are_the_text_and_of_an_object_its_source(bundle: dict[str, str], words: str) -> None:
    display = DisplayData(bundle, {})
    ended = Execution("", "ok", (display,), 1, datetime(2026, 1, 1, tzinfo=UTC), 0.1)
    block = CellBlock(1, "")
    block.take(display)
    assert on_a_terminal(display) == f"{words}\n"
    assert (read_output(display), on_the_page(display), ended.text, stdout_of(ended)) == (
        words,
        words,
        words,
        f"{words}\n",
    )
    assert block.text().endswith(words)
