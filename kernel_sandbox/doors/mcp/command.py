"""`kernel-sandbox mcp`: the sandbox as tools for a client of the Model Context Protocol, over stdio."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import click

from kernel_sandbox.doors.mcp.local import LocalSession
from kernel_sandbox.doors.mcp.mcp_server import make_server, serve_stdio
from kernel_sandbox.doors.mcp.notebook_folder import NotebookFolder
from kernel_sandbox.doors.mcp.stdio import take_wire
from kernel_sandbox.doors.mcp.toolbox import Toolbox
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.host.links import crossed
from kernel_sandbox.session.session import AsyncSession
from kernel_sandbox.setup.image_packages import installed, language_of
from kernel_sandbox.spec.values import Limits, SandboxSpec
from kernel_sandbox.terminal.options import sandbox_options
from kernel_sandbox.terminal.start_options import check_for_model, check_uploads


@click.command(short_help="Serve the sandbox as MCP tools, over stdio.")
@click.option(
    "--data",
    metavar="PATH",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="Copy a file to /mnt/data first. Repeatable.",
)
@click.option(
    "--save",
    metavar="OUT.ipynb",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the cells and what they showed as a notebook; where there is one, beside it, as OUT-2.ipynb.",
)
@click.option(
    "--save-dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="Let the model export the notebook into this directory, instead of into its own context.",
)
@click.option(
    "--cell-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=Limits().cell_timeout,
    show_default=True,
    help="How long a cell may run at most; the model may ask for less.",
)
@click.option("--warm", is_flag=True, help="Start the sandbox at once, not with the first call.")
@sandbox_options
def mcp(
    *,
    data: tuple[Path, ...],
    save: Path | None,
    save_dir: Path | None,
    warm: bool,
    engine: str | None,
    spec: SandboxSpec,
) -> None:
    """Serve a sandbox as tools of the Model Context Protocol (MCP), over standard input and output.

    It is not for typing: a client such as an editor or a chat program starts it, and its model then runs Python and
    shell commands, reads and writes files and exports the notebook. All of it is in one sandbox, which starts with the
    first call, keeps its variables from call to call, and ends with the client. Register it with the client, in
    its list of servers:

    \b
      {
        "mcpServers": {
          "python": {
            "command": "kernel-sandbox",
            "args": ["mcp", "--memory", "4g", "--save", "/home/me/agent.ipynb"]
          }
        }
      }

    The command is found on the client's PATH; its full path works everywhere. Paths are of this machine. The server
    writes nothing to it but the notebook of --save and, with --save-dir, exported notebooks.

    \b
    Examples:
      kernel-sandbox mcp --data sales.csv
      kernel-sandbox mcp --engine bubblewrap --image python --cell-timeout 60

    Ctrl-C, SIGTERM or the end of its input end the server and the sandbox.
    """
    check_uploads(data)
    check_for_model(spec, data)
    if save is not None and save.suffix != ".ipynb":
        raise click.UsageError(f"--save {save}: let its name end in .ipynb.")
    if save is not None and not save.parent.is_dir():
        raise click.UsageError(f"--save: there is no directory {save.parent}: create it first.")
    for option, path in {"--save": save, "--save-dir": save_dir}.items():
        if path is not None and (link := crossed(path)):
            raise click.UsageError(f"{option}: {link} is a link to {link.resolve()}: give the real path.")
    session = LocalSession(
        lambda transcript: AsyncSession(engine=engine, spec=spec, transcript=transcript),
        data=[path.absolute() for path in data],
        save=save and save.absolute(),
        max_timeout=spec.limits.cell_timeout or 600.0,
    )
    folder = NotebookFolder(save_dir.absolute()) if save_dir else None
    language = language_of(spec.image, engine, spec.kernel)
    packages = installed(spec.image, engine) if language.is_python else ""
    toolbox = Toolbox(session, language=language, packages=packages, folder=folder)
    asyncio.run(_serve(session, toolbox, warm=warm))


async def _warm(session: LocalSession) -> None:
    with contextlib.suppress(SandboxError):  # the first call tries again, and tells
        await session.open()


async def _serve(session: LocalSession, toolbox: Toolbox, *, warm: bool) -> None:
    lines, writer = take_wire()
    background: set[asyncio.Task[None]] = set()

    def end() -> None:
        # Now, and not when the calls under way have ended: it is what ends them.
        background.add(asyncio.ensure_future(session.aclose()))

    lines.on_end = end
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, lines.end)
    if warm:
        background.add(asyncio.ensure_future(_warm(session)))
    await serve_stdio(make_server(toolbox), lines, writer)
    await session.aclose()
    await asyncio.wait(background)
