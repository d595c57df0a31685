"""A notebook reduced to what may be seen by others: sources, and outputs within caps. Pure.

Every format begins here. What comes out has no metadata but a title, a language and the tags that say how cells are
run; no attachment that is not a picture; and outputs as the collector would have made them.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from kernel_sandbox.errors import TranscriptError
from kernel_sandbox.session.outputs import (
    PICTURE_SUFFIXES,
    DisplayData,
    ExecuteResult,
    Output,
    StreamOutput,
    picture_of,
)
from kernel_sandbox.session.outputs.content import clean_bundle, clean_count, clean_error
from kernel_sandbox.session.transcript import Cell, Transcript
from kernel_sandbox.text.ansi import clean_terminal_text
from kernel_sandbox.text.characters import visible
from kernel_sandbox.text.clipping import clip_text
from kernel_sandbox.text.lines import last_states
from kernel_sandbox.text.utf8 import clean_text

MAX_CELLS = 10_000
MAX_TEXT = 1024 * 1024
"""Bytes of one text of an output; its head and tail stay."""
MAX_BUNDLE = 100 * 1024 * 1024
"""Bytes of a MIME bundle: as much as a notebook has."""
MAX_TITLE = 200
"""Characters."""

TAGS = ("parameters", "raises-exception", "skip-execution")
"""What a script's cells need to run as the notebook's do."""
CLIPPED = frozenset({"text/plain", "text/latex", "text/markdown"})
SHOWN = frozenset({"text/html", *CLIPPED, *PICTURE_SUFFIXES})
"""The media types that a format may show; no other passes, whatever it is called."""

_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9+#.-]{0,31}")
_ALSO_PYTHON = {"ipython", "python2", "python3"}
# The parts of an output's metadata that a picture's place is made of.
_SIDES = ("width", "height")


def scrub(source: Transcript, name: str) -> Transcript:
    """Copy a transcript without what tells of its machine. `name` is its title where it has none of its own.

    Raises TranscriptError where it has more than 10 000 cells.
    """
    notebook = source.notebook
    if len(notebook["cells"]) > MAX_CELLS:
        raise TranscriptError(f"The notebook has {len(notebook['cells'])} cells, limit {MAX_CELLS}: split it.")
    metadata = notebook["metadata"]
    scrubbed = Transcript(metadata={"title": _title(metadata.get("title")) or _title(name) or "Notebook"})
    scrubbed.set_kernel({}, {"name": _language(metadata)})
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count = clean_count(cell.get("execution_count"))
            kept = _tags(cell["metadata"])
            scrubbed.add_code_cell(cell["source"], _outputs(cell["outputs"]), execution_count=count, metadata=kept)
        else:
            attachments = _pictures(cell.get("attachments", {}))
            scrubbed.add_cell(Cell(cell["cell_type"], cell["source"], attachments=attachments))
    return scrubbed


def _tags(metadata: Mapping[str, Any]) -> dict[str, Any]:
    cell = Cell("code", "", metadata)
    tags = [tag for tag in TAGS if cell.is_tagged(tag)]
    return {"tags": tags} if tags else {}


def _title(value: Any) -> str:
    return visible(" ".join(clean_text(value).split()))[:MAX_TITLE] if isinstance(value, str) else ""


def _language(metadata: Mapping[str, Any]) -> str:
    kernel, info = metadata.get("kernelspec", {}), metadata.get("language_info", {})
    name = info.get("name") or kernel.get("language") or "python"
    if not isinstance(name, str) or not _LANGUAGE.fullmatch(name):
        return "text"
    return "python" if name.lower() in _ALSO_PYTHON else name.lower()


def _pictures(attachments: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Keep the attachments that are pictures, as base64 under the type that they are of."""
    found = ((name, picture_of(_decoded_svg(bundle))) for name, bundle in attachments.items())
    return {name: {picture.kind: base64.b64encode(picture.data).decode()} for name, picture in found if picture}


def _decoded_svg(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """Jupyter attaches even SVG as base64."""
    decoded = dict(bundle)
    with contextlib.suppress(KeyError, TypeError, ValueError):
        decoded["image/svg+xml"] = base64.b64decode(bundle["image/svg+xml"], validate=True).decode()
    return decoded


def _outputs(outputs: Iterable[Mapping[str, Any]]) -> list[Output]:
    """Make the collector's values of a cell's outputs; streams that follow one another are one."""
    made: list[Output] = []
    for output in outputs:
        one = _output(output)
        if isinstance(one, StreamOutput) and made and isinstance(made[-1], StreamOutput) and made[-1].name == one.name:
            one = StreamOutput(one.name, made.pop().text + one.text)  # type: ignore[union-attr]
        made.append(one)
    return [_shortened(output) for output in made]


def _output(output: Mapping[str, Any]) -> Output:
    kind = output["output_type"]
    if kind == "stream":
        return StreamOutput("stderr" if output["name"] == "stderr" else "stdout", clean_text(output["text"]))
    if kind == "error":
        error = clean_error(output)
        error = replace(error, traceback=tuple(map(clean_terminal_text, error.traceback)))
        return error if error.traceback else replace(error, traceback=(visible(f"{error.ename}: {error.evalue}"),))
    bundle = clean_bundle(output["data"], _sides(output["metadata"]), MAX_BUNDLE)
    data = {kind: _clipped(kind, value) for kind, value in bundle.data.items() if kind in SHOWN}
    scripted = {"application/javascript", "text/javascript"} & set(bundle.types)
    if "text/plain" not in output["data"] or scripted:
        named = [kind for kind in bundle.types if kind != "text/plain"][:3]
        data["text/plain"] = f"[{', '.join(named)}: left out]"
    if kind == "execute_result":
        return ExecuteResult(data, bundle.metadata, clean_count(output.get("execution_count")))
    return DisplayData(data, bundle.metadata)


def _clipped(kind: str, value: str) -> str:
    if kind not in CLIPPED:
        return value
    return clip_text(clean_terminal_text(value) if kind == "text/plain" else visible(value), MAX_TEXT)


def _sides(metadata: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Keep the width and height (pixels, whole and below 10 000) that a picture is to be shown in."""
    kept: dict[str, dict[str, int]] = {}
    for kind, details in metadata.items():
        if isinstance(details, Mapping):
            sides = {side: details[side] for side in _SIDES if _is_side(details.get(side))}
            kept |= {kind: sides} if sides else {}
    return kept


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value < 10_000


def _shortened(output: Output) -> Output:
    if isinstance(output, StreamOutput):
        return StreamOutput(output.name, clip_text(clean_terminal_text(last_states(output.text)), MAX_TEXT))
    return output
