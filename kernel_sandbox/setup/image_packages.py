"""What an image holds, in a few words, for the models that write cells: this image's packages, not those of any."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.choice import VARIABLE
from kernel_sandbox.sandbox.engines.image_names import OWN_NAME, image_names, kernel_of, main_packages
from kernel_sandbox.spec.languages import LANGUAGES, PYTHON, Language, language_named, language_of_image

if TYPE_CHECKING:
    from kernel_sandbox.setup.own_images import OwnImage

UNSPOKEN = ("ipykernel", "orjson")
"""What is there for the kernel."""
UNKNOWN = "list what is installed with !pip list"
MOST = 80


def installed(image: str, engine: str | None = None) -> str:
    """Return what is installed in an image, in words; of one that was not built here, how to find out.

    Each engine has its images of one's own, and one of this name: without `engine`, the first that sessions choose.
    """
    own = None if image in image_names() else _own(image, engine)
    names = main_packages(image) if image in image_names() else held(own) if own is not None else None
    if names is None:
        return UNKNOWN
    *most, last = [name for name in names if name not in UNSPOKEN][:MOST] or ["the standard library"]
    return f"installed are {', '.join(most)} and {last}" if most else f"installed is {last}"


def language_of(image: str, engine: str | None = None, kernel: str | None = None) -> Language:
    """Return the language of the kernel that a session will have, as far as it can be known before there is one."""
    if kernel is not None:
        languages = (language for language in LANGUAGES if language.image and kernel_of(language.image) == kernel)
        return next(languages, PYTHON if kernel.startswith("python") else language_named(kernel))
    own = None if image in image_names() else _own(image, engine)
    return language_of_image(own.base if own is not None else image)


def _own(image: str, engine: str | None) -> OwnImage | None:
    if not OWN_NAME.fullmatch(image):
        return None
    engine = engine or os.environ.get(VARIABLE)
    from kernel_sandbox.setup import own_bubblewrap, own_docker  # which import what builds images, and docker

    engines = {"docker": own_docker.describe, "bubblewrap": own_bubblewrap.describe}
    for describe in [engines[engine]] if engine in engines else engines.values():
        with contextlib.suppress(EngineError):
            return describe(image)
    return None


def held(own: OwnImage) -> tuple[str, ...]:
    """Name what an image of one's own is for: what its base is for, and what was asked for beside it."""
    base = main_packages(own.base) if own.base in image_names() else ()
    asked = [re.split(r"[\s\[<>=!~;]|-\d", each.removeprefix("apt:"), maxsplit=1)[0] for each in own.asked]
    return tuple(dict.fromkeys((*base, *asked))) or tuple(name for name, _ in own.packages)
