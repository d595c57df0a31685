"""Cells of a notebook as the page shows them: texts, pictures and tables as data, never HTML. Pure.

The page puts every text into the document as text, and pictures in as data addresses. What a sandbox calls HTML, SVG
or JavaScript is not among them: of such an output its plain text is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast, get_args

from kernel_sandbox.errors import Kept
from kernel_sandbox.session.outputs import RASTERS, Ran, bundle_text, data_url, fate, picture_of
from kernel_sandbox.session.outputs.dataframes import table_to_dataframe
from kernel_sandbox.session.outputs.tables import TABLE_TYPE, total_rows
from kernel_sandbox.text.ansi import plain_text, remove_ansi
from kernel_sandbox.text.characters import escaped, visible, visible_source
from kernel_sandbox.text.clipping import clip_text

MAX_SOURCE = 20_000
MAX_TEXT = 20_000
"""Bytes of one text."""
MAX_OUTPUTS = 60
MAX_PICTURE = 3_000_000
"""Bytes of one picture."""
MAX_ROWS, MAX_COLUMNS, MAX_VALUE = 20, 20, 200
"""Of a table, and bytes of one value."""


def view_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a cell of a notebook (nbformat 4.5's JSON) for the page."""
    metadata = cell["metadata"]
    outputs = cell.get("outputs", [])
    shown = [view for output in outputs[:MAX_OUTPUTS] if (view := _view_output(output))]
    if len(outputs) > MAX_OUTPUTS:
        shown.append({"text": f"… {len(outputs) - MAX_OUTPUTS:,} more outputs: download the notebook to see them."})
    return {
        "kind": cell["cell_type"],
        "count": cell.get("execution_count"),
        "source": clip_text(_source(cell), MAX_SOURCE),
        **_outcome(metadata.get("kernel_sandbox", {})),
        "seconds": _seconds(metadata.get("execution", {})),
        "outputs": shown,
    }


def _outcome(stored: Mapping[str, str]) -> dict[str, str]:
    """Read how a cell ended, as the transcript stores it; what became of it, where that is not plain."""
    told = {"status": "ok", "ran": "whole", "kept": "all"} | dict(stored)
    cut_off = told["ran"] != "whole" or told["kept"] != "all"
    known = told["ran"] in get_args(Ran) and told["kept"] in get_args(Kept)
    return told | {"fate": fate(cast(Ran, told["ran"]), cast(Kept, told["kept"])) if cut_off and known else ""}


def _view_output(output: Mapping[str, Any]) -> dict[str, Any] | None:
    if output["output_type"] == "stream":
        return {"text": clip_text(plain_text(_text(output["text"]), escaped), MAX_TEXT), "stream": output["name"]}
    if output["output_type"] == "error":
        return {"error": _shown("\n".join(output["traceback"]))}
    data = output["data"]
    if table := _table(data, output["metadata"]):
        return {"table": table}
    picture = picture_of({kind: _text(data[kind]) for kind in RASTERS if kind in data})
    if picture is not None and len(picture.data) <= MAX_PICTURE:
        return {"picture": data_url(picture.kind, picture.data), "about": str(picture)}
    words = {kind: _text(value) if kind.startswith("text/") else value for kind, value in data.items()}
    return {"text": _shown(bundle_text(words))}


def _source(cell: Mapping[str, Any]) -> str:
    """Return a cell's source with all visible that hides something: of code, whatever does not print."""
    source = _text(cell["source"])
    return visible_source(source) if cell["cell_type"] == "code" else visible(source)


def _shown(text: str) -> str:
    return clip_text(visible(remove_ansi(text)), MAX_TEXT)


def _text(value: Any) -> str:
    """Read a text that nbformat may have stored as its lines."""
    return "".join(value) if isinstance(value, list) else str(value)


def _table(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    frame = table_to_dataframe(data.get(TABLE_TYPE))
    if frame is None:
        return None
    rows = total_rows(metadata, len(frame))
    head = frame.iloc[:MAX_ROWS, :MAX_COLUMNS]
    values = [[clip_text(visible(str(value)), MAX_VALUE) for value in row] for row in head.itertuples(index=True)]
    names = [" ".join(str(name) for name in head.index.names if name is not None), *map(str, head.columns)]
    whole = len(head) == rows and len(head.columns) == len(frame.columns)
    note = "" if whole else f"{len(head)} of {rows:,} rows, {len(head.columns)} of {len(frame.columns):,} columns"
    return {"columns": [clip_text(visible(name), MAX_VALUE) for name in names], "rows": values, "note": note}


def _seconds(times: Mapping[str, str]) -> float | None:
    try:
        begun = datetime.fromisoformat(times["iopub.status.busy"])
        return max(0.0, (datetime.fromisoformat(times["shell.execute_reply"]) - begun).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None
