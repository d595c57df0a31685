"""DataFrames of a sandbox as HTML of our own, made from the data that travels beside theirs. Pure but for pandas' work.

`outputs.tables` rebuilds the frame from JSON, and pandas writes it with every cell escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from kernel_sandbox.outputs.tables import TABLE_TYPE, table_to_dataframe

MAX_ROWS = 60
HEAD = 10
"""Rows shown of a table that is longer than MAX_ROWS; pandas shows as many, but we may not have the last ones."""
MAX_COLUMNS = 20
MAX_WIDTH = 200
"""Characters of one cell."""


def table_html(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """Write the table of a MIME bundle as HTML; None where it has none that can be read."""
    frame = table_to_dataframe(data.get(TABLE_TYPE))
    if frame is None:
        return None
    about = metadata.get(TABLE_TYPE)
    rows = about.get("rows") if isinstance(about, Mapping) else None
    rows = rows if isinstance(rows, int) and len(frame) <= rows < 10**15 else len(frame)
    shown = frame if rows <= MAX_ROWS else frame.head(HEAD)
    try:
        html = shown.to_html(max_rows=MAX_ROWS, max_cols=MAX_COLUMNS, escape=True)
    except Exception:  # noqa: BLE001 (pandas formats hostile values here; text remains)
        return None
    if rows > MAX_ROWS:
        below = f"{HEAD} of {rows:,} rows × {len(frame.columns):,} columns"
    elif len(frame.columns) > MAX_COLUMNS:
        below = f"{rows:,} rows × {len(frame.columns):,} columns"
    else:
        return f"<div>{html}</div>"
    return f"<div>{html}<p>{escape(below)}</p></div>"
