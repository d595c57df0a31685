"""`kernel-sandbox kernelspec`: make the sandboxed kernel known to Jupyter."""

from __future__ import annotations

from pathlib import Path

import click

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.setup import kernelspec as kernelspecs
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.terminal.console import Screen, make_table
from kernel_sandbox.terminal.options import sandbox_options


@click.group()
def kernelspec() -> None:
    """Make the sandboxed kernel known to JupyterLab, nbclient, papermill and all of Jupyter.

    \b
    Examples:
      kernel-sandbox kernelspec install
      kernel-sandbox kernelspec install --name small --display-name "Python (small)" --memory 1g
      kernel-sandbox kernelspec remove small
    """


@kernelspec.command(short_help="Install a sandboxed kernel.")
@click.option("--user", "place", flag_value="user", help="For this user.")
@click.option("--sys-prefix", "place", flag_value="sys-prefix", help="Into the running Python environment.")
@click.option("--prefix", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Below a directory.")
@click.option(
    "--name", help=f"What notebooks call it.  [default: {kernelspecs.DEFAULT_NAME}, or r-sandbox with --image r]"
)
@click.option("--display-name", help=f"What people see.  [default: {kernelspecs.DISPLAY_NAME}, or R (sandbox)]")
@sandbox_options
def install(
    *,
    place: str | None,
    prefix: Path | None,
    name: str | None,
    display_name: str | None,
    engine: str | None,
    spec: SandboxSpec,
) -> int:
    """Install a kernel that runs in a sandbox.

    It is for the Jupyter of the Python environment that holds kernel-sandbox. Without a place it goes into that
    environment if it is a virtual one, else to this user's. What describes the sandbox (--image, --memory and so on)
    is fixed here; install several under different names. Installed ones whose command would import modules that lie
    beside a notebook are replaced.

    \b
    Exit status:
      0     installed
      2     a usage error, or a place that cannot be written
    """
    if place and prefix:
        raise click.UsageError("Give one of --user, --sys-prefix and --prefix.")
    if prefix is not None:
        directory = kernelspecs.prefix_directory(prefix.expanduser().absolute())
    elif place is None:
        directory = kernelspecs.default_directory()
    else:
        directory = kernelspecs.prefix_directory() if place == "sys-prefix" else kernelspecs.user_directory()
    usual_name, usual_display_name = kernelspecs.names_for(spec.image)
    name, display_name = name or usual_name, display_name or usual_display_name
    target = kernelspecs.install(directory, name=name, display_name=display_name, engine=engine, spec=spec)
    screen = Screen()
    screen.say(("✓ ", "bold green"), (display_name, "bold"), f" is installed in {target}.")
    for known in kernelspecs.exposed():
        try:
            kernelspecs.mend(known)
        except SandboxError as exc:  # another user's, say
            screen.say(("! ", "bold yellow"), f"{exc} It imports modules that lie beside a notebook.")
        else:
            screen.say(("✓ ", "bold green"), (known.display_name, "bold"), f" is replaced in {known.directory}.")
    if any(known.directory == target for known in kernelspecs.installed()):
        screen.say("  Use it with: ", (f"jupyter lab   or   jupyter console --kernel {target.name}", "cyan"))
    else:
        screen.say("  Jupyter will look there after: ", (f"export JUPYTER_PATH={directory.parent}", "cyan"))
    return 0


@kernelspec.command("list", short_help="List the sandboxed kernels.")
def list_command() -> int:
    """List the sandboxed kernels that Jupyter finds.

    \b
    Exit status:
      0     the list was shown
    """
    screen = Screen()
    table = make_table("NAME", "DISPLAY NAME", "IMAGE", "DIRECTORY")
    found = kernelspecs.installed()
    for known in found:
        image = str(known.config.get("image", SandboxSpec().image))
        table.add_row(known.name, known.display_name, image, str(known.directory))
    if found:
        screen.table(table)
    else:
        screen.say("There is none. Install one with: ", ("kernel-sandbox kernelspec install", "cyan"))
    return 0


@kernelspec.command(short_help="Remove a sandboxed kernel.")
@click.argument("name")
def remove(name: str) -> int:
    """Remove the sandboxed kernel NAME. Kernels that are not sandboxed are left alone.

    \b
    Exit status:
      0     removed
      2     there is no such kernel, or it cannot be removed
    """
    directory = kernelspecs.remove(name)
    Screen().say(("✓ ", "bold green"), f"Removed {directory}.")
    return 0
