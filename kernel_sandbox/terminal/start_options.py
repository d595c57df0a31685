"""How `run` and `repl` begin: the options they share, checked before anything starts.

Imports no more than that needs: while a session is imported, its sandbox starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from kernel_sandbox.host import links
from kernel_sandbox.host.links import crossed, written_through
from kernel_sandbox.spec.values import Limits, SandboxSpec

_limit = f"{Limits().cell_timeout:g}"


def start_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data, --save, --output-dir and --cell-timeout (which `sandbox_options` takes into the spec)."""
    decorators = [
        click.option(
            "--data",
            metavar="PATH",
            multiple=True,
            type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
            help="Copy a file to /mnt/data first. Repeatable.",
        ),
        click.option(
            "--save",
            metavar="OUT.ipynb",
            type=click.Path(dir_okay=False, path_type=Path),
            callback=_check_save,
            help="Keep the cells and what they showed as a notebook, and its figures beside it.",
        ),
        click.option(
            "--output-dir",
            metavar="DIR",
            type=click.Path(file_okay=False, path_type=Path),
            help="Keep figures in this directory.  [default: OUT_files, with --save]",
        ),
        click.option(
            "--cell-timeout",
            metavar="SECONDS",
            type=click.FloatRange(min=0),
            callback=_read_timeout,
            help=f"How long a cell may run before it is interrupted; 0 is for ever.  [default: {_limit}; in repl, 0]",
        ),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def _read_timeout(ctx: click.Context, param: click.Parameter, value: float | None) -> Any:
    if value is None:
        return None if ctx.info_name == "repl" else "default"
    return value or None


def _check_save(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    """Find out before anything runs whether the notebook can be written."""
    if value is None:
        return None
    if value.suffix != ".ipynb":
        raise click.BadParameter(f"{value} is no notebook's name: let it end in .ipynb.")
    if link := written_through(value):
        raise click.BadParameter(f"{link} is a link to {link.resolve()}: give another name, or the real path.")
    if not value.absolute().parent.is_dir():
        raise click.BadParameter(f"There is no directory {value.parent}: create it first.")
    if not os.access(value if value.exists() else value.absolute().parent, os.W_OK):
        raise click.BadParameter(f"{value} cannot be written: choose a place that you may write to.")
    return value


def files_directory(save: Path | None, output_dir: Path | None) -> Path | None:
    """Return where figures are kept: where the user said, else beside the notebook; None where nothing is kept.

    Raises click.UsageError for a link: it leads where whoever made it wants files to be written.
    """
    if output_dir is not None:
        if link := crossed(output_dir):
            raise click.UsageError(f"--output-dir: {link} is a link to {link.resolve()}: give the real path.")
        return output_dir
    if save is None:
        return None
    directory = save.with_name(f"{save.stem}_files")
    if written_through(directory):
        raise click.UsageError(
            f"{directory}, where figures would be kept, is a link to {directory.resolve()}: name one with --output-dir."
        )
    return directory


def check_for_model(spec: SandboxSpec, data: Sequence[Path]) -> None:
    """Refuse a mount or a file that a link in the working directory makes of another. Raises HostFileRefused."""
    for mount in spec.mounts:
        links.check_for_model(f"--mount {mount.name}", Path(mount.source))
    for path in data:
        links.check_for_model(f"--data {path}", path)


def check_uploads(paths: Sequence[Path]) -> None:
    """Refuse two files of the same name, since both would become /mnt/data/NAME. Raises click.UsageError."""
    names = [path.name for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"Two files of --data are named {name}: one would replace the other.")
