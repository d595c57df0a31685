"""Scripts and notebooks in, cells out: what `run` is to replay. Everything wrong is found before a sandbox starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from kernel_sandbox.session.transcript import Cell, Transcript, split_percent_script
from kernel_sandbox.spec.languages import LANGUAGES, language_named, language_of_file
from kernel_sandbox.spec.values import SandboxSpec

EXPECTED, SKIPPED = "raises-exception", "skip-execution"
"""The tags of a cell that may fail, and of one that is not run, as nbclient has them."""


def read_source(path: Path) -> Transcript:
    """Read a percent script or a notebook as one whose cells that will run have not run.

    Raises click.UsageError for what is neither, and TranscriptError for a notebook that is none.
    """
    language = language_of_file(path)
    if path.suffix == ".ipynb":
        transcript = Transcript.load(path)
    elif language is not None:
        transcript = Transcript()
        transcript.set_kernel(language.kernelspec)
        cells = split_percent_script(_read_script(path), comment=language.comment, python=language.is_python)
        for cell in cells:
            transcript.add_cell(cell)
    else:
        suffixes = ", ".join(suffix for known in LANGUAGES for suffix in known.suffixes[:1])
        raise click.UsageError(f"{path} is neither a script ({suffixes}) nor a notebook (.ipynb).")
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


def with_language(path: Path, metadata: Mapping[str, Any], spec: SandboxSpec, *, chosen: bool) -> SandboxSpec:
    """Return the spec with the image of the language that a script or a notebook is written in, unless one is `chosen`.

    Raises click.UsageError for a language that no image of this package is for.
    """
    kernel, info = metadata.get("kernelspec", {}), metadata.get("language_info", {})
    language = language_named(str(kernel.get("language") or info.get("name") or "python"))
    if chosen or language.is_python:
        return spec
    if language.image is None:
        raise click.UsageError(
            f"{path} is written in {language.title}: name an image that has its kernel with --image."
        )
    return replace(spec, image=language.image)
