"""DataFrames as tables of text, from the table-schema JSON that pandas displays. Reading is pure.

Every value is hostile: what is not shaped as a table gives None, and its text is shown instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kernel_sandbox.session.outputs.tables import TABLE_TYPE, total_rows
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


def read_table(resource: Any) -> list[Column] | None:
    """Read a table resource as columns of text; None where it is none, or too large to be shown whole."""
    schema = resource.get("schema") if isinstance(resource, Mapping) else None
    fields = schema.get("fields") if isinstance(schema, Mapping) else None
    rows = resource.get("data") if isinstance(resource, Mapping) else None
    if not isinstance(fields, list) or not isinstance(rows, list) or not isinstance(schema, Mapping):
        return None
    if not 0 < len(fields) <= MAX_COLUMNS or not 0 < len(rows) <= MAX_ROWS:
        return None
    if not all(isinstance(field, Mapping) and isinstance(field.get("name"), str | int | float) for field in fields):
        return None
    names = [str(field["name"]) for field in fields]
    if not all(isinstance(row, Mapping) and set(names) <= row.keys() for row in rows):
        return None
    key = schema.get("primaryKey")
    index = {str(name) for name in key} if isinstance(key, list) else set()
    values = [[_read(row[name], field) for row in rows] for name, field in zip(names, fields, strict=True)]
    columns = [_column(name, values[place], name in index) for place, name in enumerate(names)]
    return columns if all(len(value) <= MAX_WIDTH for column in columns for value in column.values) else None


def _read(value: Any, field: Mapping[str, Any]) -> Any:
    """Read Table Schema's words for the infinities."""
    return float(value) if field.get("type") == "number" and value in ("INF", "-INF") else value


def _column(name: str, values: Sequence[Any], is_index: bool) -> Column:
    present = [value for value in values if value is not None]
    # An integer may be larger than any float.
    is_number = bool(present) and all(
        type(value) is float or (type(value) is int and abs(value) < 1e300) for value in present
    )
    if is_number and any(isinstance(value, float) for value in present):
        texts = _decimals(values)
    else:
        texts = [_text(value) for value in values]
    made_up = is_index and (name == "index" or name.startswith("level_"))  # pandas' names for what has none
    return Column("" if made_up else _text(name), tuple(texts), is_number, is_index)


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
    columns = read_table(data.get(TABLE_TYPE))
    if columns is None or total_rows(metadata, len(columns[0].values)) > len(columns[0].values):
        return None
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", border_style="dim")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(Text(column.name), justify=justify, style="dim" if column.is_index else "")
    for row in zip(*(column.values for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table if console.measure(table).maximum + len(INDENT) <= console.width else None
