"""`kernel-sandbox ps` and `gc`: the sandboxes that there are, and what dead owners left."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click
from rich.text import Text

from kernel_sandbox.host.run_directory import remove_stale_directories
from kernel_sandbox.sandbox.engines.all_engines import ask_engines, sandboxes
from kernel_sandbox.sandbox.engines.base import Engine, SandboxInfo
from kernel_sandbox.terminal.console import Screen, make_table
from kernel_sandbox.terminal.options import one_engine_option
from kernel_sandbox.terminal.safe import plain


@click.command(short_help="List the sandboxes that there are.")
@one_engine_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def ps(*, engine: str | None, as_json: bool) -> int:
    """List the sandboxes that there are in any engine, with the processes that own them.

    A sandbox ends with its owner. One whose owner is dead is garbage, which "kernel-sandbox gc" removes.

    \b
    Exit status:
      0     the list was shown
      2     the engine of --engine does not answer
    """
    answers = ask_engines(sandboxes, engine).given.items()
    found = [(name, info) for name, infos in answers for info in infos]
    found.sort(key=lambda pair: pair[1].created)
    if as_json:
        click.echo(json.dumps([_as_json(name, info) for name, info in found], indent=1))
        return 0
    screen = Screen()
    if not found:
        screen.say(("No sandboxes.", "dim"))
        return 0
    table = make_table("SESSION", "ENGINE", "IMAGE", "STATUS", "AGE", "OWNER")
    for name, info in found:
        owner = Text(f"pid {info.owner_pid}" if info.owner_pid else "unknown")
        owner = owner.append(" is dead", "red") if info.owner_gone else owner
        cells = (info.session_id, name, info.image, info.status, _age(info))
        table.add_row(*(plain(text) for text in cells), owner)
    screen.table(table)
    if any(info.owner_gone for _, info in found):
        screen.say("Remove what dead owners left with: ", ("kernel-sandbox gc", "cyan"))
    return 0


async def _collect_garbage(engine: Engine) -> int:
    return await engine.collect_garbage()


def _as_json(engine: str, info: SandboxInfo) -> dict[str, object]:
    return {
        "id": info.id,
        "engine": engine,
        "session_id": info.session_id,
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
@one_engine_option
def gc(*, engine: str | None) -> int:
    """Remove the sandboxes and run directories whose owner on this machine is dead.

    Sandboxes end with their owners by themselves; this is for what a crash of the engine or of the machine left, in
    every engine that answers.

    \b
    Exit status:
      0     done, whether there was anything or not
      2     the engine of --engine does not answer
    """
    removed = sum(ask_engines(_collect_garbage, engine).given.values())
    directories = remove_stale_directories()
    counts = [_count(removed, "sandbox", "sandboxes"), _count(directories, "run directory", "run directories")]
    Screen().say(f"Removed {' and '.join(counts)}.")
    return 0


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
