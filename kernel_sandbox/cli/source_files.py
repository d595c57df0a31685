"""Scripts and notebooks in, cells out: what `run` is to replay. Everything wrong is found before a sandbox starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kernel_sandbox.transcript import Cell, Transcript, split_percent_script

EXPECTED = "raises-exception"
"""The tag of a cell that may fail, as nbclient has it."""


def read_cells(path: Path) -> Sequence[Cell]:
    """Read the cells of a percent script or a notebook.

    Raises click.UsageError for what is neither, and TranscriptError for a notebook that is none.
    """
    if path.suffix == ".ipynb":
        transcript = Transcript.load(path)
        _require_python(path, transcript.metadata)
        cells: Sequence[Cell] = transcript.cells
    elif path.suffix == ".py":
        cells = split_percent_script(_read_script(path))
    else:
        raise click.UsageError(f"{path} is neither a script (.py) nor a notebook (.ipynb).")
    if not any(cell.kind == "code" and cell.source.strip() for cell in cells):
        raise click.UsageError(f"{path} has no code to run.")
    return cells


def may_fail(cell: Cell) -> bool:
    """Whether a cell is tagged as one that is meant to fail."""
    tags = cell.metadata.get("tags")
    return isinstance(tags, list) and EXPECTED in tags


def _read_script(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as exc:
        raise click.UsageError(f"{path} cannot be read: {exc.strerror or exc}.") from exc
    except UnicodeDecodeError as exc:
        line = path.read_bytes()[: exc.start].count(b"\n") + 1
        raise click.UsageError(f"{path} is not UTF-8 (line {line}): save it in that encoding.") from exc


def _require_python(path: Path, metadata: Mapping[str, Any]) -> None:
    kernel, language = metadata.get("kernelspec", {}), metadata.get("language_info", {})
    name = kernel.get("language") or language.get("name") or "python"
    if str(name).lower() not in ("python", "ipython", "python3"):
        raise click.UsageError(f"{path} is written in {name}: sandboxes run Python.")
