"""`kernel-sandbox keys`: make, list and revoke the API keys of the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.text import Text

from kernel_sandbox.service import settings
from kernel_sandbox.service.identity import ROLES, Role
from kernel_sandbox.service.keys import KeyRecord, make_key
from kernel_sandbox.service.storage import Store
from kernel_sandbox.terminal.console import Screen, make_table
from kernel_sandbox.terminal.safe import plain

T = TypeVar("T")
_STYLES = {"active": "green", "expired": "yellow", "revoked": "dim"}


def database_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config and --database, for what works on the database of a service beside it."""
    place = "The database of the service: a path, or a SQLAlchemy URL.  [default: where `serve` keeps it]"
    command = click.option("--database", metavar="PLACE", help=place)(command)
    file = "The TOML file that `serve` is given; the environment is read as there."
    return click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help=file)(command)


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of the service.

    A service that runs takes a new key, and refuses a revoked one, at the next request. One that is open to everybody
    on this machine asks for keys from the first one on; revoking it does not open it again.

    \b
    Examples:
      kernel-sandbox keys create alice
      kernel-sandbox keys create agents --prefix team-a/ --expires 90
      kernel-sandbox keys create monitor --role admin
      kernel-sandbox keys create bob --config server.toml
      kernel-sandbox keys list
      kernel-sandbox keys revoke 0123456789abcdef
    """


@keys.command("create", short_help="Make a key.")
@click.argument("name")
@click.option("--role", "roles", type=click.Choice(ROLES), multiple=True, help="Repeatable.  [default: executor]")
@click.option("--prefix", "prefixes", metavar="P", multiple=True, help="Only sessions whose identifier begins so.")
@click.option("--identifier", "identifiers", metavar="I", multiple=True, help="Only the session with this identifier.")
@click.option("--expires", metavar="DAYS", type=float, help="After so many days it opens nothing.  [default: never]")
@database_option
def create_command(
    name: str,
    *,
    roles: tuple[Role, ...],
    prefixes: tuple[str, ...],
    identifiers: tuple[str, ...],
    expires: float | None,
    config: Path | None,
    database: str | None,
) -> int:
    """Make a key for NAME, and show it: this once, since only a hash of it is kept.

    NAME says whose it is. Keys of one name are one identity and share its sessions, so a new key can take over from an
    old one. An executor uses sessions of its own; an admin sees and shuts down everybody's. --prefix and --identifier
    may be repeated, and what fits any of them is allowed, to an admin too. A prefix best ends in a mark: team-1 is
    the start of team-10.

    \b
    Exit status:
      0     the key was made: it is on stdout, and what is said about it on stderr
      2     it was not: stderr says why
    """
    lifetime = None if expires is None else _days(expires)
    text, record = make_key(
        name, roles=roles or ("executor",), prefixes=prefixes, identifiers=identifiers, expires_in=lifetime
    )
    _on_store(config, database, lambda store: store.add_key(record))
    click.echo(text)
    click.echo(f"This is the key of {name}. It is not shown again. Its id is {record.id}.", err=True)
    return 0


def _days(number: float) -> timedelta:
    try:
        return timedelta(days=number)
    except (OverflowError, ValueError) as exc:
        raise click.BadParameter("give a number of days.", param_hint="--expires") from exc


@keys.command("list", short_help="List the keys.")
@database_option
def list_command(*, config: Path | None, database: str | None) -> int:
    """List the keys: whose they are, what they allow, and when they were used last.

    \b
    Exit status:
      0     the list was shown
      2     the database cannot be used
    """
    records = _on_store(config, database, lambda store: store.list_keys())
    screen = Screen()
    if not records:
        screen.say(("No keys.", "dim"))
        return 0
    table = make_table("ID", "NAME", "STATE", "ROLES", "SESSIONS", "CREATED", "EXPIRES", "LAST USED")
    for record in records:
        state = record.state(datetime.now(UTC))
        roles = ", ".join(sorted(record.roles))
        times = (_moment(record.created), _moment(record.expires), _moment(record.last_used))
        table.add_row(record.id, plain(record.name), Text(state, _STYLES[state]), roles, plain(_scope(record)), *times)
    screen.table(table)
    return 0


def _scope(record: KeyRecord) -> str:
    return ", ".join([*(f"{prefix}…" for prefix in record.prefixes), *record.identifiers]) or "any"


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else ""


@keys.command("revoke", short_help="Revoke a key.")
@click.argument("key_id", metavar="ID")
@database_option
def revoke_command(key_id: str, *, config: Path | None, database: str | None) -> int:
    """Revoke the key with this ID: from now on it opens nothing. "keys list" shows the ids.

    \b
    Exit status:
      0     it is revoked
      2     there is no such key, or it was revoked before
    """
    if not _on_store(config, database, lambda store: store.revoke_key(key_id)):
        raise click.UsageError(
            "There is no key with this id that is not revoked yet. kernel-sandbox keys list shows them."
        )
    Screen().say("Revoked.")
    return 0


def _on_store(config: Path | None, database: str | None, work: Callable[[Store], Awaitable[T]]) -> T:
    """Work on the database that `serve` would use with the same file, environment and option."""
    place = settings.load(config, os.environ, {"database": database}).database

    async def run() -> T:
        async with Store(place) as store:
            return await work(store)

    return asyncio.run(run())
