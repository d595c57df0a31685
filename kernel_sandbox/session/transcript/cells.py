"""Cells, and the JSON of a cell exactly as nbformat writes it. Pure.

`notebook` keeps what `cell_bytes` makes. What nbformat 4.5 would refuse is left out here, so that a transcript is valid
without being checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from kernel_sandbox.session.outputs import ErrorOutput, ExecuteResult, Output, StreamOutput, clean_json
from kernel_sandbox.text.lines import LINE_ENDS
from kernel_sandbox.text.utf8 import clean_text

CellKind = Literal["code", "markdown", "raw"]
"""As nbformat has it in `cell_type`."""

TIMES = ("iopub.status.busy", "iopub.execute_input", "shell.execute_reply", "iopub.status.idle")
"""The messages of a cell whose times are kept: what nbclient and JupyterLab record as metadata.execution."""
LONG_TEXT, SHORT_LINE = 4096, 8
"""Characters: a longer text whose lines are shorter than this on average stays whole."""
MAX_LANGUAGE_INFO = 16 * 1024
"""Characters of language_info as JSON; ipykernel's has 260."""

_Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r".+", value) is not None


def _are_tags(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(tag, str) and tag and "," not in tag for tag in value)
        and len(set(value)) == len(value)
    )


# What nbformat 4.5 demands of metadata (nbformat.v4.5.schema.json); all other keys are free.
_CELL_METADATA: dict[str, _Check] = {
    "collapsed": lambda value: isinstance(value, bool),
    "execution": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "format": _is_text,
    "jupyter": lambda value: isinstance(value, dict),
    "name": _is_name,
    "scrolled": lambda value: isinstance(value, bool) or value == "auto",
    "tags": _are_tags,
}
_LANGUAGE_INFO: dict[str, _Check] = {
    "codemirror_mode": lambda value: isinstance(value, str | dict),
    "file_extension": _is_text,
    "mimetype": _is_text,
    "pygments_lexer": _is_text,
}
_NOTEBOOK_METADATA: dict[str, _Check] = {"authors": lambda value: isinstance(value, list), "title": _is_text}
# Marks of trust, which no sandbox and no loaded file may set, and what nbformat itself removes.
_NEVER_STORED = {"trusted", "signature", "orig_nbformat", "orig_nbformat_minor"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell without its outputs: what there is to replay."""

    kind: CellKind
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """As in the notebook: tags, name and the like."""
    attachments: Mapping[str, Any] = field(default_factory=dict)
    """Pictures in markdown: file name to MIME bundle."""

    def is_tagged(self, tag: str) -> bool:
        """Return whether `tag` is among its tags; a notebook's metadata may be anything."""
        tags = self.metadata.get("tags")
        return isinstance(tags, list) and tag in tags


def clean_cell_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of a cell's metadata what nbformat accepts, without marks of trust."""
    return _accepted(metadata, _CELL_METADATA)


def clean_notebook_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Keep of a notebook's metadata what nbformat accepts, without marks of trust and signatures."""
    clean = _accepted(metadata, _NOTEBOOK_METADATA)
    kernel = {
        "kernelspec": clean_kernelspec(clean.pop("kernelspec", None)),
        "language_info": clean_language_info(clean.pop("language_info", None)),
    }
    return clean | {key: value for key, value in kernel.items() if value}


def without_trust(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Keep all of a loaded file's metadata but marks of trust."""
    return {key: value for key, value in metadata.items() if key not in _NEVER_STORED}


def clean_kernelspec(kernelspec: Any) -> dict[str, Any]:
    """Keep a kernelspec whose name, display_name and language are names; empty where it has no name."""
    spec = clean_json(kernelspec) if isinstance(kernelspec, Mapping) else {}
    names = ("name", "display_name", "language")
    kept = {key: value for key, value in spec.items() if key not in names or _is_name(value)}
    return {"display_name": kept["name"]} | kept if "name" in kept else {}


def clean_language_info(language_info: Any) -> dict[str, Any]:
    """Keep the language_info of a kernel_info_reply as it is; empty where it has no name or is overlong."""
    info = _accepted(language_info, _LANGUAGE_INFO) if isinstance(language_info, Mapping) else {}
    return info if _is_name(info.get("name")) and len(json.dumps(info)) <= MAX_LANGUAGE_INFO else {}


def _accepted(metadata: Mapping[str, Any], checks: Mapping[str, _Check]) -> dict[str, Any]:
    clean: dict[str, Any] = clean_json(metadata)
    return {k: v for k, v in clean.items() if k not in _NEVER_STORED and (k not in checks or checks[k](v))}


def clean_times(times: Mapping[str, datetime | str]) -> dict[str, str]:
    """Write the times of a cell's messages as nbclient does; a naive datetime is UTC. Other keys are left out."""
    return {key: text for key in TIMES if key in times and (text := _time_text(times[key]))}


def _time_text(time: Any) -> str:
    if isinstance(time, str):
        return clean_text(time)[:64]
    if not isinstance(time, datetime):
        return ""
    try:
        utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (OverflowError, ValueError):  # year 1 or 9999, and an offset that leaves the calendar
        return ""
    return utc.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def output_json(output: Output) -> dict[str, Any]:
    """Write an output as nbformat has it. Its display_id is transient, and not stored."""
    if isinstance(output, StreamOutput):
        return {"name": output.name, "output_type": "stream", "text": output.text}
    if isinstance(output, ErrorOutput):
        texts = {"ename": output.ename, "evalue": output.evalue, "traceback": list(output.traceback)}
        return {"output_type": "error"} | texts
    shown = {"data": dict(output.data), "metadata": dict(output.metadata), "output_type": output.output_type}
    return shown | {"execution_count": output.execution_count} if isinstance(output, ExecuteResult) else shown


def cell_bytes(cell: Mapping[str, Any]) -> bytes:
    """Write a cell, its texts joined, as the lines that it has in a file: split, sorted, indented by two."""
    return json_text(_split_cell(cell), level=2).encode("utf-8", "replace")


def json_text(value: Any, *, level: int = 0) -> str:
    """Write JSON as nbformat's writer does (nbformat.v4.nbjson), for a place `level` levels deep."""
    try:
        text = _dump(value)
    except (ValueError, TypeError):  # an output that no collector made, with a NaN or a bytes in it
        text = _dump(clean_json(value))
    # A line end within a text is written as \n, so these are all the encoder's own.
    return text.replace("\n", "\n" + " " * level)


def _dump(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, separators=(",", ": "), ensure_ascii=False, allow_nan=False)


def _split_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Make lists of lines of the texts that nbformat splits (nbformat.v4.rwbase.split_lines)."""
    split = dict(cell, source=_lines(cell["source"]))
    if "attachments" in cell:
        split["attachments"] = {name: _split_bundle(bundle) for name, bundle in cell["attachments"].items()}
    if "outputs" in cell:
        split["outputs"] = [_split_output(output) for output in cell["outputs"]]
    return split


def _lines(text: str) -> list[str] | str:
    """Split a text, but not a long one of nothing but ends of lines: each would take ten bytes more in the file.

    nbformat's schema takes both (multiline_string).
    """
    if len(text) > LONG_TEXT and sum(map(text.count, LINE_ENDS)) * SHORT_LINE > len(text):
        return text
    return text.splitlines(keepends=True)


def _split_output(output: Mapping[str, Any]) -> Mapping[str, Any]:
    if output["output_type"] == "stream":
        return dict(output, text=_lines(output["text"]))
    return dict(output, data=_split_bundle(output["data"])) if "data" in output else output


def _split_bundle(bundle: Mapping[str, Any]) -> dict[str, Any]:
    return {
        kind: _lines(value) if isinstance(value, str) and _is_split(kind) else value for kind, value in bundle.items()
    }


def _is_split(kind: str) -> bool:
    return kind.startswith("text/") or kind in ("application/javascript", "image/svg+xml")
