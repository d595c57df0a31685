"""What builds of images were making when they were killed: the next build removes it.

Directories hold a file that says which process makes them, containers and images of an engine a label. What a process
has that lives, or that cannot be judged from here, stays.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host.run_directory import Owner
from kernel_sandbox.sandbox.engines.docker_client import translated_errors
from kernel_sandbox.sandbox.engines.image_names import LABEL, NAMESPACE

if TYPE_CHECKING:
    import docker

OWNER_FILE = "owner.json"
BUILD_LABEL, OWNER_LABEL = f"{LABEL}.build", f"{LABEL}.build.owner"
CANDIDATE = re.compile(rf"{re.escape(NAMESPACE)}[a-z0-9._-]+:candidate-[0-9a-f]{{8}}")
"""An image of an engine that is still to be tried."""


def owner() -> str:
    """Describe this process, for a label or a file."""
    return json.dumps(asdict(Owner.current()))


def labels(what: str) -> dict[str, str]:
    """Return the labels of a container of this process's build."""
    return {BUILD_LABEL: what, OWNER_LABEL: owner()}


def own(directory: Path) -> None:
    """Note that this process makes a directory."""
    (directory / OWNER_FILE).write_text(owner())


def disown(directory: Path) -> None:
    """Note that a directory is complete."""
    (directory / OWNER_FILE).unlink(missing_ok=True)


def _is_gone(told: str) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        return Owner(**json.loads(told)).is_gone
    return False


def remove_directories(place: Path, *patterns: str) -> None:
    """Remove the directories that nobody makes any more."""
    for directory in [each for pattern in patterns for each in place.glob(pattern)]:
        with contextlib.suppress(OSError):
            if _is_gone((directory / OWNER_FILE).read_text()):
                shutil.rmtree(directory, ignore_errors=True)


def remove_from_engine(client: docker.DockerClient) -> None:
    """Remove the containers of builds, and the images that were to be tried; one in use goes at the next build."""
    of_builds = {"label": [BUILD_LABEL, OWNER_LABEL]}  # both: the labels of an image are its containers' too
    with contextlib.suppress(EngineError), translated_errors():
        for container in client.api.containers(all=True, filters=of_builds):
            if _is_gone(container["Labels"][OWNER_LABEL]):
                with contextlib.suppress(EngineError), translated_errors():
                    client.api.remove_container(container["Id"], force=True)
        for image in client.api.images(filters={"label": OWNER_LABEL}):
            if _is_gone(image["Labels"][OWNER_LABEL]):
                for tag in filter(CANDIDATE.fullmatch, image["RepoTags"] or ()):
                    with contextlib.suppress(EngineError), translated_errors():
                        client.api.remove_image(tag)
