"""`kernel-sandbox image`: build and list the images that sandboxes start from."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from kernel_sandbox.sandbox.engines.all_engines import answering, ask_engines
from kernel_sandbox.sandbox.engines.environments import shelf
from kernel_sandbox.sandbox.engines.image_names import image_names
from kernel_sandbox.setup.engine_images import Base, Built, build, list_images
from kernel_sandbox.terminal.console import Screen, make_table
from kernel_sandbox.terminal.options import engine_option, one_engine_option
from kernel_sandbox.terminal.progress_view import ProgressView
from kernel_sandbox.text.amounts import format_seconds, format_size

_STYLES = {"built": "green", "out of date": "yellow", "not built": "yellow"}


@click.group()
def image() -> None:
    """Build and list the images that sandboxes start from.

    For Docker that is a container image. For bubblewrap it is an environment: a directory with a copy of this
    machine's Python and the same packages.

    \b
    Examples:
      kernel-sandbox image build datascience
      kernel-sandbox image build python --engine bubblewrap
      kernel-sandbox image list
    """


@image.command("build", short_help="Build an image.")
@click.argument("name", type=click.Choice(image_names()))
@engine_option("Where it is for.  [default: docker where it answers, else bubblewrap]")
@click.option(
    "--base",
    type=click.Choice(["auto", "python", "debian"]),
    default="auto",
    show_default=True,
    help="For Docker. python: the official slim image, pulled. debian: a root made on this machine, without a "
    "registry. auto: the first that can be had.",
)
def build_command(name: str, engine: str | None, base: Base) -> int:
    """Build the image NAME, unless it is up to date.

    The packages are downloaded here, as the image's lock names them, and the build itself has no network. It takes
    a few minutes the first time. Environments are kept in KERNEL_SANDBOX_PREFIX, else in this user's cache.

    \b
    Examples:
      kernel-sandbox image build datascience
      kernel-sandbox image build python --engine docker --base debian

    \b
    Exit status:
      0     the image is there
      2     it could not be built: stderr says why
      130   ended by Ctrl-C
    """
    engine = engine or answering()[0]
    if engine != "docker" and base != "auto":
        raise click.UsageError("--base is for Docker's images: add --engine docker.")
    screen = Screen()
    with ProgressView(screen) as view:
        built = build(engine, name, view.take, base=base)
    say_built(screen, built)
    screen.say("  Try it: ", (f"kernel-sandbox repl --image {name} --engine {engine}", "cyan"))
    return 0


def say_built(screen: Screen, built: Built) -> None:
    """Show what a build left, and where."""
    state = "is up to date" if built.up_to_date else f"built in {format_seconds(built.seconds)}"
    details = f"  {format_size(built.size)}, base {built.base}"
    screen.say(("✓ ", "bold green"), (built.place, "bold"), f" {state}", (details, "dim"))


@image.command("list", short_help="List the images and how they were built.")
@one_engine_option
def list_command(engine: str | None) -> int:
    """List the images of this package in every engine, and say which are built.

    \b
    Exit status:
      0     the list was shown
      2     the engine of --engine does not answer
    """
    answers = ask_engines(list_images, engine)
    table = make_table("ENGINE", "NAME", "STATE", "SIZE", "BASE", "CREATED", "PLACE")
    for found in (image for images in answers.given.values() for image in images):
        size = format_size(found.size) if found.size is not None else ""
        created = f"{found.created.astimezone():%Y-%m-%d}" if found.created else ""
        state = Text(found.state, _STYLES[found.state])
        # Of a directory only its name: they all lie in the same one.
        place = found.place if found.engine == "docker" else Path(found.place).name
        table.add_row(found.engine, found.name, state, size, found.base, created, place)
    screen = Screen()
    screen.table(table)
    if "bubblewrap" in answers.given:
        screen.say((f"Environments of bubblewrap are in {shelf()}.", "dim"))
    for name, problem in answers.refused.items():
        screen.say((f"{name}: {problem}", "dim"))
    return 0
