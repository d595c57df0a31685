"""`kernel-sandbox demo`: the main job in one command, on traffic data that it makes up."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import click

from kernel_sandbox.doors.cli.app import FAILED
from kernel_sandbox.doors.cli.ask import ask
from kernel_sandbox.doors.cli.keeping import offer_kernel
from kernel_sandbox.doors.cli.setup import agreed, take_steps
from kernel_sandbox.setup.steps import make_plan
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.options import engine_option

QUESTION = "What goes with accidents?"
DATA = Path("traffic_accidents.csv")
NOTEBOOK = Path("traffic_demo.ipynb")


@click.command(short_help="See it work: a question about made-up data, answered by code.")
@click.option(
    "--yes", is_flag=True, help=f"Do not ask, before {DATA} and {NOTEBOOK} are written here, a set-up or a .env."
)
@click.option("--model", metavar="NAME", help="As for `ask`.")
@engine_option("What starts the sandbox.  [default: docker where it answers and has the image, else bubblewrap]")
@click.pass_context
def demo(ctx: click.Context, *, yes: bool, model: str | None, engine: str | None) -> int:
    """Make up traffic data and have a question about it answered in a sandbox.

    Writes the data and a notebook into this directory. With OPENAI_API_KEY o3-mini answers, else a fixed analysis,
    without a language model. Where no sandbox can start yet, it sets up what is missing first, as `setup` does. On
    a terminal it offers the sandboxed kernel for Jupyter too, which would else run the notebook on this machine.

    \b
    Exit status:
      0     answered
      1     no answer came, or you said no
      2     a usage error, or no sandbox or model could be had
    """
    if not os.access(".", os.W_OK):
        raise click.UsageError("This directory cannot be written: change to one that can.")
    for path in (DATA, NOTEBOOK):
        if path.is_symlink():
            raise click.UsageError(f"{path} is a link to {path.resolve()}: run this in another directory.")
    there = [str(path) for path in (DATA, NOTEBOOK) if path.exists()]
    question = f"Write {DATA} and {NOTEBOOK} here{', over ' + ' and '.join(there) if there else ''}?"
    if not yes and not agreed(question):
        return FAILED
    screen = Screen()
    plan = make_plan(engine, SandboxSpec().image, with_kernelspec=False, refresh=False)
    if plan.steps and not take_steps(screen, plan, yes=yes):
        return FAILED
    runpy.run_path(str(_generator()))["write_csv"](DATA)
    screen.say(("Synthetic data: ", "dim"), str(DATA))
    screen.say(("Question: ", "dim"), (QUESTION, "bold"))
    arguments = [QUESTION, "--data", str(DATA), "--save", str(NOTEBOOK)]
    arguments += [*(["--model", model] if model else []), *(["--engine", engine] if engine else [])]
    arguments += ["--yes"] if yes else []  # the data are made up, and no key of the environment goes to a file's server
    if not yes:
        offer_kernel(screen)
    with ask.make_context("ask", arguments, parent=ctx) as context:
        return int(ask.invoke(context))


def _generator() -> Path:
    """Find the generator: in an installed package, else in the checkout."""
    package = Path(__file__).parents[2]
    packaged = package / "_notebooks" / "make_traffic_data.py"
    return packaged if packaged.exists() else package.parent / "notebooks" / "make_traffic_data.py"
