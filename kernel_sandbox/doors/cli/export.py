"""`kernel-sandbox export`: a notebook as a page, Markdown or a script, to give to others."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from kernel_sandbox.session.transcript.writing import replace_file
from kernel_sandbox.show.exports import FORMATS, ExportFormat, export_notebook
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.text.amounts import format_size

_MADE = {
    "html": "The page is {}. It runs no script and loads nothing: open it in any browser.",
    "md": "The text is {}. Its pictures are within it.",
    "py": "The script is {0}. Run it in a sandbox: kernel-sandbox run {0}",
}


@click.command(short_help="Make a page, Markdown or a script of a notebook.")
@click.argument("notebook", metavar="OUT.ipynb", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", type=click.Choice(FORMATS), help="What to make.  [default: as FILE is called, else html]")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where it goes; one that is there is replaced.  [default: OUT.html, OUT.md or OUT.py, where there is none]",
)
def export(notebook: Path, *, to: ExportFormat | None, output: Path | None) -> None:
    """Make a page, Markdown or a script of OUT.ipynb, a notebook of any origin, to give to others.

    What cells showed is taken as hostile. The page (html) runs no script, loads nothing from a network and sends
    nothing: tables, figures, colours and prose stay; scripts and widgets go; LaTeX stays as it was written. Markdown
    (md) is harmless in whatever renders it. The script (py) has a cell after each line "# %%", prose in comments, and
    no outputs: `kernel-sandbox run` takes it.

    What is about the machine that the notebook was made on (kernels, times, limits, session) is left out; its title
    and its language stay.

    \b
    Examples:
      kernel-sandbox export analysis.ipynb                        makes analysis.html
      kernel-sandbox export analysis.ipynb --to md -o report.md

    HTML needs nbconvert: pip install 'kernel-sandbox[export]'

    \b
    Exit status:
      0     it is made
      2     OUT.ipynb is no notebook, or FILE cannot be written
    """
    to = to or _format_of(output)
    target = output or notebook.with_suffix(f".{to}")
    if target.exists() and target.samefile(notebook):
        raise click.UsageError("-o would write over the notebook: give another name.")
    if output is None and (target.exists() or target.is_symlink()):
        raise click.UsageError(f"{target} is there already: -o {target} replaces it, another name keeps it.")
    text = export_notebook(notebook, to).encode("utf-8", "replace")
    replace_file(target, [text], durable=True)
    Screen().say(f"{_MADE[to].format(shlex.quote(str(target)))}  ({format_size(len(text))})")


def _format_of(output: Path | None) -> ExportFormat:
    suffix = output.suffix.removeprefix(".").lower() if output is not None else ""
    return next((known for known in FORMATS if known == suffix), "html")
