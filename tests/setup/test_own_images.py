"""Images of one's own, built by the command, and used by their names in sessions."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_sandbox import Session
from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.sandbox.engines import environments
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.wheels import make_wheel

COMMAND = Path(sys.executable).with_name("kernel-sandbox")
NAME = f"own-test-{os.getpid()}"


def image(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `kernel-sandbox image`."""
    environment = {**os.environ, **variables}
    return subprocess.run([COMMAND, "image", *arguments], capture_output=True, text=True, env=environment, check=False)


def refused(*arguments: str, **variables: str) -> str:
    """Run it where it must fail; return what it said, one error."""
    done = image("build", NAME, *arguments, **variables)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def left_of(name: str) -> list[str]:
    """Return what the engines have by this name, whole or in parts, and what builds that have ended left."""
    tags = [str(tag) for each in connect().images.list() for tag in each.tags if name in tag]
    parts = [
        path
        for path in environments.shelf().glob(".part-*/owner.json")
        if Owner(**json.loads(path.read_text())).is_gone
    ]
    return [*tags, *map(str, environments.shelf().glob(f"*{name}*")), *map(str, parts)]


@pytest.fixture
def named() -> Iterator[str]:
    """The name of an image that is gone afterwards."""
    yield NAME
    image("remove", NAME)
    assert not left_of(NAME)


def test_image_of_ones_own_is_built_used_shown_and_removed(engine: str, tmp_path: Path, named: str) -> None:
    wheel = make_wheel(tmp_path, "tinypackage", {"tinypackage.py": "answer = 42\n"})
    asked = ["build", named, "--from", "python", "--with", str(wheel), "--engine", engine]
    built = image(*asked)
    assert built.returncode == 0, built.stderr
    assert "try it: import tinypackage in a sandbox" in built.stdout
    assert " is up to date" in image(*asked).stdout.splitlines()[-2]
    with Session(engine=engine, image=named) as session:
        assert session.execute("import tinypackage; tinypackage.answer").text == "42"
    shown = image("show", named, "--engine", engine).stdout
    assert "tinypackage" in shown
    assert "ipykernel" in shown
    assert (
        f"tinypackage==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
        in image("show", named, "--lock").stdout
    )
    assert named in image("list", "--engine", engine).stdout
    assert "removed" in image("remove", named).stdout
    assert f"No engine has an image {named!r}" in image("show", named).stderr
