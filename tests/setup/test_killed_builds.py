"""Builds of images that are killed: what they were making is gone with the next build."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from kernel_sandbox.sandbox.engines.docker_client import connect
from kernel_sandbox.setup.killed_builds import BUILD_LABEL
from tests.setup.test_own_images import COMMAND, image, left_of
from tests.setup.test_own_images import named as named
from tests.wheels import make_wheel


def begun(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Begin to build an image."""
    command = [str(COMMAND), "image", "build", *arguments]
    environment = {**os.environ, **variables}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdout=pipe, stderr=nothing, text=True, env=environment)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def containers() -> list[str]:
    """Return the containers that builds have made here."""
    found = connect().api.containers(all=True, filters={"label": BUILD_LABEL})
    return [each["Id"] for each in found]


def test_image_whose_build_is_killed_while_it_is_tried_is_removed_by_the_next(
    engine: str, tmp_path: Path, named: str
) -> None:
    slow = make_wheel(tmp_path, "slowpackage", {"slowpackage.py": "import time; time.sleep(600)"})
    quick = make_wheel(tmp_path, "quickpackage", {"quickpackage.py": ""})
    common = [named, "--from", "python", "--engine", engine, "--with"]
    process = begun(*common, str(slow))
    assert process.stdout is not None
    assert any("try it" in line for line in process.stdout)
    kill(process)
    left = left_of(named)
    assert left
    built = image("build", *common, str(quick))
    assert built.returncode == 0, built.stderr
    assert not set(left) & set(left_of(named))


@pytest.mark.usefixtures("docker")
def test_container_of_a_build_that_is_killed_is_removed_by_the_next(tmp_path: Path, named: str) -> None:
    before = containers()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        common = [named, "--from", "python", "--engine", "docker", "--with"]
        process = begun(*common, "tinypackage", PIP_INDEX_URL=index, PIP_EXTRA_INDEX_URL="", PIP_FIND_LINKS="")
        asked, _ = silent.accept()
        kill(process)
        left = set(containers()) - set(before)
        assert len(left) == 1
        wheel = make_wheel(tmp_path, "quickpackage", {"quickpackage.py": ""})
        assert image("build", *common, str(wheel)).returncode == 0
        asked.close()
    assert not left & set(containers())
