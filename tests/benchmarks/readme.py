"""What the README shows of the figures: a table between two marks, the chart, and a column of the engines' table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernel_sandbox.sandbox.engines import NAMES
from tests.benchmarks.chart import Bars, drawn
from tests.benchmarks.rows import Row
from tests.benchmarks.sides import LOCAL, SIDES

ROOT = Path(__file__).parents[2]
PAGE, CHART = ROOT / "README.md", ROOT / "notebooks" / "benchmarks.svg"
BEGIN, END = "<!-- python -m tests.benchmarks --readme -->", "<!-- end of it -->"

OPEN = "open to ready, second session"
IMPORT = "open and import in a first cell"
RUN = "`kernel-sandbox run`, three cells"
RESTART = "restart"
ACQUIRE = "acquire to first result"
IDLE = "memory of an idle session"
HUNDRED = "100 sessions"
WORDS = {
    OPEN: "open a session",
    IMPORT: "open, import pandas, numpy, pyplot",
    RUN: "script of three cells, whole command",
    RESTART: "restart",
    ACQUIRE: "first result from a pool",
    IDLE: "memory of one more idle session",
    HUNDRED: "memory of 100 idle sessions",
}
"""What the README calls the rows that it shows, in its order."""


def write(rows: Sequence[Row], about: Mapping[str, str]) -> None:
    """Put the figures into README.md, and draw its chart. Raises ValueError where a row or a mark is missing."""
    if missing := set(WORDS) - {row.name for row in rows}:
        raise ValueError(f"not measured: {', '.join(sorted(missing))}; the README takes a whole run")
    PAGE.write_text(in_engine_table(replaced(PAGE.read_text(), as_markdown(rows, about)), rows))
    CHART.write_text(drawn(bars(rows)))


def shown(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the README shows, in its order."""
    return sorted((row for row in rows if row.name in WORDS), key=lambda row: list(WORDS).index(row.name))


def bars(rows: Sequence[Row]) -> list[Bars]:
    groups = []
    for row in shown(rows):
        ratios = {LOCAL: 1.0} | {side: row.ratio(side) or 0.0 for side in NAMES}
        texts = {LOCAL: amount(row, LOCAL)} | {side: f"{ratios[side]:.2f}  ({amount(row, side)})" for side in NAMES}
        groups.append(Bars(WORDS[row.name], ratios, texts))
    return groups


def amount(row: Row, side: str) -> str:
    """Return a median in the words of the README: seconds from one second on."""
    value = row.median(side)
    if value is None:
        return ""
    if row.unit == "ms" and value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.{1 if value < 20 else 0}f} {row.unit}"


def as_markdown(rows: Sequence[Row], about: Mapping[str, str]) -> str:
    """Return the table: of each side the median, and of each engine the ratio with its quartiles."""
    cells = [["", "bare local kernel", *NAMES]]
    cells += [[WORDS[row.name], *(_cell(row, side) for side in SIDES)] for row in shown(rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    told = (
        f"Medians of {about['rounds']} rounds on {about['machine']}; ratios to the bare kernel, with their quartiles."
    )
    return "\n".join([*(f"| {line} |" for line in lines), "", told])


def _cell(row: Row, side: str) -> str:
    between = row.quartiles(side)
    if side == LOCAL or between is None:
        return amount(row, side)
    return f"{amount(row, side)}: {row.ratio(side):.2f} ({between[0]:.2f}–{between[1]:.2f})"


def replaced(page: str, table: str) -> str:
    """Put the table into a page, where the last one stands between our two marks. Raises ValueError without them."""
    before, begin, rest = page.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the table: {BEGIN} … {END}")
    return f"{before}{begin}\n{table}\n\n{end}{after}"


def in_engine_table(page: str, rows: Sequence[Row]) -> str:
    """Write into the engines' table how soon each is open. Raises ValueError where it has no such line."""
    found = {row.name: row for row in rows}
    for engine in NAMES:
        told = f"{amount(found[OPEN], engine)}, with pandas {amount(found[IMPORT], engine)}"
        page, count = re.subn(rf"(?m)^(\| `{engine}` \|(?:[^|]*\|){{2}})[^|]*\|", rf"\g<1> {told} |", page)
        if count != 1:
            raise ValueError(f"the page has no line of {engine} in its table of engines")
    return page
