"""`kernel-sandbox ps` and `gc`: the sandboxes that there are, and what dead owners left."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click
from rich.text import Text

from kernel_sandbox.cli.console import Screen, make_table
from kernel_sandbox.cli.options import engine_option
from kernel_sandbox.cli.terminal import plain
from kernel_sandbox.engines import get_engine
from kernel_sandbox.engines.base import SandboxInfo
from kernel_sandbox.reactor import portal
from kernel_sandbox.run_directory import remove_stale_directories


@click.command(short_help="List the sandboxes that there are.")
@engine_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def ps(*, engine: str, as_json: bool) -> int:
    """List the sandboxes that there are, with the processes that own them.

    A sandbox ends with its owner. One whose owner is dead is garbage, which "kernel-sandbox gc" removes.

    \b
    Exit status:
      0     the list was shown
      2     no engine answers
    """
    found = sorted(portal().call(get_engine(engine).sandboxes), key=lambda info: info.created)
    if as_json:
        click.echo(json.dumps([_as_json(info) for info in found], indent=1))
        return 0
    screen = Screen()
    if not found:
        screen.say(("No sandboxes.", "dim"))
        return 0
    table = make_table("SESSION", "IMAGE", "STATUS", "AGE", "OWNER")
    for info in found:
        owner = Text(f"pid {info.owner_pid}" if info.owner_pid else "unknown")
        owner = owner.append(" is dead", "red") if info.owner_gone else owner
        table.add_row(*(plain(text) for text in (info.session_id, info.image, info.status, _age(info))), owner)
    screen.table(table)
    if any(info.owner_gone for info in found):
        screen.say("Remove what dead owners left with: ", ("kernel-sandbox gc", "cyan"))
    return 0


def _as_json(info: SandboxInfo) -> dict[str, object]:
    return {
        "id": info.id,
        "session": info.session_id,
        "image": info.image,
        "status": info.status,
        "created": info.created.isoformat(),
        "owner_pid": info.owner_pid,
        "owner_alive": not info.owner_gone,
    }


def _age(info: SandboxInfo) -> str:
    seconds = max(0, int((datetime.now(UTC) - info.created).total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@click.command(short_help="Remove what dead processes left behind.")
@engine_option
def gc(*, engine: str) -> int:
    """Remove the sandboxes and run directories whose owner on this machine is dead.

    Sandboxes end with their owners by themselves; this is for what a crash of the engine or of the machine left.

    \b
    Exit status:
      0     done, whether there was anything or not
      2     no engine answers
    """
    sandboxes = portal().call(get_engine(engine).collect_garbage)
    directories = remove_stale_directories()
    counts = [_count(sandboxes, "sandbox", "sandboxes"), _count(directories, "run directory", "run directories")]
    Screen().say(f"Removed {' and '.join(counts)}.")
    return 0


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
