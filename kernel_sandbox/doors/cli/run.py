"""`kernel-sandbox run`: what it is told, and the sandbox that it begins to start before all else is imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from kernel_sandbox.doors.cli.parameters import ParametersCommand, inject, parameter_options
from kernel_sandbox.doors.cli.source_files import read_source, with_language
from kernel_sandbox.sandbox.standing import BegunSandbox
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.terminal.options import sandbox_options
from kernel_sandbox.terminal.start_options import check_uploads, files_directory, start_options


@click.command(cls=ParametersCommand, short_help="Run a script or a notebook in a fresh sandbox.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@start_options
@parameter_options
@click.option("--keep-going", is_flag=True, help="Go on after a cell that fails.")
@sandbox_options
def run(
    file: Path,
    *,
    data: tuple[Path, ...],
    save: Path | None,
    output_dir: Path | None,
    parameters: Mapping[str, Any],
    keep_going: bool,
    engine: str | None,
    spec: SandboxSpec,
) -> int:
    """Run FILE, a script or a notebook, cell by cell in a fresh sandbox.

    A script (.py) is cut into cells at its lines "# %%"; "# %% [markdown]" begins prose. Of a notebook (.ipynb) the
    code cells run in order, and all else of it is kept. What a cell prints appears at once; the first cell that fails
    ends the run, unless it is tagged "raises-exception". One tagged "skip-execution" stays as it is.

    Parameters are set in a cell of their own after the one tagged "parameters", as papermill does.

    R, TypeScript, JavaScript, Bash and Java (.R, .ts, .js, .sh, .java, and notebooks of theirs) run in the image of
    their language, unless --image names another; "// %%" cuts where "//" begins a comment.

    The cells' working directory is /mnt/data. It holds the files given with --data, and ends with the sandbox.

    \b
    Examples:
      kernel-sandbox run analysis.py --data sales.csv --save analysis.ipynb
      kernel-sandbox run report.ipynb --save done.ipynb --cell-timeout 60 --memory 4g
      kernel-sandbox run report.ipynb --save july.ipynb -p month 7 -p city=Oslo
      kernel-sandbox run model.R --data sales.csv --save model.ipynb

    Ctrl-C interrupts the cell that runs and ends the run; pressed twice it ends at once. With --save the notebook
    is written after every cell, so nothing is lost then.

    \b
    Exit status:
      0     every cell ran
      1     a cell failed
      2     a usage error, or no sandbox could be started
      130   ended by Ctrl-C
    """
    notebook = read_source(file)
    given = click.get_current_context().get_parameter_source("image") is not ParameterSource.DEFAULT
    spec = with_language(file, notebook.metadata, spec, chosen=given)
    if save is not None and save.exists() and save.samefile(file):
        raise click.UsageError("--save would write over the notebook while it runs: give another name.")
    check_uploads(data)
    figures = files_directory(save, output_dir)
    misplaced = bool(parameters) and not inject(notebook, parameters)
    notebook.path = save
    with BegunSandbox(spec, engine) as begun:
        # Not before: it is most of what there is to import, and the sandbox starts meanwhile.
        from kernel_sandbox.doors.cli.replay import replay

        return replay(begun, notebook, figures, data, misplaced=misplaced, keep_going=keep_going)
