"""What an image holds, in a few words, for the models that write cells: this image's packages, not those of any."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.image_names import OWN_NAME, image_names, main_packages

if TYPE_CHECKING:
    from kernel_sandbox.setup.own_images import OwnImage

UNSPOKEN = ("ipykernel", "orjson")
"""What is there for the kernel."""
UNKNOWN = "list what is installed with !pip list"
MOST = 80


def installed(image: str) -> str:
    """Say what is installed in an image; of one that was not built here, how to find out."""
    names = main_packages(image) if image in image_names() else _own(image)
    if names is None:
        return UNKNOWN
    *most, last = [name for name in names if name not in UNSPOKEN][:MOST] or ["the standard library"]
    return f"installed are {', '.join(most)} and {last}" if most else f"installed is {last}"


def _own(image: str) -> tuple[str, ...] | None:
    if not OWN_NAME.fullmatch(image):
        return None
    from kernel_sandbox.setup import own_bubblewrap, own_docker  # which import what builds images, and docker

    for engine in (own_bubblewrap, own_docker):
        with contextlib.suppress(EngineError):
            return held(engine.describe(image))
    return None


def held(own: OwnImage) -> tuple[str, ...]:
    """Name what an image of one's own is for: what its base is for, and what was asked for beside it."""
    base = main_packages(own.base) if own.base in image_names() else ()
    asked = [re.split(r"[\s\[<>=!~;]|-\d", each.removeprefix("apt:"), maxsplit=1)[0] for each in own.asked]
    return tuple(dict.fromkeys((*base, *asked))) or tuple(name for name, _ in own.packages)
