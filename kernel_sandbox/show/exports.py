"""Notebooks made into pages, Markdown and scripts that can be given to others. Any notebook is hostile input here.

The command `export` calls it, and whoever has a transcript. What a reader's browser must never do because of a cell:
run a script, load anything from a network, send a form, go elsewhere by itself. What is about the machine that a
notebook was made on (its kernels, times, limits, session) is left out of all three.

Scripts are written by `transcript.scripts`, beside what reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from kernel_sandbox.errors import TranscriptError
from kernel_sandbox.session.transcript import Transcript, join_percent_script
from kernel_sandbox.show.scrubbed import scrub

ExportFormat = Literal["html", "py", "md"]
"""A page, a percent script, or Markdown."""
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

__all__ = ["FORMATS", "ExportFormat", "export_notebook"]


def export_notebook(source: Transcript | str | Path, to: ExportFormat = "html") -> str:
    """Make a notebook a page ("html"), a percent script ("py") or Markdown ("md"), and give its text.

    `source` is a transcript, or the path of a notebook of up to 100 MB and 10 000 cells. Pictures are within the
    text, and nothing in it runs or loads anything where it is opened. HTML takes at most a minute, and needs the
    extra `export`. Raises TranscriptError.
    """
    if to not in FORMATS:
        raise TranscriptError(f"There is no format {to!r}: choose one of {', '.join(FORMATS)}.")
    scrubbed = scrub(source if isinstance(source, Transcript) else Transcript.load(source), _name(source))
    if to == "html":
        from kernel_sandbox.show.rendering import render

        return render(scrubbed)
    if to == "md":
        from kernel_sandbox.show.prose import write_markdown

        return write_markdown(scrubbed.notebook)
    return _script(scrubbed)


def _name(source: Transcript | str | Path) -> str:
    """A name for a notebook without a title: its file's, without the directories."""
    path = source.path if isinstance(source, Transcript) else Path(source)
    return path.stem if path is not None else "Notebook"


def _script(scrubbed: Transcript) -> str:
    language = scrubbed.metadata["language_info"]["name"]
    if language != "python":
        raise TranscriptError(f"The notebook is written in {language}: scripts are made of Python; --to md shows it.")
    return join_percent_script(scrubbed.cells)
