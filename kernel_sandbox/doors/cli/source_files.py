"""Scripts and notebooks in, cells out: what `run` is to replay. Everything wrong is found before a sandbox starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kernel_sandbox.session.transcript import Cell, Transcript, split_percent_script

EXPECTED, SKIPPED = "raises-exception", "skip-execution"
"""The tags of a cell that may fail, and of one that is not run, as nbclient has them."""


def read_source(path: Path) -> Transcript:
    """Read a percent script or a notebook as one whose cells that will run have not run.

    Raises click.UsageError for what is neither, and TranscriptError for a notebook that is none.
    """
    if path.suffix == ".ipynb":
        transcript = Transcript.load(path)
        _require_python(path, transcript.metadata)
    elif path.suffix == ".py":
        transcript = Transcript()
        for cell in split_percent_script(_read_script(path)):
            transcript.add_cell(cell)
    else:
        raise click.UsageError(f"{path} is neither a script (.py) nor a notebook (.ipynb).")
    for position, cell in enumerate(transcript.cells):
        if is_run(cell):
            transcript.clear(position)
    return transcript


def is_run(cell: Cell) -> bool:
    """Return whether a run runs a cell: code that is not blank and not tagged to be skipped."""
    return cell.kind == "code" and bool(cell.source.strip()) and not cell.is_tagged(SKIPPED)


def may_fail(cell: Cell) -> bool:
    """Return whether a cell is tagged as one that is meant to fail."""
    return cell.is_tagged(EXPECTED)


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
