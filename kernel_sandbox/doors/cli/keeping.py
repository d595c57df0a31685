"""What can be done with a notebook that was kept: whoever opens it must know on which machine its cells would run.

An agent, or a stranger, wrote them. `run`, `repl`, `ask` and `demo` end here.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import click

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.host import programs
from kernel_sandbox.setup.kernelspec import INSTALL, UNOFFERED, default_directory, install, is_offered
from kernel_sandbox.terminal import confirming
from kernel_sandbox.terminal.console import Screen

ELSEWHERE = "Another environment's JupyterLab would run these cells on your machine."


def say_where(screen: Screen, notebook: Path, data: Sequence[Path] = ()) -> None:
    """Show where the notebook is and how to open it; first what makes that safe."""
    name = shlex.quote(str(notebook))
    screen.say("The notebook is ", (str(notebook), "bold"), ".")
    again = " ".join([name, *(f"--data {shlex.quote(str(path))}" for path in data)])
    ways = [("run it again", f"kernel-sandbox run {again}"), ("make a page", f"kernel-sandbox export {name}")]
    if not _has_lab():
        screen.say((ELSEWHERE, "yellow"))
    elif is_offered():
        ways.insert(0, ("open it", f"{_lab()} {name}"))
    else:
        screen.say((UNOFFERED, "yellow"))
        ways[:0] = [("first", INSTALL), ("then open it", f"{_lab()} {name}")]
    for what, command in ways:
        screen.say(f"  {what + ':':14}", (command, "cyan"))


def offer_kernel(screen: Screen) -> None:
    """Ask on a terminal whether to install the sandboxed kernel, where Jupyter lacks it."""
    if not _has_lab() or is_offered() or not sys.stdin.isatty():
        return
    directory = default_directory()
    screen.say((UNOFFERED, "yellow"))
    screen.flush()
    if not confirming.put(click.confirm, f"Install it in {directory}?", default=True):
        return
    try:
        screen.say(("✓ ", "bold green"), f"{install(directory)} is installed.")
    except SandboxError as exc:  # another's kernel of that name, or no place that can be written
        screen.say((str(exc), "yellow"))


def _has_lab() -> bool:
    return importlib.util.find_spec("jupyterlab") is not None


def _lab() -> str:
    """Return the command of this environment's JupyterLab, by its path where another's would be found."""
    ours = Path(sysconfig.get_path("scripts"), "jupyter")
    found = programs.find("jupyter")
    return f"{shlex.quote(str(ours))} lab" if ours.exists() and found != str(ours) else "jupyter lab"
