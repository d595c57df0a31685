"""The command `kernel-sandbox`: its subcommands, found when they are called for, and the exit statuses.

Every SandboxError that reaches this door becomes one line: its message says already what to do. The subcommands'
modules are imported when they run, so that `--help` needs none of what they need.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any

import click

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.host import programs
from kernel_sandbox.text.spelling import did_you_mean

COMMANDS = {
    "setup": ("cli.setup:setup", "Set up what is missing on this machine, and prove that it works."),
    "run": ("cli.run:run", "Run a script or a notebook in a fresh sandbox."),
    "repl": ("cli.repl:repl", "Type cells at a prompt, with a sandbox behind it."),
    "ask": ("cli.ask:ask", "Ask about files: an agent answers with code that it runs."),
    "demo": ("cli.demo:demo", "See it work: a question about made-up data, answered by code."),
    "export": ("cli.export:export", "Make a page, Markdown or a script of a notebook."),
    "image": ("cli.image:image", "Build and list the images that sandboxes start from."),
    "kernelspec": (
        "cli.kernelspec_command:kernelspec",
        "Install the sandboxed kernel for JupyterLab, nbclient and papermill.",
    ),
    "serve": ("http.serve:serve", "Serve sessions over HTTP: to agents, by an identifier of theirs."),
    "keys": ("http.keys_command:keys", "Make, list and revoke the API keys of the service."),
    "mcp": ("mcp.command:mcp", "Serve the sandbox as MCP tools, over stdio."),
    "ps": ("cli.sandboxes:ps", "List the sandboxes that there are."),
    "gc": ("cli.sandboxes:gc", "Remove what dead processes left behind."),
    "doctor": ("cli.doctor_command:doctor", "Check this machine, and say how to mend what is wrong."),
}
"""Name to where it lives, and its line in `--help`."""

EXTRAS = {"keys": "server", "serve": "server", "mcp": "mcp"}
"""What must be installed beside the package, for the commands that need more than it."""

FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit statuses: a cell failed; a usage or engine error; Ctrl-C (128 and the number of SIGINT, as shells have it)."""


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        try:
            command: click.Command = getattr(importlib.import_module(f"kernel_sandbox.doors.{module}"), name)
        except ModuleNotFoundError as exc:
            if cmd_name not in EXTRAS or (exc.name or "").startswith("kernel_sandbox"):
                raise
            extra = f"pip install 'kernel-sandbox[{EXTRAS[cmd_name]}]'"
            raise SandboxError(f"{exc.name} is missing, which this command needs: {extra}.") from exc
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"No such command {args[0]!r}.{did_you_mean(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="kernel-sandbox", message="%(prog)s %(version)s")
def cli() -> None:
    """Run Python in a locked-down sandbox, and keep everything that it shows.

    A sandbox is a container, or a bubblewrap sandbox where no Docker answers: without a network, with its own files,
    and with limits on memory, processors and processes. The cells that you send to it share their variables, as in a
    notebook.

    \b
    Start here:
      kernel-sandbox setup                         make this machine ready, once
      kernel-sandbox doctor                        what is wrong with it?
      kernel-sandbox repl                          type Python in a sandbox
      kernel-sandbox run analysis.py --data sales.csv --save analysis.ipynb
      kernel-sandbox ask "describe this table" --data sales.csv
      kernel-sandbox kernelspec install            use it from JupyterLab

    \b
    Exit status:
      0     everything went well
      1     a cell failed
      2     a usage error, or the engine refused: stderr says which command mends it
      130   ended by Ctrl-C
    """


def main() -> None:
    """Run the command line and leave with its exit status."""
    _write_any_character()
    programs.clean_up()
    try:
        status = _run()
    except BrokenPipeError:
        # The reader (head, less) has gone; without this, the interpreter would complain once more when it flushes.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    sys.exit(status)


def _write_any_character() -> None:
    """Write a character that the terminal's encoding lacks as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _run() -> int:
    try:
        result: Any = cli.main(prog_name="kernel-sandbox", standalone_mode=False)
    except click.ClickException as exc:
        return _show_usage_error(exc)
    except SandboxError as exc:
        _show_error(exc.happened if isinstance(exc, SandboxError) else str(exc))
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _show_usage_error(exc: click.ClickException) -> int:
    context = getattr(exc, "ctx", None)
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        click.echo(exc.format_message(), err=True)
    elif context is not None:
        _show_error(f"{exc.format_message()} See: {context.command_path} --help")
    else:
        _show_error(exc.format_message())
    return USAGE


def _show_error(message: str) -> None:
    from kernel_sandbox.terminal.console import show_error

    show_error(message)
