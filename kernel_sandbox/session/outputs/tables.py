"""DataFrames rebuilt from the table-schema JSON that pandas displays, and from nothing else.

`Execution.dataframes` calls it. A sandbox wrote the schema: pandas' own reader (read_json, orient="table") looks its
dtype names up in pandas' registry and its time zones in the file system, and raises whatever they lead to. Here the
columns are made one by one from types on a list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import pandas

TABLE_TYPE = "application/vnd.dataresource+json"
"""The MIME type under which pandas displays them (pandas option display.html.table_schema)."""

_INFINITE = {"INF": math.inf, "-INF": -math.inf}
"""Table Schema's words for them: JSON has none."""
_DTYPES = {
    "integer": {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "number": {"float16", "float32", "float64"},
    "boolean": {"bool"},
    "datetime": {f"datetime64[{unit}]" for unit in ("s", "ms", "us", "ns")},
    "duration": {f"timedelta64[{unit}]" for unit in ("s", "ms", "us", "ns")},
    "any": {"object", "str", "string", "int64", "bool"},
}
"""NumPy's own, which the guest names beside the type (inside/tables.py)."""
_NULLABLE = {
    "integer": {f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "number": {"Float32", "Float64"},
    "boolean": {"boolean"},
    "string": {"string"},
}
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}")
_OFFSET = re.compile(r"UTC([+-])(\d\d):(\d\d)")
_Field = Mapping[str, Any]
_Rows = list[Mapping[str, Any]]
_Table = tuple[list[_Field], _Rows, tuple[int, ...], str | int | None]
"""The fields, the rows, the places of the index fields, and the name of the columns."""
# What pandas raises for values that do not have the type that the schema says.
_REFUSALS = (ValueError, TypeError, OverflowError, ArithmeticError, KeyError)


def total_rows(metadata: Mapping[str, Any], came: int) -> int:
    """Return how many rows a displayed table has in the kernel, where its metadata says so believably; else `came`."""
    about = metadata.get(TABLE_TYPE)
    rows = about.get("rows") if isinstance(about, Mapping) else None
    return rows if type(rows) is int and came <= rows < 10**15 else came


def table_to_dataframe(resource: Any) -> pandas.DataFrame | None:
    """Rebuild a DataFrame from a table resource, {"schema": {"fields", "primaryKey"}, "data": [row, ...]}.

    Gives None for what is not one, and where two columns have the same name (their data have overwritten each
    other). A column whose values are not of its declared type has dtype object.
    """
    table = _read_table(resource)
    try:
        return None if table is None else _build(*table)
    except _REFUSALS:
        return None


def _build(fields: list[_Field], rows: _Rows, key: tuple[int, ...], name: str | int | None) -> pandas.DataFrame:
    import pandas

    columns = {n: _column([row[str(field["name"])] for row in rows], field) for n, field in enumerate(fields)}
    frame = pandas.DataFrame(columns, index=range(len(rows)))
    if key:
        frame = frame.set_index(list(key))
        frame.index.names = [_index_name(fields[n]["name"], len(key)) for n in key]
    frame.columns = pandas.Index([field["name"] for n, field in enumerate(fields) if n not in key], name=name)
    return frame


def _read_table(resource: Any) -> _Table | None:
    """Read a resource; None where anything is amiss."""
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
    return None if key is None else (fields, rows, key, about if isinstance(about, str | int) else None)


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


def _index_name(name: Any, levels: int) -> Any:
    """pandas names the nameless so (pandas.io.json._table_schema.set_default_names)."""
    made_up = name == "index" if levels == 1 else isinstance(name, str) and name.startswith("level_")
    return None if made_up else name


def _column(values: list[Any], field: _Field) -> pandas.Series[Any]:
    import pandas

    kind = field.get("type")
    make = _MAKERS.get(kind) if isinstance(kind, str) else None
    try:
        made = make(values, field) if make else None
    except _REFUSALS:
        made = None
    return pandas.Series(values, dtype=object) if made is None else made


def _dtype(field: _Field) -> Any:
    """The dtype that a field names beside its type, where there is such a one."""
    named = field.get("dtype")
    return named if isinstance(named, str) and named in _DTYPES[field["type"]] else None


def _numbers(values: list[Any], field: _Field) -> pandas.Series[Any] | None:
    import pandas

    kind, named = field["type"], field.get("extDtype")
    if kind == "number":
        values = [_INFINITE.get(value, value) if isinstance(value, str) else value for value in values]
    accepted = {"integer": int, "number": int | float, "boolean": bool}[kind]
    present = [value for value in values if value is not None]
    if not all(isinstance(value, accepted) and isinstance(value, bool) == (kind == "boolean") for value in present):
        return None
    if isinstance(named, str) and named in _NULLABLE[kind]:
        return pandas.Series(values, dtype=named)
    if kind == "number":
        return pandas.Series(values, dtype="float64").astype(_dtype(field) or "float64")
    if len(present) < len(values):
        return pandas.Series(values, dtype="Int64" if kind == "integer" else "boolean")
    if kind == "boolean":
        return pandas.Series(values, dtype="bool")
    return pandas.Series(values, dtype=_dtype(field) or ("uint64" if max(values, default=0) >= 2**63 else "int64"))


def _texts(values: list[Any], field: _Field) -> pandas.Series[Any] | None:
    import pandas

    if not all(value is None or isinstance(value, str) for value in values):
        return None
    named = field.get("extDtype")
    if isinstance(named, str) and named in _NULLABLE["string"]:
        return pandas.Series(values, dtype=named)
    if named == "object":
        missing = math.nan if field.get("missing") == "NaN" else None
        return pandas.Series([missing if value is None else value for value in values], dtype=object)
    # pandas 3 infers its str, pandas 2 object; of nothing but None neither can infer anything.
    return pandas.Series([*values, ""]).iloc[:-1]


def _times(values: list[Any], field: _Field) -> pandas.Series[Any] | None:
    import pandas

    if not all(value is None or isinstance(value, str) for value in values):
        return None
    zone, dtype = _zone(field.get("tz")), _dtype(field)
    times = pandas.to_datetime(pandas.Series(values, dtype=object), format="ISO8601", utc=zone is not None)
    if zone is None:
        return times if dtype is None else times.astype(dtype)
    times = times.dt.tz_convert(zone)
    return times if dtype is None else times.dt.as_unit(dtype[len("datetime64[") : -1])


def _zone(name: Any) -> tzinfo | None:
    """Find a time zone by its name, or UTC for one that there is not.

    Only names of the zone database: pandas would take "dateutil/" and the path of any file.
    """
    if not isinstance(name, str):
        return None
    if offset := _OFFSET.fullmatch(name):
        minutes = int(offset[2]) * 60 + int(offset[3])
        return timezone((1 if offset[1] == "+" else -1) * timedelta(minutes=min(minutes, 24 * 60 - 1)))
    try:
        return ZoneInfo(name) if name != "UTC" and _ZONE.fullmatch(name) else UTC
    except (KeyError, ValueError, OSError):
        return UTC


def _durations(values: list[Any], field: _Field) -> pandas.Series[Any] | None:
    import pandas

    if not all(value is None or isinstance(value, str) for value in values):
        return None
    times = pandas.to_timedelta(pandas.Series(values, dtype=object))
    dtype = _dtype(field)
    return times if dtype is None else times.astype(dtype)


def _categories(values: list[Any], field: _Field) -> pandas.Series[Any] | None:
    import pandas

    constraints = field.get("constraints")
    known = constraints.get("enum") if isinstance(constraints, Mapping) else None
    if not isinstance(known, list) or not all(isinstance(item, str | int | float) for item in [*known]):
        return None
    if not set(values) <= {None, *known}:
        return None
    index = pandas.Index(known, dtype=_dtype(field))
    return pandas.Series(pandas.Categorical(values, categories=index, ordered=field.get("ordered") is True))


_MAKERS: dict[str, Callable[[list[Any], _Field], pandas.Series[Any] | None]] = {
    "integer": _numbers,
    "number": _numbers,
    "boolean": _numbers,
    "string": _texts,
    "datetime": _times,
    "duration": _durations,
    "any": _categories,
}
