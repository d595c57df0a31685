"""Files, listings and notebooks as answers of tool calls. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from kernel_sandbox.agents.listings import shown_name
from kernel_sandbox.doors.mcp.cell_answers import MAX_PICTURE, MAX_PIXELS
from kernel_sandbox.doors.mcp.contract import CallRefused
from kernel_sandbox.doors.mcp.definitions import MAX_READ
from kernel_sandbox.doors.mcp.tool_results import CallResult, FilePart, Part, PicturePart, TextPart, quoted
from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.session.outputs.pictures import read_picture
from kernel_sandbox.show.model_text import ReadingLimits, clip
from kernel_sandbox.spec.values import DATA_DIRECTORY
from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.characters import visible

MAX_LISTED = 500
TEXT_LIMITS = ReadingLimits(line=5_000, total=50_000)
"""Of a file that is read, in characters."""
BINARY = "application/octet-stream"
NOTEBOOK = "application/x-ipynb+json"
READ_THE_REST = "read a part of the file with a cell"


def listing_answer(files: Sequence[FileInfo]) -> CallResult:
    """Name the files, without directories."""
    found = [info for info in files if info.kind == "file"]
    listed = [
        {
            "path": f"{DATA_DIRECTORY}/{shown_name(info.name)}",
            "kind": info.kind,
            "size": info.size,
            "modified_at": info.modified_at.isoformat(timespec="seconds"),
        }
        for info in found[:MAX_LISTED]
    ]
    lines = [f"{file['path']}\t{file['size']} bytes" for file in listed]
    head = f"{len(found)} file{'' if len(found) == 1 else 's'} under {DATA_DIRECTORY}"
    head += f", the first {MAX_LISTED} of them:" if len(found) > MAX_LISTED else ":" if found else "."
    text = "\n".join([head, quoted("\n".join(lines))]) if lines else head
    return CallResult((TextPart(text),), {"status": "ok", "files": listed, "total": len(found)})


def file_answer(name: str, content: bytes) -> CallResult:
    """Give a file: as text, as a picture, or as bytes. Its size is bounded by who read it."""
    path = f"{DATA_DIRECTORY}/{shown_name(name)}"
    data = {"status": "ok", "path": path, "size": len(content)}
    head = f"{path}, {format_size(len(content))}"
    if part := _picture(content):
        return CallResult((TextPart(f"{head}: {part.kind}."), part), data | {"media_type": part.kind})
    text = _text(content)
    if text is None:
        kind = "application/pdf" if content.startswith(b"%PDF-") else BINARY
        resource: Part = FilePart(path, kind, content)
        return CallResult(
            (TextPart(f"{head}: no text, so it comes as a resource."), resource), data | {"media_type": kind}
        )
    shown = clip(visible(text), TEXT_LIMITS, rest=READ_THE_REST)
    told = {"media_type": "text/plain", "text": shown, "truncated": len(shown) < len(text)}
    return CallResult((TextPart(f"{head}:\n{quoted(shown)}"),), data | told)


def _picture(content: bytes) -> PicturePart | None:
    """Find out by its bytes whether a file is a picture that can be shown."""
    if len(content) > MAX_PICTURE:
        return None
    picture = read_picture(content)
    if picture is None or not 0 < picture.width * picture.height <= MAX_PIXELS:
        return None
    return PicturePart(picture.kind, content)


def _text(content: bytes) -> str | None:
    """Read a file as text; None where it is none."""
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


def notebook_answer(notebook: bytes) -> CallResult:
    """Embed a notebook; without outputs, where it is too large with them. Raises CallRefused where it still is."""
    content = json.loads(notebook)
    text = json.dumps(content, separators=(",", ":"))  # ASCII: what a sandbox wrote cannot hide or reorder anything
    left_out = len(text) > MAX_READ
    if left_out:
        for cell in content["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = []
        text = json.dumps(content, separators=(",", ":"))
    if len(text) > MAX_READ:
        raise CallRefused(f"The notebook has {format_size(len(text))} even without outputs: too large to embed.")
    cells = len(content["cells"])
    said = f"The notebook, of {cells} cell{'' if cells == 1 else 's'}, follows as a resource"
    said += ", without outputs: with them it is too large to embed." if left_out else "."
    data = {"status": "ok", "cells": cells, "outputs_left_out": left_out}
    return CallResult((TextPart(said), FilePart("/notebook.ipynb", NOTEBOOK, text)), data)
