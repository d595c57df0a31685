"""DataFrames of a sandbox as HTML of our own, made from the data that travels beside theirs. Pure but for pandas' work.

`outputs.tables` rebuilds the frame from JSON, and pandas writes it with every cell escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from kernel_sandbox.session.outputs.dataframes import table_to_dataframe
from kernel_sandbox.session.outputs.tables import TABLE_TYPE, total_rows
from kernel_sandbox.text.characters import visible

MAX_ROWS = 60
HEAD = 10
"""Rows shown of a longer table, or of one whose last rows did not come; pandas shows as many of both ends."""
MAX_COLUMNS = 20
MAX_WIDTH = 200
"""Characters of one cell."""


def table_html(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """Write the table of a MIME bundle as HTML; None where it has none that can be read."""
    frame = table_to_dataframe(data.get(TABLE_TYPE))
    if frame is None:
        return None
    rows = total_rows(metadata, len(frame))
    shown = frame if rows == len(frame) <= MAX_ROWS else frame.head(HEAD)
    try:
        html = visible(shown.to_html(max_rows=MAX_ROWS, max_cols=MAX_COLUMNS, escape=True))
    except Exception:  # noqa: BLE001 (pandas formats hostile values here; text remains)
        return None
    if rows > len(shown):
        below = f"{len(shown)} of {rows:,} rows × {len(frame.columns):,} columns"
    elif len(frame.columns) > MAX_COLUMNS:
        below = f"{rows:,} rows × {len(frame.columns):,} columns"
    else:
        return f"<div>{html}</div>"
    return f"<div>{html}<p>{escape(below)}</p></div>"
