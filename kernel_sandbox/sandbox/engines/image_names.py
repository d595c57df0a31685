"""The images that this package knows how to make: their names, their folders, their locks.

Each is a folder with a Dockerfile and a lock. `setup` builds it as a container image, and as a directory for
bubblewrap; both from the same packages, with what lies in `common`: files of /etc, and pkg_resources.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import ImageNotFound
from kernel_sandbox.text.spelling import did_you_mean, nearest

LABEL = "org.kernel-sandbox"
FACTS = f"{LABEL}.own"
"""The label with what an image of one's own tells of itself, as JSON."""
NAMESPACE = "kernel-sandbox/"
"""Of our images in an engine. They are built there: whoever has that name on a registry is somebody else."""
OWN_NAME = re.compile(r"(?=.{1,40}$)[a-z0-9]+(?:[._-][a-z0-9]+)*")
"""What an image of one's own may be called: Docker's rule for a part of a name, and fit for a file."""
PACKAGE = Path(__file__).parents[2]
ARCHIVER = PACKAGE / "inside" / "archive.py"
"""Runs in an image while it is made."""
MEMBER = PACKAGE / "inside" / "zip_member.py"
"""Runs in the sandbox in which an environment is made."""


def images_folder() -> Path:
    """Return the folder with one folder per image: inside an installed package, or beside it in a checkout."""
    packaged = PACKAGE / "_images"
    return packaged if packaged.is_dir() else PACKAGE.parent / "images"


def image_names() -> tuple[str, ...]:
    """Name the images that sandboxes start from, in alphabetical order. Each has a lock; images/server has none."""
    return tuple(sorted(path.parent.name for path in images_folder().glob("*/requirements.txt")))


def reference(name: str) -> str:
    """Return what the engine calls an image: ours have a name of their own, others keep theirs."""
    return f"{NAMESPACE}{name}:latest" if name in image_names() else name


def references(name: str) -> tuple[str, ...]:
    """Return under which names an engine may have an image: one of the user's own has ours before it."""
    own = f"{NAMESPACE}{name}:latest"
    return (own, name) if OWN_NAME.fullmatch(name) and name not in image_names() else (reference(name),)


def how_to_get(image: str, there: Iterable[str] = ()) -> str:
    """Write what to do about an image that Docker has not; `there` is what it has.

    To pull it is advised only for a name with a registry or a tag, and for none that is nearly one of ours: a mistyped
    name is anybody's on a registry.
    """
    repository, tagged = _split(image)
    own = repository.removeprefix(NAMESPACE)
    if own in image_names() and (own != repository or not tagged):
        return f"Get it with: kernel-sandbox image build {own}"
    pull = f"docker pull {shlex.quote(image)}"
    if own in image_names():
        return f"Did you mean {own}, this package's own? If not: {pull}"
    there = tuple(there)
    mine = [each.removeprefix(NAMESPACE).removesuffix(":latest") for each in there if each.startswith(NAMESPACE)]
    known = sorted({*image_names(), *filter(OWN_NAME.fullmatch, mine)})
    near = nearest(own, known)
    if near or own != repository:
        return f"{f'Did you mean {near}? ' if near else ''}There are: {', '.join(known)}."
    meant = did_you_mean(image, there).lstrip()
    if tagged or _has_registry(repository):
        return f"{meant} If not: {pull}" if meant else f"Get it with: {pull}"
    return f"{meant or 'See: kernel-sandbox image list.'} Any other is named with its tag, as in me/mine:1.0."


def _split(image: str) -> tuple[str, bool]:
    """Return an image's name without its tag or digest, and whether it had one; a registry's port is none."""
    repository, _, digest = image.partition("@")
    tag = re.search(r":[^:/]*$", repository)
    return repository[: tag.start()] if tag else repository, bool(tag or digest)


def _has_registry(repository: str) -> bool:
    """Return whether a name begins with a host, as Docker tells it from an account of its own registry."""
    host, slash, _ = repository.partition("/")
    return bool(slash) and (host == "localhost" or "." in host or ":" in host)


def lock_digest(name: str) -> str:
    """Return the SHA-256 of all that an image is made from, apart from its base. Raises ImageNotFound."""
    digest = hashlib.sha256()
    own = {str(path.relative_to(folder(name))): path for path in sorted(folder(name).rglob("*"))}
    others = {path.name: path for path in (pip_lock(), ARCHIVER)}
    for inside, path in [*own.items(), *others.items(), *((path.name, path) for path in common_files().values())]:
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{inside} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def own_files(name: str) -> dict[str, Path]:
    """Return an image's own files beside its packages, by their places in it: the folder `files`."""
    place = folder(name) / "files"
    return {str(path.relative_to(place)): path for path in sorted(place.rglob("*")) if path.is_file()}


def common() -> Path:
    """Return the folder of what all images hold besides packages."""
    return images_folder() / "common"


def common_files() -> dict[str, Path]:
    """Return its files by their names in it."""
    found = sorted(path for path in common().rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(common())): path for path in found}


def pip_lock() -> Path:
    return images_folder() / "pip.txt"


def folder(name: str) -> Path:
    if name not in image_names():
        known = ", ".join(image_names()) or "none"
        meant = did_you_mean(name, image_names())
        raise ImageNotFound(f"{name!r} is no image of this package.{meant} There are: {known}. See images/README.md.")
    return images_folder() / name


def main_packages(name: str) -> tuple[str, ...]:
    """Name the packages that an image is for; its lock has what they need, too. Raises ImageNotFound."""
    lines = (folder(name) / "requirements.in").read_text().splitlines()
    return tuple(re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0] for line in lines if re.match(r"[A-Za-z0-9]", line))


def own_facts(labels: Mapping[str, str]) -> dict[str, Any]:
    """Return what an image of one's own tells of itself in a label; nothing where it has none, or an odd one."""
    with contextlib.suppress(ValueError, RecursionError):
        facts = json.loads(labels.get(FACTS, ""))
        return facts if isinstance(facts, dict) else {}
    return {}


def lock_of(name: str) -> str:
    """Return the lock of an image, as a requirements file has it. Raises ImageNotFound."""
    return (folder(name) / "requirements.txt").read_text()


def locked_packages(lock: str) -> tuple[tuple[str, str], ...]:
    """Return the names and versions that a lock holds."""
    return tuple(re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE))


def label_words(name: str, label: str) -> tuple[str, ...]:
    """Return the words of a label of an image, as its Dockerfile sets it."""
    text = (folder(name) / "Dockerfile").read_text()
    found = re.search(rf'^LABEL {LABEL}\.{label}="([^"]*)"', text, re.MULTILINE)
    return tuple(found[1].split()) if found else ()


def label_size(name: str, label: str) -> int:
    """Return the bytes that a label of an image says in megabytes."""
    return int(label_words(name, label)[0]) * 1024**2


def kernel_of(name: str) -> str | None:
    """Return the kernelspec that an image is for; None for Python's."""
    return next(iter(label_words(name, "kernel")), None)


def debian_packages(name: str) -> tuple[str, ...]:
    """Name the packages of Debian that an image holds beside its base."""
    listed = folder(name) / "debian.txt"
    return tuple(listed.read_text().split()) if listed.is_file() else ()


def interrupt_mode(image: str) -> str:
    """Return how the kernel of an image is interrupted: "message", unless one of ours says "signal"."""
    documents = folder(image).glob("files/**/kernel.json") if image in image_names() else ()
    modes = [json.loads(path.read_text()).get("interrupt_mode", "signal") for path in documents]
    return str(next(iter(modes), "message"))
