"""What a chart that comes as data draws, in words, for whoever reads text: Plotly sends none beside its data. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PLOTLY = "application/vnd.plotly.v1+json"
MOST_TRACES, LONGEST_NAME = 20, 80
_MEASURED = ("y", "x", "values", "z", "lat", "r", "locations", "labels")
"""Where a trace has its points, whatever its kind."""
_TYPED = re.compile(r"[iuf]([1248])")


def chart_words(data: Mapping[str, Any]) -> str | None:
    """Return a line about the Plotly figure of a bundle, or None where it holds none."""
    figure = data.get(PLOTLY)
    if not isinstance(figure, Mapping):
        return None
    traces = figure.get("data")
    traces = [trace for trace in traces if isinstance(trace, Mapping)] if isinstance(traces, list) else []
    named = _name(figure.get("layout"), "title")
    drawn = [_trace(trace) for trace in traces[:MOST_TRACES]]
    more = [f"{len(traces) - MOST_TRACES} more"] if len(traces) > MOST_TRACES else []
    return f"[Plotly figure{f' {named!r}' if named else ''}: {', '.join([*drawn, *more]) or 'empty'}]"


def _trace(trace: Mapping[str, Any]) -> str:
    kind, name = _name(trace, "type") or "scatter", _name(trace, "name")
    count = next((count for key in _MEASURED if (count := _length(trace.get(key))) is not None), None)
    points = "" if count is None else f" of {count:,} {'value' if count == 1 else 'values'}"
    return f"{kind}{f' {name!r}' if name else ''}{points}"


def _name(holder: Any, key: str) -> str:
    value = holder.get(key) if isinstance(holder, Mapping) else None
    value = value.get("text") if isinstance(value, Mapping) else value
    return " ".join(value[:LONGEST_NAME].split()) if isinstance(value, str) else ""


def _length(values: Any) -> int | None:
    """Count values: a list, or an array as Plotly writes it (base64, with the type of its items)."""
    if isinstance(values, list):
        return len(values)
    if not isinstance(values, Mapping):
        return None
    kind, text = values.get("dtype"), values.get("bdata")
    typed = _TYPED.fullmatch(kind) if isinstance(kind, str) else None
    if typed is None or not isinstance(text, str):
        return None
    return (len(text) * 3 // 4 - text[-2:].count("=")) // int(typed[1])
