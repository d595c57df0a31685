"""DataFrames rebuilt from the table-schema JSON that pandas displays, and from nothing else.

`Execution.dataframes` calls it, and the doors that write tables of their own; `tables` reads the JSON. A sandbox wrote
the schema: pandas' own reader (read_json, orient="table") looks its dtype names up in pandas' registry and its time
zones in the file system, and raises whatever they lead to. Here the columns are made one by one from types on a list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from kernel_sandbox.session.outputs.tables import INFINITE, Field, TableData, read_table

if TYPE_CHECKING:
    import pandas

_DTYPES = {
    "integer": {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "number": {"float16", "float32", "float64"},
    "boolean": {"bool"},
    "datetime": {f"datetime64[{unit}]" for unit in ("s", "ms", "us", "ns")},
    "duration": {f"timedelta64[{unit}]" for unit in ("s", "ms", "us", "ns")},
    "any": {"object", "str", "string", "int64", "bool"},
}
"""NumPy's own, which the guest names beside the type (inside/table_data.py)."""
_NULLABLE = {
    "integer": {f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "number": {"Float32", "Float64"},
    "boolean": {"boolean"},
    "string": {"string"},
}
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}")
_OFFSET = re.compile(r"UTC([+-])(\d\d):(\d\d)")
# What pandas raises for values that do not have the type that the schema says.
_REFUSALS = (ValueError, TypeError, OverflowError, ArithmeticError, KeyError)


def table_to_dataframe(resource: Any) -> pandas.DataFrame | None:
    """Rebuild a DataFrame from a table resource; None for what is not one.

    A column whose values are not of its declared type has dtype object.
    """
    table = read_table(resource)
    try:
        return None if table is None else _build(table)
    except _REFUSALS:
        return None


def _build(table: TableData) -> pandas.DataFrame:
    import pandas

    columns = {n: _column(table.column(n), field) for n, field in enumerate(table.fields)}
    frame = pandas.DataFrame(columns, index=range(len(table.rows)))
    if table.index:
        frame = frame.set_index(list(table.index))
        frame.index.names = [table.title(n) for n in table.index]
    names = [table.title(n) for n in range(len(table.fields)) if n not in table.index]
    frame.columns = pandas.Index(names, name=table.columns_name)
    return frame


def _column(values: list[Any], field: Field) -> pandas.Series[Any]:
    import pandas

    kind = field.get("type")
    make = _MAKERS.get(kind) if isinstance(kind, str) else None
    try:
        made = make(values, field) if make else None
    except _REFUSALS:
        made = None
    return pandas.Series(values, dtype=object) if made is None else made


def _dtype(field: Field) -> Any:
    """The dtype that a field names beside its type, where there is such a one."""
    named = field.get("dtype")
    return named if isinstance(named, str) and named in _DTYPES[field["type"]] else None


def _numbers(values: list[Any], field: Field) -> pandas.Series[Any] | None:
    import pandas

    kind, named = field["type"], field.get("extDtype")
    if kind == "number":
        values = [INFINITE.get(value, value) if isinstance(value, str) else value for value in values]
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


def _texts(values: list[Any], field: Field) -> pandas.Series[Any] | None:
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


def _times(values: list[Any], field: Field) -> pandas.Series[Any] | None:
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


def _durations(values: list[Any], field: Field) -> pandas.Series[Any] | None:
    import pandas

    if not all(value is None or isinstance(value, str) for value in values):
        return None
    times = pandas.to_timedelta(pandas.Series(values, dtype=object))
    dtype = _dtype(field)
    return times if dtype is None else times.astype(dtype)


def _categories(values: list[Any], field: Field) -> pandas.Series[Any] | None:
    import pandas

    constraints = field.get("constraints")
    known = constraints.get("enum") if isinstance(constraints, Mapping) else None
    if not isinstance(known, list) or not all(isinstance(item, str | int | float) for item in [*known]):
        return None
    if not set(values) <= {None, *known}:
        return None
    index = pandas.Index(known, dtype=_dtype(field))
    return pandas.Series(pandas.Categorical(values, categories=index, ordered=field.get("ordered") is True))


_MAKERS: dict[str, Callable[[list[Any], Field], pandas.Series[Any] | None]] = {
    "integer": _numbers,
    "number": _numbers,
    "boolean": _numbers,
    "string": _texts,
    "datetime": _times,
    "duration": _durations,
    "any": _categories,
}
