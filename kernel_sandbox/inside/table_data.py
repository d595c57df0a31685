"""DataFrames as data beside their text and HTML: Table Schema JSON that says every value exactly, or none at all.

`kernel` registers it in a session's kernel. The shape is that of pandas' own (`to_json(orient="table")`), which is not
used: it rounds floats, cuts times, and writes periods, infinities and decimals as something else. A column whose values
JSON cannot give back as they are leaves its table out; text and HTML remain, and `session.get` brings it.

https://specs.frictionlessdata.io/table-schema/ (INF and -INF are its own words for the infinities)
"""

from __future__ import annotations

import math
from typing import Any

DATA_RESOURCE = "application/vnd.dataresource+json"
TABLE_CELLS = 20_000
"""Rows times columns that travel as data, whatever `table_rows` says."""
TABLE_TEXT = 1_000_000
"""Characters of all texts of a table; rows beyond them do not travel."""


def send_tables(shell: Any, rows: int) -> None:
    """Send of every displayed DataFrame up to so many rows as data, with how many there are."""
    from IPython.core.formatters import BaseFormatter
    from traitlets import ObjectName, Unicode

    class TableFormatter(BaseFormatter):
        format_type = Unicode(DATA_RESOURCE)
        print_method = ObjectName("_repr_data_resource_")
        _return_type = (dict,)

    def table(frame: Any) -> Any:
        try:
            return describe(frame, rows)
        except Exception:  # noqa: BLE001 - values of the user's own classes raise what they like; text and HTML remain
            return None

    formatter: Any = TableFormatter(parent=shell.display_formatter)
    for module in ("pandas", "pandas.core.frame"):  # pandas 3 and earlier
        formatter.for_type_by_name(module, "DataFrame", table)
    shell.display_formatter.formatters[DATA_RESOURCE] = formatter


def describe(frame: Any, rows: int) -> Any:
    """Write a DataFrame's first rows as a resource, and how many there are; None where that cannot be said exactly."""
    count = max(1, min(rows, len(frame), TABLE_CELLS // max(1, len(frame.columns) + frame.index.nlevels)))
    while (resource := _resource(frame.head(count))) is not None:
        if count == 1 or sum(map(_characters, resource["data"])) <= TABLE_TEXT:
            return resource, {"rows": len(frame), "truncated": len(frame) > count}
        count //= 2
    return None


def _characters(row: dict[str, Any]) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str))


def _resource(frame: Any) -> dict[str, Any] | None:
    levels = frame.index.nlevels
    keys = ["index"] if levels == 1 else [f"level_{n}" for n in range(levels)]
    names = [key if name is None else name for key, name in zip(keys, frame.index.names)]
    if any(name in keys for name in frame.index.names) or frame.columns.nlevels > 1:
        return None  # a name that stands for having none
    series = [frame.index.get_level_values(n).to_series() for n in range(levels)]
    series += [frame.iloc[:, place] for place in range(len(frame.columns))]
    names += list(frame.columns)
    about = [] if frame.columns.name is None else [frame.columns.name]
    if not all(type(name) in (str, int) and _is_text([name]) for name in names + about):
        return None
    if len(set(map(str, names))) < len(names):
        return None
    columns = [_column(one) for one in series]
    if None in columns:
        return None
    fields = [{"name": name, **column[0]} for name, column in zip(names, columns)]
    schema = {"fields": fields, "primaryKey": names[:levels]}
    texts = [str(name) for name in names]
    data = [dict(zip(texts, row)) for row in zip(*(values for _, values in columns))]
    return {"schema": schema | ({"columnsName": about[0]} if about else {}), "data": data}


def _column(series: Any) -> Any:
    """Write a column: its field without the name, and its values; None for one that JSON cannot say."""
    import pandas

    dtype = series.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        return _categories(series)
    if isinstance(dtype, pandas.DatetimeTZDtype):
        zone = str(dtype.tz)
        return {"type": "datetime", "tz": zone, "dtype": f"datetime64[{dtype.unit}]"}, _present(series, _iso)
    if isinstance(dtype, pandas.StringDtype):
        texts = _present(series)
        name = "string" if dtype.na_value is pandas.NA else "str"
        return ({"type": "string", "extDtype": name}, texts) if _is_text(texts) else None
    name = str(dtype)
    if name in _NULLABLE:
        values = _present(series)
        return ({"type": _NULLABLE[name], "extDtype": name}, values) if all(map(_is_finite, values)) else None
    if name in _PLAIN:
        return {"type": _PLAIN[name], "dtype": name}, [_plain(value) for value in series.tolist()]
    if name.startswith("datetime64[") or name.startswith("timedelta64["):
        return {"type": "datetime" if name.startswith("d") else "duration", "dtype": name}, _present(series, _iso)
    return _objects(series.tolist()) if name == "object" else None


def _present(series: Any, write: Any = lambda value: value) -> list[Any]:
    """Write every value but the missing ones, which are None."""
    return [None if missing else write(value) for value, missing in zip(series.tolist(), series.isna().tolist())]


def _iso(time: Any) -> str:
    return str(time.isoformat())


_WHOLE = {f"{sign}int{bits}": "integer" for sign in ("", "u") for bits in (8, 16, 32, 64)}
_PLAIN = _WHOLE | {"bool": "boolean", "float16": "number", "float32": "number", "float64": "number"}
_NULLABLE = {name.replace("i", "I", 1).replace("u", "U"): kind for name, kind in _WHOLE.items()}
_NULLABLE |= {"Float32": "number", "Float64": "number", "boolean": "boolean"}


def _plain(value: Any) -> Any:
    """Write a number: None for NaN, Table Schema's words for the infinities."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else "INF" if value > 0 else "-INF"


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _objects(values: list[Any]) -> Any:
    """Write a column of Python's own plain values; its missing ones must all be of one kind."""
    kinds = {type(value) for value in values}
    nan = [value for value in values if type(value) is float and math.isnan(value)]
    if nan and type(None) not in kinds and kinds <= {str, float} and len(nan) == sum(type(v) is float for v in values):
        texts = [value if type(value) is str else None for value in values]
        return ({"type": "string", "extDtype": "object", "missing": "NaN"}, texts) if _is_text(texts) else None
    if not kinds <= {str, int, float, bool, type(None)} or not all(map(_is_finite, values)) or not _is_text(values):
        return None
    return {"type": "string" if kinds <= {str, type(None)} else "any", "extDtype": "object"}, values


def _categories(series: Any) -> Any:
    described = _column(series.cat.categories.to_series())
    if described is None or described[0].get("dtype", "int64") not in ("int64", "bool"):
        return None
    field, known = described
    if field.get("type") not in ("string", "integer", "boolean") or None in known:
        return None
    values = [None if code < 0 else known[code] for code in series.cat.codes]
    kind = field.get("extDtype") or field["dtype"]
    constraints = {"enum": known}
    return {"type": "any", "constraints": constraints, "ordered": bool(series.cat.ordered), "dtype": kind}, values


def _is_text(values: list[Any]) -> bool:
    """Whether UTF-8 can write every text."""
    try:
        "".join([value for value in values if isinstance(value, str)]).encode()
    except UnicodeEncodeError:
        return False
    return True
