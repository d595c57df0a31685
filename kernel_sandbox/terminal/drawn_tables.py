"""Tables that a cell displayed, drawn as text. `session.outputs.tables` reads them; every value in them is hostile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kernel_sandbox.session.outputs.tables import INFINITE, TABLE_TYPE, TableData, read_table, total_rows
from kernel_sandbox.terminal.console import INDENT
from kernel_sandbox.terminal.safe import plain

MISSING = "NaN"
MAX_ROWS = 25
"""Longer tables are shown as their text, in which pandas leaves the middle out."""
MAX_COLUMNS = 40
MAX_WIDTH = 60
"""Characters of one value; longer ones show its text, too."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column as it is shown."""

    name: str
    values: tuple[str, ...]
    is_number: bool
    is_index: bool


def read_columns(resource: Any) -> list[Column] | None:
    """Read a table resource as columns of text; None where it is none, or too large to be shown whole."""
    table = read_table(resource)
    if table is None or len(table.fields) > MAX_COLUMNS or not 0 < len(table.rows) <= MAX_ROWS:
        return None
    columns = [_column(table, place) for place in range(len(table.fields))]
    return columns if all(len(value) <= MAX_WIDTH for column in columns for value in column.values) else None


def _column(table: TableData, place: int) -> Column:
    is_float = table.fields[place].get("type") == "number"
    values = [INFINITE.get(v, v) if is_float and isinstance(v, str) else v for v in table.column(place)]
    present = [value for value in values if value is not None]
    # An integer may be larger than any float.
    is_number = bool(present) and all(
        type(value) is float or (type(value) is int and abs(value) < 1e300) for value in present
    )
    if is_number and any(isinstance(value, float) for value in present):
        texts = _decimals(values)
    else:
        texts = [_text(value) for value in values]
    title = table.title(place)
    return Column("" if title is None else _text(title), tuple(texts), is_number, place in table.index)


def _text(value: Any) -> str:
    if value is None:
        return MISSING
    # Dates come with a time of day, which for a column of days says nothing.
    text = str(value).removesuffix(".000").removesuffix("T00:00:00")
    return plain(text).replace("\n", "\\n").replace("\t", " ")


def _decimals(values: Sequence[Any]) -> list[str]:
    """Write numbers with as many decimals as they need, the same for all and 6 at the most, as pandas does."""
    present = [value for value in values if value is not None]
    if any(abs(value) >= 1e15 or 0 < abs(value) < 1e-4 for value in present):
        return [MISSING if value is None else f"{value:.6g}" for value in values]
    digits = next((n for n in range(1, 6) if all(abs(round(v, n) - v) < 5e-7 for v in present)), 6)
    return [MISSING if value is None else f"{value:.{digits}f}" for value in values]


def fitting_table(data: Mapping[str, Any], metadata: Mapping[str, Any], console: Console) -> Table | None:
    """Make a table of a bundle's table resource, if all of its rows came and the console is wide enough for it."""
    columns = read_columns(data.get(TABLE_TYPE))
    if columns is None or total_rows(metadata, len(columns[0].values)) > len(columns[0].values):
        return None
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", border_style="dim")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(Text(column.name), justify=justify, style="dim" if column.is_index else "")
    for row in zip(*(column.values for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table if console.measure(table).maximum + len(INDENT) <= console.width else None
