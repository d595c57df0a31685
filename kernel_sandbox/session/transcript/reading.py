"""Notebooks through nbformat: read, upgraded, checked. The only module that imports it.

It is imported in the functions that need it: `import nbformat` takes up to 1.3 s where jupyter_server is installed
(jsonschema's format checkers compile a grammar), and a session that only writes needs none of it.
"""

from __future__ import annotations

import json
import re
import secrets
import stat
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import TranscriptError
from kernel_sandbox.session.outputs import clean_json
from kernel_sandbox.session.outputs.content import MAX_DEPTH
from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.clipping import shorten

MAX_FILE_SIZE = 100 * 1024 * 1024
"""Bytes of a notebook that is read."""

_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SAVE_AGAIN = "open it in Jupyter and save it again"


def read_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook of version 3 or 4 as one of 4, its multi-line texts joined; from 4.5, every cell with an id.

    Raises TranscriptError, which names the file and says what is wrong with it.
    """
    text = _read_text(path)
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise TranscriptError(f"{str(path)!r} is not a notebook: it is not JSON ({exc}).") from exc
    except RecursionError as exc:
        raise TranscriptError(f"{str(path)!r} is not a notebook: its JSON nests too deeply.") from exc
    if not isinstance(document, dict) or not isinstance(document.get("cells", document.get("worksheets")), list):
        raise TranscriptError(f"{str(path)!r} is not a notebook: it is JSON, but it has no cells.")
    # A notebook nests its values about eight levels deeper than an output does.
    return _checked(path, clean_json(document, depth=MAX_DEPTH + 8))


def _read_text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise TranscriptError(f"{str(path)!r} is not a file: give the path of a notebook.")
        if status.st_size > MAX_FILE_SIZE:
            size, limit = format_size(status.st_size), format_size(MAX_FILE_SIZE)
            raise TranscriptError(f"{str(path)!r} is too large ({size}, limit {limit}): clear some of its outputs.")
        with path.open("rb") as file:
            return file.read(MAX_FILE_SIZE).decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise TranscriptError(f"{str(path)!r} is not a notebook: it is not UTF-8 ({exc.reason}).") from exc
    except (OSError, ValueError) as exc:
        raise TranscriptError(f"{str(path)!r} cannot be read ({getattr(exc, 'strerror', None) or exc}).") from exc


def _checked(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    import nbformat

    version = document.get("nbformat")
    if version not in (3, 4):
        raise TranscriptError(f"{str(path)!r} has notebook format {version!r}, not 3 or 4: {_SAVE_AGAIN}.")
    try:
        return _upgraded(document, version)
    except nbformat.ValidationError as exc:
        raise TranscriptError(f"{str(path)!r} is not a valid notebook ({_first_line(exc.message)}).") from exc
    except (AttributeError, KeyError, TypeError, ValueError, AssertionError, RecursionError) as exc:
        # nbformat's own steps take some of the shape for granted that they are to check.
        raise TranscriptError(f"{str(path)!r} is not a valid notebook ({_first_line(str(exc))}).") from exc


def _upgraded(document: dict[str, Any], version: int) -> dict[str, Any]:
    import nbformat

    if version == 3:
        minor = document.get("nbformat_minor", 0)
        nbformat.validate(document, version=3, version_minor=minor)
        joined = nbformat.versions[3].to_notebook_json(document, minor=minor)
        document = nbformat.convert(joined, 4)  # type: ignore[no-untyped-call]
    if "metadata" not in document:
        raise ValueError("'metadata' is a required property")
    minor = document.get("nbformat_minor")
    minor = minor if type(minor) is int else 5
    upgraded: dict[str, Any] = nbformat.versions[4].to_notebook_json(document, minor=minor)
    _mend(upgraded)
    # Ids came with 4.5; a file that has some is one, whatever it says.
    if minor >= 5 or any("id" in cell for cell in upgraded["cells"]):
        upgraded["nbformat_minor"] = max(minor, 5)
        _give_ids(upgraded["cells"])
    else:
        upgraded["nbformat_minor"] = minor
    return upgraded


def _mend(notebook: dict[str, Any]) -> None:
    """Give a notebook the shape that all here relies on. Raises ValueError where that cannot be.

    nbformat reads what its schema refuses, and only logs that; so what is more than the shape stays as it is.
    """
    metadata = _require(notebook, "metadata", dict)
    for key in ("kernelspec", "language_info"):
        if not isinstance(metadata.get(key, {}), dict):
            del metadata[key]
    if "name" in (kernelspec := metadata.get("kernelspec", {})):
        kernelspec.setdefault("display_name", kernelspec["name"])
    for cell in notebook["cells"]:
        _mend_cell(cell)


def _mend_cell(cell: dict[str, Any]) -> None:
    if cell.get("cell_type") == "heading":  # of version 3
        level = min(max(int(cell.pop("level", 1)), 1), 6)
        cell |= {"cell_type": "markdown", "source": f"{'#' * level} {cell['source']}"}
    if cell.get("cell_type") not in ("code", "markdown", "raw"):
        raise ValueError(f"a cell has the type {cell.get('cell_type')!r}")
    _require(cell, "source", str)
    _require(cell, "metadata", dict)
    attachments = _require(cell, "attachments", dict) if "attachments" in cell else {}
    if not all(isinstance(bundle, dict) for bundle in attachments.values()):
        raise ValueError("an attachment is no MIME bundle")
    if cell["cell_type"] == "code":
        cell.setdefault("execution_count", None)
        cell["outputs"] = [output for output in cell.get("outputs") or [] if _is_output(output)]


def _is_output(output: Any) -> bool:
    """Fill in what an output lacks. False for what is none: nothing shows it."""
    parts = _OUTPUTS.get(output["output_type"]) if isinstance(output, dict) and "output_type" in output else None
    if parts is None:
        return False
    for key, default in parts.items():
        if not isinstance(output.get(key), type(default)):
            output[key] = type(default)(default)
    return True


_BUNDLE: dict[str, Any] = {"data": {}, "metadata": {}}
_OUTPUTS: dict[str, dict[str, Any]] = {
    "stream": {"name": "stdout", "text": ""},
    "display_data": _BUNDLE,
    "execute_result": _BUNDLE,
    "error": {"ename": "", "evalue": "", "traceback": []},
}


def _require(value: dict[str, Any], key: str, kind: type) -> Any:
    if not isinstance(value.get(key), kind):
        raise ValueError(f"{key!r} is {'missing' if key not in value else 'of another type'}")
    return value[key]


def _give_ids(cells: list[Any]) -> None:
    """nbformat would repair missing and repeated ids too, with a warning for each."""
    seen: set[str] = set()
    for cell in cells:
        known = cell.get("id")
        if not isinstance(known, str) or not _CELL_ID.fullmatch(known) or known in seen:
            cell["id"] = new_cell_id(seen)
        seen.add(cell["id"])


def new_cell_id(taken: set[str]) -> str:
    """Make a cell id of 8 hexadecimal digits that is not taken."""
    while (made := secrets.token_hex(4)) in taken:
        pass
    return made


def _first_line(message: str) -> str:
    return shorten(message.strip().split("\n")[0], 200)


def parse_notebook(text: str) -> Any:
    """Make nbformat's own NotebookNode of a notebook 4.5 that was written here."""
    import nbformat

    return nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]


def check_notebook(text: str) -> None:
    """Raise TranscriptError where nbformat finds a notebook invalid."""
    import nbformat

    try:
        nbformat.validate(json.loads(text))
    except nbformat.ValidationError as exc:
        raise TranscriptError(f"The transcript is not a valid notebook ({_first_line(exc.message)}).") from exc
