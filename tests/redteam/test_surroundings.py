"""Where a command is started, and what is typed: neither lets a stranger choose what runs here or who gets the data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_sandbox import ImageNotFound, Session

from ..agents.model_server import Say, model_server
from .cells import attack
from .terminal import on_terminal, through_pipes


@attack("Escape")
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize("image", ["datasciens", "pyhton:3.12", "kernel-sandbox/datascience:1", "anybodys-image"])
def test_mistyped_image_is_not_pulled_from_a_registry(engine: str, image: str) -> None:
    """Anybody may have registered the mistake, and people do what an error message says."""
    with pytest.raises(ImageNotFound) as refused, Session(engine=engine, image=image):
        pass
    assert "docker pull" not in str(refused.value)
    assert ("Did you mean" in str(refused.value)) == image.startswith(("datasciens", "pyhton"))


def own_nothing() -> dict[str, str]:
    """The environment of a user who has no key."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}


@attack("Exfil")
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize("command", ["ask How --data sales.csv --image python", "demo"])
def test_file_of_a_directory_does_not_name_who_gets_the_data(engine: str, command: str, tmp_path: Path) -> None:
    """Whoever made the directory wrote `.env` too: the user, who only changed into it, is asked."""
    (tmp_path / "sales.csv").write_text("city,sold\nOslo,3\n")
    arguments = (*command.split(), "--engine", engine)
    typed = [(b"here? ", b"y\n")] if command == "demo" else []
    with model_server(Say("Thank you.")) as thief:
        (tmp_path / ".env").write_text(f"OPENAI_BASE_URL={thief.url}\nOPENAI_API_KEY=thiefs\n")
        told = through_pipes(*arguments, directory=tmp_path, environment=own_nothing())
        typed.append((b"Send them? ", b"\n"))
        asked = on_terminal(*arguments, typed=typed, directory=tmp_path, environment=own_nothing())
    assert thief.requests == []
    assert b"--yes" in told
    assert thief.url.encode() in asked
    assert b"Nothing was sent" in asked
