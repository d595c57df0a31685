"""Images of one's own, in either engine: built, described, removed. `kernel-sandbox image` comes here.

An image is an existing one with packages beside it, locked with their hashes. It has its name only once a session of it
has imported what was asked for; whatever goes wrong before leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import EngineError, ImageNotFound
from kernel_sandbox.sandbox.engines.image_names import image_names, lock_of, locked_packages, pip_lock
from kernel_sandbox.setup import wheels
from kernel_sandbox.setup.fetch_sandbox import GIVEN, FetchSandbox
from kernel_sandbox.setup.image_request import ImageRequest
from kernel_sandbox.setup.package_fetch import LockedPackage, Wanted, cached, fetch_packages
from kernel_sandbox.setup.pip_settings import read_pip_settings
from kernel_sandbox.setup.progress import Report
from kernel_sandbox.setup.source_builds import SourceBuilds
from kernel_sandbox.text.spelling import did_you_mean


@dataclass(frozen=True, slots=True)
class OwnImage:
    """What an image of one's own tells of itself."""

    engine: str
    name: str
    place: str
    """A directory, or the engine's reference."""
    base: str
    asked: tuple[str, ...]
    """What it was asked to hold."""
    request: str
    """The digest of the request."""
    python: str
    packages: tuple[tuple[str, str], ...]
    """Names and versions of all that it holds."""
    digest: str
    created: float
    """Seconds since the epoch."""
    size: int
    """Bytes, with its base."""
    lock: str = ""
    """What was added, with hashes, as a requirements file has it."""
    outdated: bool = False
    """Whether its base has been built anew since."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an image gets beside its base."""

    packages: tuple[LockedPackage, ...] = ()
    imported: tuple[str, ...] = ()
    """The names of the packages that are asked for and there: these are imported to try the image."""


def request_digest(request: ImageRequest) -> str:
    """Return a digest of what is asked for, files included."""
    files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (*request.files, *_dockerfile(request))]
    told = [request.name, request.base, sorted(request.requirements), sorted(files), sorted(request.apt)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _dockerfile(request: ImageRequest) -> list[Path]:
    return [request.dockerfile] if request.dockerfile is not None else []


def require_free(found: OwnImage | None, request: ImageRequest, *, replace: bool) -> bool:
    """Return whether an image is there that holds what is asked for. Raises EngineError where the name is taken."""
    if found is None:
        return False
    if found.request == request_digest(request) and not found.outdated:
        return not replace and request.dockerfile is None  # what lies beside that may be new: the engine knows
    if replace or found.request == request_digest(request):
        return False
    raise EngineError(
        f"There is an image {request.name} already, with {', '.join(found.asked) or 'other contents'}. Replace it: add "
        f"--replace. Or remove it: kernel-sandbox image remove {request.name}"
    )


def resolve(
    request: ImageRequest, engine: str, image: str, sandbox: FetchSandbox, scratch: Path, report: Report
) -> Resolved:
    """Resolve and download what is asked for beside the base. Raises EngineError."""
    settings = read_pip_settings()
    pip = pip_wheel(report, scratch)
    at_hand = scratch / "at-hand"
    at_hand.mkdir()
    counter = iter(range(100))

    def fetch(lines: Sequence[str], constraints: str, at: Path, *, apart: bool = False) -> list[LockedPackage]:
        wanted = Wanted(tuple(lines), constraints, request.base, pip, at, apart)
        return fetch_packages(wanted, sandbox, settings, builds.build, report)

    def needed(lines: Sequence[str]) -> list[Path]:
        """Wheels of what a source archive needs to be built; they are no part of the image."""
        empty = scratch / f"needed-{next(counter)}"
        empty.mkdir()
        return [cached(package) for package in fetch(lines, "", empty, apart=True)]

    builds = SourceBuilds(engine, image, pip, needed)
    lines, named = list(request.requirements), [_named(line) for line in request.requirements]
    for path in request.files:
        if path.suffix == ".whl":
            wheel = at_hand / path.name
            wheel.write_bytes(path.read_bytes())
        else:
            wheel = builds.build(path, at_hand)
        lines.append(f"{GIVEN}/wheels/{wheel.name}")
        named.append(wheel.name.partition("-")[0])
    packages = fetch(lines, base_pins(request.base), at_hand) if lines else []
    return Resolved(tuple(packages), imported(named, packages, request.base))


def imported(named: Iterable[str], packages: Sequence[LockedPackage], base: str) -> tuple[str, ...]:
    """Return those of the names that an image holds: pip leaves a line out whose marker is false there."""
    there = {_alike(_named(line)): _named(line) for line in base_pins(base).splitlines()}
    there |= {_alike(package.name): package.name for package in packages}
    return tuple(dict.fromkeys(there[_alike(name)] for name in named if _alike(name) in there))


def _named(line: str) -> str:
    """Return the name of the package that a requirement is about."""
    return re.split(r"[\s\[<>=!~;]", line, maxsplit=1)[0]


def _alike(name: str) -> str:
    """Return what all spellings of a package's name have in common (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pip_wheel(report: Report, scratch: Path) -> Path:
    """Return pip's own wheel, the one that the images are locked to."""
    directory = wheels.fetch_for_this_machine([pip_lock()], report, instead=scratch / "pip")
    return next(directory.glob("pip-*.whl"))


def base_pins(base: str) -> str:
    """Return what a base holds as constraints: what is there stays as it is."""
    return "".join(f"{name}=={version}\n" for name, version in locked_packages(lock_of(base)))


def lock_of_all(request: ImageRequest, added: str) -> str:
    """Return the lock of a whole image: its base's, and what is added."""
    return f"{lock_of(request.base)}\n{added}" if request.base else added


def unknown_image(name: str, engine: str, there: Iterable[str] = ()) -> ImageNotFound:
    """Return the error for an image of one's own that there is not; `there` are those that there are."""
    if name in image_names():
        return ImageNotFound(f"{name} is an image of this package, and none of your own.")
    meant = did_you_mean(name, (*image_names(), *there))
    return ImageNotFound(f"{engine} has no image {name!r} that was built here.{meant} See: kernel-sandbox image list")


def lock_text(packages: Sequence[LockedPackage]) -> str:
    """Write the lock of what is added to a base."""
    return "".join(package.line for package in sorted(packages, key=lambda each: each.name.lower()))


def image_digest(*parts: str) -> str:
    """Return what an image is known by: a digest of all that it was made from."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def facts_of(request: ImageRequest, python: str, packages: Sequence[tuple[str, str]], digest: str) -> dict[str, Any]:
    """Return what an image is to tell of itself, for OwnImage."""
    return {
        "image": request.name,
        "own": True,
        "base": request.base,
        "asked": list(request.asked),
        "request": request_digest(request),
        "python": python,
        "packages": [list(package) for package in packages],
        "digest": digest,
        "created": time.time(),
    }
