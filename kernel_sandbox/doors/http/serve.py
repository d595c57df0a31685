"""`kernel-sandbox serve`: sessions over HTTP."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from kernel_sandbox.doors.http.serving import serve as serve_sessions
from kernel_sandbox.service import logs, settings
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.options import engine_option

_SHOWN = ("host", "port", "image", "pool.ready", "pool.sessions")
"""The settings that are explained first; the rest is for who needs it."""
_OF_THEIR_OWN = {"engine"}


def _options(command: Any) -> Any:
    """Give a command a flag for every setting."""
    for setting in reversed(settings.describe()):
        if setting.key in _OF_THEIR_OWN:
            continue
        text = f"{setting.help}  [{setting.allowed}; default: {setting.default}]"
        name = setting.key.replace(".", "_")
        command = click.option(setting.flag, name, metavar="VALUE", help=text)(command)
    return command


@click.command(short_help="Serve sessions over HTTP: to agents, by an identifier of theirs.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="A TOML file with settings.")
@engine_option("What starts the sandboxes.  [default: docker where it answers and has the image, else bubblewrap]")
@_options
def serve(*, config: Path | None, engine: str | None, **flags: Any) -> int:
    """Serve sessions over HTTP.

    A client names a session as it likes; the first call makes it, later ones find its variables and files. Some
    sessions are held ready, so that this takes milliseconds. Ctrl-C lets the requests end, then ends the sandboxes.

    Only this machine is served, without asking who it is. For others, make keys first
    (`kernel-sandbox keys create NAME`), or set --oidc-issuer and --oidc-audience; then give --host.

    \b
    Try it:
      kernel-sandbox serve --port 8000 &
      curl localhost:8000/v1/sessions/mine/execute -H 'content-type: application/json' \\
           -d '{"source": "6 * 7", "create": true}'

    \b
    Clients of Azure's dynamic sessions work unchanged, with this address as the pool's management endpoint:
      AzureCodeInterpreterToolSpec(pool_management_endpoint="http://localhost:8000")
      SessionsPythonREPLTool(pool_management_endpoint="http://localhost:8000")

    All routes are at /docs. Settings come from --config, over it from the environment
    (KERNEL_SANDBOX_SERVER_PORT, …), over these from the flags.

    \b
    Exit status:
      0     it was told to end, and did
      2     a setting that cannot be, a port that is taken, or no sandbox could be had
    """
    chosen = settings.load(config, os.environ, {**flags, "engine": engine})
    logs.set_up(chosen.log_format)
    screen = Screen()

    def announce(address: str) -> None:
        screen.say(("Serving on ", "dim"), address, (f"  (routes: {address}/docs; Ctrl-C ends it)", "dim"))

    asyncio.run(serve_sessions(chosen, announce))
    return 0
