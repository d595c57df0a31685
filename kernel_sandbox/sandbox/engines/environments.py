"""The environment from which a bubblewrap sandbox gets its file system, where there is one: `find` looks for it.

A directory with Python, its libraries and an image's packages: the same locked packages as the container image of that
name, for this machine's own interpreter. Nothing in it is the host's but copies. `setup` makes it.

    <prefix>/environments/<name>-<digest>/    environment.json, root/

An image of one's own has there a lock too, requirements.txt, and its environment.json tells what it holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import EngineError, ImageNotFound
from kernel_sandbox.host import directories
from kernel_sandbox.sandbox.engines.image_names import OWN_NAME, image_names, kernel_of, label_words, lock_digest
from kernel_sandbox.text.spelling import did_you_mean

PREFIX_VARIABLE = "KERNEL_SANDBOX_PREFIX"
LAYOUT = 4
"""Raised when what is made from the same packages changes; older directories are then made anew."""


@dataclass(frozen=True, slots=True)
class Environment:
    """One that is complete."""

    name: str
    directory: Path
    preload: tuple[str, ...]
    kernel: str | None = None
    """The kernelspec that it is for, if not Python's."""

    @property
    def root(self) -> Path:
        """What becomes the sandbox's root directory."""
        return self.directory / "root"

    @property
    def digest(self) -> str:
        """Of all that it was made from."""
        return self.directory.name.rpartition("-")[2]


def prefix() -> Path:
    """Return where environments are kept: KERNEL_SANDBOX_PREFIX, or a cache directory of this user.

    Root's is under /var/cache: a sandbox of root's runs as another user, who cannot look into /root.
    """
    if given := os.environ.get(PREFIX_VARIABLE):
        if not Path(given).expanduser().is_absolute():
            raise EngineError(
                f"{PREFIX_VARIABLE}={given!r} is another place in each directory: set an absolute path, so that nobody "
                "else makes what sandboxes start from."
            )
        return Path(given).expanduser()
    return directories.cache(seen_by_others=True)


def place_of(name: str) -> Path:
    """Return where the environment of an image is, or would be: its digest is of all that it is made from."""
    interpreter = (
        f"{sys.implementation.cache_tag} {platform.python_version()} {sysconfig.get_platform()} {sys.base_prefix}"
    )
    made_from = f"{LAYOUT}\n{lock_digest(name)}\n{interpreter}"
    return shelf() / f"{name}-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"


def shelf() -> Path:
    """Return the directory in which they lie, side by side."""
    return prefix() / "environments"


def find(name: str) -> Environment:
    """Return the environment of this name. Raises ImageNotFound where it has not been made, or is out of date."""
    if name not in image_names():
        if own := find_own(name):
            return own
        known = ", ".join((*image_names(), *own_names()))
        meant = did_you_mean(name, (*image_names(), *own_names()))
        raise ImageNotFound(
            f"The bubblewrap engine has no image {name!r}.{meant} It knows {known}; Docker takes any image. "
            "One of your own: kernel-sandbox image build --help"
        )
    place = place_of(name)
    if not _is_complete(place):
        remedy = f"kernel-sandbox image build {name} --engine bubblewrap"
        raise ImageNotFound(f"The bubblewrap engine has no image {name!r} under {prefix()}. Make it with: {remedy}")
    return Environment(name, place, label_words(name, "preload"), kernel_of(name))


CANDIDATE = re.compile(r"\+[0-9a-f]{8}")
"""What follows the name of an image that is still to be tried; no image that is there has it."""


def find_own(name: str) -> Environment | None:
    """Return the newest environment of an image of one's own, or of one that is still to be tried."""
    if not OWN_NAME.fullmatch(CANDIDATE.sub("", name)):
        return None
    found = [(made(environment), environment) for environment in _own_environments(name)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def own_names() -> tuple[str, ...]:
    """Name the images of one's own that bubblewrap has, in alphabetical order."""
    return tuple(sorted({environment.name for environment in _own_environments()}))


def _own_environments(name: str | None = None) -> list[Environment]:
    pattern = f"{name or '*'}-{'[0-9a-f]' * 16}"
    found = []
    for directory in shelf().glob(pattern):
        own = directory.name.rpartition("-")[0]
        facts = read_facts(directory) if own not in image_names() else {}
        if facts.get("own") and (name or OWN_NAME.fullmatch(own)):
            found.append(Environment(own, directory, tuple(facts.get("preload", ())), facts.get("kernel")))
    return found


def read_facts(directory: Path) -> dict[str, Any]:
    """Return what the environment in a directory tells of itself; nothing where it is not complete."""
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads((directory / "environment.json").read_text())
        return facts if isinstance(facts, dict) else {}
    return {}


def _is_complete(place: Path) -> bool:
    try:
        return (place / "environment.json").is_file()
    except OSError:  # a directory above cannot be looked into
        return False


def installed() -> dict[str, Environment]:
    """Return the environments that are complete and up to date, by name."""
    found = {}
    for name in image_names():
        with contextlib.suppress(ImageNotFound):
            found[name] = find(name)
    return found


def made(environment: Environment) -> float:
    """Return when it was made, in seconds since the epoch."""
    return (environment.directory / "environment.json").stat().st_mtime


def size(environment: Environment) -> int:
    """Return the bytes that its files take."""
    return sum(entry.lstat().st_size for entry in environment.root.rglob("*"))
