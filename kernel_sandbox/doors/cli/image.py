"""`kernel-sandbox image`: build, list, show and remove the images that sandboxes start from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click
from rich.text import Text

from kernel_sandbox.sandbox.engines.all_engines import answering, ask_engines
from kernel_sandbox.sandbox.engines.environments import shelf
from kernel_sandbox.sandbox.engines.image_names import image_names
from kernel_sandbox.setup.engine_images import (
    Base,
    Built,
    build,
    build_own,
    engine_for,
    list_images,
    remove_image,
    show_image,
    where_it_is,
)
from kernel_sandbox.setup.image_request import read_request
from kernel_sandbox.setup.own_images import OwnImage
from kernel_sandbox.setup.progress import Report
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.terminal.console import Screen, make_table
from kernel_sandbox.terminal.options import engine_option, one_engine_option
from kernel_sandbox.terminal.progress_view import ProgressView
from kernel_sandbox.terminal.safe import plain
from kernel_sandbox.text.amounts import format_seconds, format_size

_STYLES = {"built": "green", "out of date": "yellow", "not built": "yellow"}


@click.group()
def image() -> None:
    """Build, list, show and remove the images that sandboxes start from.

    For Docker that is a container image. For bubblewrap it is an environment: a directory with a copy of this
    machine's Python and the same packages.

    \b
    Examples:
      kernel-sandbox image build datascience
      kernel-sandbox image build mine --from datascience --with polars
      kernel-sandbox image list
      kernel-sandbox image show mine
      kernel-sandbox image remove mine
    """


@image.command("build", short_help="Build an image: one of this package, or one of your own.")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@engine_option("Where it is for.  [default: docker where it answers, else bubblewrap]")
@click.option(
    "--from",
    "below",
    metavar="IMAGE",
    help=f"For an image of your own: what it holds besides, one of {', '.join(image_names())}.  "
    f"[default: {SandboxSpec().image}]",
)
@click.option("--with", "packages", multiple=True, metavar="PACKAGE", help="A package, a version of it, or its wheel.")
@click.option("--apt", multiple=True, metavar="PACKAGE", help="A package of Debian; for Docker.")
@click.option("--replace", is_flag=True, help="Take the place of an image of this name that holds other things.")
@click.option(
    "--base",
    type=click.Choice(["auto", "python", "debian"]),
    default="auto",
    show_default=True,
    help="For Docker, and the images of this package. python: the official slim image, pulled. debian: a root made on "
    "this machine, without a registry. auto: the first that can be had.",
)
def build_command(
    *,
    name: str,
    file: Path | None,
    engine: str | None,
    below: str | None,
    packages: tuple[str, ...],
    apt: tuple[str, ...],
    replace: bool,
    base: Base,
) -> int:
    """Build the image NAME, unless it is up to date.

    NAME alone is an image of this package. An image of your own has a name of yours, and holds what you add to one of
    ours: packages by --with, or those that FILE lists (requirements.txt, pyproject.toml). Sessions then take it by its
    name, in every door: --image mine, Session(image="mine").

    pip resolves and downloads as it is set up here (index, certificates, proxies; see "pip config list"), in a sandbox.
    What the image holds already keeps its version. All that is added is locked with its hashes: "image show NAME
    --lock" prints that. No code of a package runs on this machine: wheels are unpacked in a sandbox, source archives
    are built in one without a network, and the new image is tried in one, by importing what you asked for, before it
    gets its name.

    With a Dockerfile as FILE, Docker builds it as "docker build" does, and the image is tried too. It needs python3
    and a Jupyter kernel: begin with FROM kernel-sandbox/datascience.

    \b
    Examples:
      kernel-sandbox image build datascience
      kernel-sandbox image build mine --with polars --with 'duckdb>=1.1'
      kernel-sandbox image build mine --from python --with ./mine-1.0-py3-none-any.whl --engine bubblewrap
      kernel-sandbox image build graphs --with graphviz --apt graphviz --engine docker
      kernel-sandbox image build project requirements.txt
      kernel-sandbox image build special ./Dockerfile

    \b
    Exit status:
      0     the image is there
      2     it could not be built: stderr says why, and nothing half-built is left
      130   ended by Ctrl-C
    """
    if name in image_names() and not (file or below or packages or apt or replace):
        place = engine or answering()[0]
        if place != "docker" and base != "auto":
            raise click.UsageError("--base is for Docker's images: add --engine docker.")
        return _build(place, name, lambda report: build(place, name, report, base=base))
    if base != "auto":
        raise click.UsageError("--base is for the images of this package; yours says by --from what it stands on.")
    request = read_request(name, base=below, packages=packages, apt=apt, file=file)
    place = engine or engine_for(request)
    return _build(place, name, lambda report: build_own(place, request, report, replace=replace))


def _build(engine: str, name: str, work: Callable[[Report], Built]) -> int:
    screen = Screen()
    with ProgressView(screen) as view:
        built = work(view.take)
    say_built(screen, built)
    screen.say("  Try it: ", (f"kernel-sandbox repl --image {name} --engine {engine}", "cyan"))
    return 0


def say_built(screen: Screen, built: Built) -> None:
    """Show what a build left, and where."""
    state = "is up to date" if built.up_to_date else f"built in {format_seconds(built.seconds)}"
    details = f"  {format_size(built.size)}, base {built.base}"
    screen.say(("✓ ", "bold green"), (built.place, "bold"), f" {state}", (details, "dim"))


@image.command("list", short_help="List the images, and how they were built.")
@one_engine_option
def list_command(engine: str | None) -> int:
    """List the images in every engine: those of this package, and whether they are built, then your own.

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


@image.command("show", short_help="Show what an image holds.")
@click.argument("name")
@one_engine_option
@click.option("--lock", is_flag=True, help="Print only what was added, with versions and hashes: a requirements file.")
def show_command(name: str, engine: str | None, *, lock: bool) -> int:
    """Show what the image NAME holds: its packages and their versions, its size, what it was built from, its digest.

    \b
    Examples:
      kernel-sandbox image show mine
      kernel-sandbox image show mine --lock > requirements.txt

    \b
    Exit status:
      0     it was shown
      2     no engine has this image
    """
    found = list(where_it_is(name, engine, lambda place: show_image(place, name)).values())
    if lock:
        click.echo(plain(found[0].lock), nl=False)
        return 0
    screen = Screen()
    for each in found:
        _show(screen, each)
    return 0


def _show(screen: Screen, found: OwnImage) -> None:
    created = f"{datetime.fromtimestamp(found.created):%Y-%m-%d %H:%M}"
    old = [("  its base has been built anew: build it again", "yellow")] if found.outdated else []
    screen.say((found.name, "bold"), (f" on {found.engine}", "dim"), *old)
    facts = {
        "place": found.place,
        "digest": found.digest,
        "base": found.base,
        "size": format_size(found.size),
        "created": created,
        "python": found.python,
        "asked for": ", ".join(found.asked),
    }
    for label, value in ((label, value) for label, value in facts.items() if value):
        screen.say((f"  {label:<10} ", "dim"), value)
    table = make_table("PACKAGE", "VERSION")
    for package, version in sorted(found.packages, key=lambda pair: pair[0].lower()):
        table.add_row(plain(package), plain(version))
    screen.table(table)


@image.command("remove", short_help="Remove an image of your own.")
@click.argument("name")
@one_engine_option
def remove_command(name: str, engine: str | None) -> int:
    """Remove the image NAME, one of your own, from every engine that has it.

    \b
    Exit status:
      0     it was removed
      2     no engine has it, or a sandbox uses it
    """
    screen = Screen()
    for place in where_it_is(name, engine, lambda place: remove_image(place, name)):
        screen.say(("✓ ", "bold green"), (name, "bold"), f" removed from {place}")
    return 0
