"""`kernel-sandbox setup`: from a fresh machine to a session that is proved to work."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from kernel_sandbox.doors.cli.app import FAILED
from kernel_sandbox.sandbox.engines.environments import PREFIX_VARIABLE
from kernel_sandbox.sandbox.engines.image_names import image_names
from kernel_sandbox.setup.steps import Plan, make_plan
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.terminal import confirming
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.options import engine_option
from kernel_sandbox.terminal.progress_view import ProgressView
from kernel_sandbox.terminal.session_opening import opened_session

PROOF = """\
import platform
print(f"Python {platform.python_version()} in a sandbox says that 6 * 7 = {6 * 7}")"""


@click.command(short_help="Set up what is missing, and prove that it works.")
@engine_option("What to set up.  [default: docker where it answers, else bubblewrap]")
@click.option("--image", type=click.Choice(image_names()), default=SandboxSpec().image, show_default=True)
@click.option(
    "--prefix",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help=f"Keep bubblewrap's environments here.  [default: {PREFIX_VARIABLE}, else a cache directory]",
)
@click.option(
    "--kernelspec/--no-kernelspec",
    default=None,
    help="Whether to make the sandboxed kernel known to Jupyter.  [default: where that can be written]",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def setup(*, engine: str | None, image: str, prefix: Path | None, kernelspec: bool | None, yes: bool) -> int:
    """Set up what is missing on this machine: an engine, the image, the kernel for Jupyter.

    It says what it will do, asks, does it, and runs a cell in a sandbox to prove that it works. Docker is taken where
    it answers; else bubblewrap, which needs no daemon and no root. As root bubblewrap is installed with the system's
    package manager where it is missing. Code never runs without a sandbox.

    \b
    Examples:
      kernel-sandbox setup
      kernel-sandbox setup --engine bubblewrap --prefix /srv/sandboxes --yes

    \b
    Exit status:
      0     a session works
      1     you said no
      2     something that only you can mend is missing: stderr says which command does
      130   ended by Ctrl-C; nothing is left half made
    """
    if prefix is not None:
        os.environ[PREFIX_VARIABLE] = str(prefix.expanduser().absolute())
    screen = Screen()
    plan = make_plan(engine, image, with_kernelspec=kernelspec)
    if not take_steps(screen, plan, yes=yes):
        return FAILED
    if prefix is not None:
        _say_prefix(screen, plan)
    _prove(screen, engine, image)
    options = f"{f' --engine {engine}' if engine else ''}{f' --image {image}' if image != SandboxSpec().image else ''}"
    screen.say(("✓ ", "bold green"), "Ready. Try it: ", (f"kernel-sandbox repl{options}", "cyan"))
    return 0


def take_steps(screen: Screen, plan: Plan, *, yes: bool) -> bool:
    """Show a plan, ask, and do it; False where the answer was no.

    Raises SandboxError, and click.UsageError where nobody can be asked.
    """
    screen.say(("Engine: ", "dim"), (plan.engine, "bold"), (f" ({plan.reason})", "dim"))
    for note in plan.notes:
        screen.say((note, "yellow"))
    if not plan.steps:
        screen.say("Nothing is missing.")
        return True
    screen.say("To do:")
    for number, step in enumerate(plan.steps, 1):
        screen.say(f"  {number}. {step.text}")
    screen.flush()
    if not yes and not agreed("Do it?"):
        return False
    for step in plan.steps:
        with ProgressView(screen) as view:
            done = step.take(view.take)
        screen.say(("✓ ", "bold green"), f"{done}.")
        screen.flush()
    return True


def agreed(question: str) -> bool:
    """Ask; raise click.UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise click.UsageError("Nothing was done, since there is no terminal to ask on: add --yes.")
    return confirming.put(click.confirm, question, default=True)


def _say_prefix(screen: Screen, plan: Plan) -> None:
    if plan.engine == "docker":
        screen.say(("--prefix had no part in this: Docker keeps images in its own place.", "yellow"))
    else:
        line = f"export {PREFIX_VARIABLE}={shlex.quote(os.environ[PREFIX_VARIABLE])}"
        screen.say("Add this line to your shell's profile, so that every session finds it: ", (line, "cyan"))


def _prove(screen: Screen, engine: str | None, image: str) -> None:
    """Run a cell in a session and show it. Raises SandboxError."""
    with opened_session(screen, engine, SandboxSpec(image=image), data=()) as session:
        screen.lines(session.execute(PROOF).raise_for_error().text.splitlines())
