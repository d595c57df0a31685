"""Who gets the user's data: what a file `.env` says about it is asked about, and all of it is said.

`ask` comes here before anything starts. The environment and the options are the user's own; a directory need not be.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Set
from pathlib import Path

import click

from kernel_sandbox.agents.local_servers import find_local_servers, how_to_get_one
from kernel_sandbox.agents.models import BASE_URL, OpenAILanguageModel
from kernel_sandbox.agents.offline import NEEDS_MODEL
from kernel_sandbox.agents.recipient import ACCESS as NEEDED
from kernel_sandbox.agents.recipient import OFFLINE, ChosenModel, recipient
from kernel_sandbox.doors.cli.dotenv import ACCESS, read_dotenv
from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.terminal import confirming
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.safe import one_line

DOTENV = Path(".env")
DECLINED = "Nothing was sent. --base-url names another server; --model offline asks none."


def take_dotenv(screen: Screen, *, model: str | None, base_url: str | None, yes: bool) -> Set[str] | None:
    """Take the settings of the directory's `.env` into the environment, and return their names.

    A server or an account that it names is taken where the user agrees; None where they do not. `base_url` is their own
    word about the server, `yes` their agreement. Raises click.UsageError where nobody can be asked.
    """
    found = read_dotenv(DOTENV)
    unused = ACCESS if model == OFFLINE else (BASE_URL,) if base_url else ()
    found = {name: value for name, value in found.items() if name not in unused}
    if found.keys() & {*NEEDED} and not (base_url or yes or _agreed(screen, found)):
        screen.say((DECLINED, "yellow"))
        return None
    os.environ.update(found)
    return found.keys()


def _agreed(screen: Screen, found: Mapping[str, str]) -> bool:
    file, where = DOTENV.absolute(), _server(found)
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"{file} decides that your data go to {where}, and there is no terminal to ask on: --yes agrees, "
            f"--base-url URL names the server yourself, --model {OFFLINE} asks none."
        )
    screen.say((f"{file} decides who gets your data:", "bold yellow"))
    screen.say(f"  server:  {where}{'' if BASE_URL in found else '  (default)'}")
    screen.say(f"  account: {_account(found)}")
    screen.say("The question, previews of your files and what cells show would go there.")
    screen.flush()
    return confirming.put(click.confirm, "Send them?", default=False)


def _server(found: Mapping[str, str]) -> str:
    return str(OpenAILanguageModel(base_url=found.get(BASE_URL)).destination)


def _account(found: Mapping[str, str]) -> str:
    named = [name for name in ACCESS if name in found and name != BASE_URL]
    return f"by {' and '.join(named)} of that file" if named else "none"


def who_receives(chosen: ChosenModel, of_dotenv: Set[str]) -> str:
    """Write who receives the data, before they do, and what named each."""
    file = DOTENV.absolute()
    variable = f"{BASE_URL} in {file if BASE_URL in of_dotenv else 'the environment'}"
    places = {"base_url": "--base-url", BASE_URL: variable}
    told = recipient(one_line(chosen.name, 100), chosen.model, named_by=chosen.named_by, places=places)
    accounts = [each for each in ACCESS if each in of_dotenv and each != BASE_URL]
    return f"{told} The account: {' and '.join(accounts)} in {file}." if accounts else told


def no_model(model: str | None) -> str:
    """Write that a question needs a model, and how to get one. Servers are looked for where the user named none."""
    servers = None if model else call_reactor(find_local_servers)
    return f"{NEEDS_MODEL}\n{how_to_get_one(servers, _command)}"


def _command(url: str, model: str) -> str:
    """Write the command that runs, as it was typed, for a model of another server: the last --model counts."""
    typed = shlex.join(["kernel-sandbox", *sys.argv[1:], "--model", model])
    return f"  {BASE_URL}={url} {typed}"
