"""Where a command is started and what is typed: names that are nearly ours."""

from __future__ import annotations

from kernel_sandbox import ImageNotFound
from kernel_sandbox.engines import docker

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


REMOVALS = {
    "near names first": Removal(
        severity="Escape", remove=advice_with_the_name_as_it_was_typed, succeeds=be_pulled_by_mistake
    ),
}
