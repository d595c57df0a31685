"""Tables that a cell displayed, read from their table-schema JSON. Pure.

https://specs.frictionlessdata.io/table-schema/ is what pandas displays (option display.html.table_schema). A sandbox
wrote it: whoever shows a table, as HTML, as text, as data or as a DataFrame, has it read here, so that what is no sound
table is none at any door, and its text is shown instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TABLE_TYPE = "application/vnd.dataresource+json"
"""The MIME type of a table resource, {"schema": {"fields", "primaryKey"}, "data": [row, ...]}."""
INFINITE = {"INF": math.inf, "-INF": -math.inf}
"""Table Schema's words for them: JSON has none."""

Field = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TableData:
    """A table as it came. Values and types are the sandbox's own: only their places are sound."""

    fields: list[Field]
    """Of each column its name, a text or a number, and what it says of its type."""
    rows: list[Mapping[str, Any]]
    """Each has a value for every name."""
    index: tuple[int, ...]
    """The places of the columns that are the index."""
    columns_name: str | int | None

    @property
    def names(self) -> list[str]:
        """Return the columns' names as they stand in the rows: all different."""
        return [str(field["name"]) for field in self.fields]

    def column(self, place: int) -> list[Any]:
        name = str(self.fields[place]["name"])
        return [row[name] for row in self.rows]

    def title(self, place: int) -> Any:
        """Return a column's name; None for an index that has none.

        pandas names the nameless so: pandas.io.json._table_schema.set_default_names.
        """
        name = self.fields[place]["name"]
        if place not in self.index:
            return name
        made_up = name == "index" if len(self.index) == 1 else isinstance(name, str) and name.startswith("level_")
        return None if made_up else name


def total_rows(metadata: Mapping[str, Any], came: int) -> int:
    """Return how many rows a displayed table has in the kernel, where its metadata says so believably; else `came`."""
    about = metadata.get(TABLE_TYPE)
    rows = about.get("rows") if isinstance(about, Mapping) else None
    return rows if type(rows) is int and came <= rows < 10**15 else came


def read_table(resource: Any) -> TableData | None:
    """Read a resource; None where anything is amiss, and where two columns have the same name.

    The data of those have overwritten each other.
    """
    schema = resource.get("schema") if isinstance(resource, Mapping) else None
    if not isinstance(schema, Mapping):
        return None
    fields, rows = schema.get("fields"), resource.get("data")
    if not isinstance(fields, list) or not isinstance(rows, list) or not fields:
        return None
    if not all(isinstance(field, Mapping) and isinstance(field.get("name"), str | int | float) for field in fields):
        return None
    names = [str(field["name"]) for field in fields]
    wanted = set(names)
    # Rows that name every field also bound the work: it cannot be more than the JSON that was paid for.
    if len(wanted) < len(names) or not all(isinstance(row, Mapping) and wanted <= row.keys() for row in rows):
        return None
    key = _index_positions(schema, [field["name"] for field in fields])
    about = schema.get("columnsName")
    return None if key is None else TableData(fields, rows, key, about if isinstance(about, str | int) else None)


def _index_positions(schema: Mapping[str, Any], names: list[Any]) -> tuple[int, ...] | None:
    key = schema.get("primaryKey")
    if key is None:
        return _unnamed_index(schema, names)
    key = key if isinstance(key, list) else [key]
    if not all(isinstance(name, str | int | float) and name in names for name in key):
        return None
    positions = tuple(names.index(name) for name in key)
    return positions if len(set(positions)) == len(positions) else None


def _unnamed_index(schema: Mapping[str, Any], names: list[Any]) -> tuple[int, ...]:
    """pandas leaves the key out where the index repeats itself, but still writes it first, as index or level_n."""
    if "pandas_version" not in schema:
        return ()
    if names[0] == "index":
        return (0,)
    levels = 0
    while levels < len(names) and names[levels] == f"level_{levels}":
        levels += 1
    return tuple(range(levels)) if levels > 1 else ()
