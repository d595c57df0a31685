"""Images of one's own for bubblewrap: built step by step, listed, removed."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from kernel_sandbox.errors import EngineError, ImageNotFound
from kernel_sandbox.sandbox.engines import environments, registry
from kernel_sandbox.sandbox.engines.environments import Environment
from kernel_sandbox.setup import environment_builder, environment_files, killed_builds, own_environments
from kernel_sandbox.setup.environment_builder import explained, scratch_directory
from kernel_sandbox.setup.fetch_sandbox import BubblewrapFetch
from kernel_sandbox.setup.image_request import ImageRequest
from kernel_sandbox.setup.import_check import try_image
from kernel_sandbox.setup.own_images import (
    OwnImage,
    Resolved,
    facts_of,
    image_digest,
    lock_of_all,
    lock_text,
    pip_wheel,
    require_free,
    resolve,
    unknown_image,
)
from kernel_sandbox.setup.progress import Progress, Report

ENGINE = "bubblewrap"


def build(request: ImageRequest, report: Report, *, replace: bool = False) -> tuple[OwnImage, bool]:
    """Build an image, or find it there; return it, and whether it was there. Raises EngineError."""
    if request.dockerfile is not None or request.apt:
        what = "Packages of Debian are" if request.apt else "A Dockerfile is"
        raise EngineError(
            f"{what} for Docker: add --engine docker. For bubblewrap, whose commands and libraries are copies of this "
            "machine's: --with, or a requirements.txt."
        )
    with contextlib.suppress(ImageNotFound):
        found = describe(request.name)
        if require_free(found, request, replace=replace):
            report(Progress("image", f"{request.name} is up to date"))
            return found, True
    base = environment_builder.build(request.base, report)
    with explained(request.base), scratch_directory(own_environments.place_of_own(request.name, "0" * 16)) as scratch:
        work = scratch.parent / "work"
        (work / "downloads").mkdir(parents=True)
        fetch = BubblewrapFetch(base.root, work / "downloads")
        resolved = resolve(request, ENGINE, request.base, fetch, work, report)
        candidate = _make(request, base, resolved, scratch, report)
        try:
            _publish(request, candidate, resolved.imported, report)
        finally:
            shutil.rmtree(candidate.directory, ignore_errors=True)
    return describe(request.name), False


def _make(request: ImageRequest, base: Environment, resolved: Resolved, scratch: Path, report: Report) -> Environment:
    """Make the environment under a name that nobody else uses."""
    work, packages = scratch.parent / "work", resolved.packages
    new = own_environments.install(base, packages, pip_wheel(report, work), work / "downloads", report)
    own_environments.assemble(base, new, scratch / "root", report)
    lock = lock_text(packages)
    digest = image_digest(base.digest, lock)
    name = f"{request.name}+{secrets.token_hex(4)}"
    facts = facts_of(request, "", (), digest) | {"interpreter": str(environment_files.interpreter())}
    facts |= {"preload": list(base.preload), "kernel": base.kernel, "base_environment": base.directory.name}
    own_environments.write_facts(scratch, facts, lock)
    killed_builds.own(scratch)
    scratch.chmod(0o755)
    place = own_environments.place_of_own(name, digest)
    scratch.rename(place)
    return Environment(name, place, base.preload, base.kernel)


def _publish(request: ImageRequest, candidate: Environment, wanted: Sequence[str], report: Report) -> None:
    """Try a new environment, and give it its name."""
    report(Progress("try it", f"import {', '.join(wanted) or 'nothing new'} in a sandbox"))
    lock = (candidate.directory / "requirements.txt").read_text()
    contents = try_image(ENGINE, candidate.name, wanted, request.name, lock_of_all(request, lock))
    facts = environments.read_facts(candidate.directory)
    facts |= {"python": contents.python, "packages": [list(package) for package in contents.packages]}
    own_environments.write_facts(candidate.directory, facts, lock)
    place = own_environments.place_of_own(request.name, candidate.digest)
    if _is_used(place):
        own_environments.write_facts(place, facts, lock)  # its files are the same: what is new is what was asked for
    else:
        if place.exists():
            _remove(place)
        candidate.directory.rename(place)
        killed_builds.disown(place)
    for path in _directories(request.name):
        if path != place and not _is_used(path):  # one in use is for the next build, or for `remove`
            _remove(path)


def _directories(name: str) -> list[Path]:
    return sorted(environments.shelf().glob(f"{name}-{'[0-9a-f]' * 16}"))


def _is_used(directory: Path) -> bool:
    return str(directory) in {record["environment"] for record in registry.records()}


def _remove(directory: Path) -> None:
    """Take an environment from the shelf in one step, and delete it then."""
    with scratch_directory(directory) as gone:
        directory.rename(gone / "image")


def describe(name: str) -> OwnImage:
    """Return what an image tells of itself. Raises ImageNotFound."""
    environment = environments.find_own(name)
    if environment is None or "+" in name:
        raise unknown_image(name, ENGINE, environments.own_names())
    facts = environments.read_facts(environment.directory)
    base = str(facts.get("base", ""))
    lock = environment.directory / "requirements.txt"
    return OwnImage(
        engine=ENGINE,
        name=name,
        place=str(environment.directory),
        base=base,
        asked=tuple(facts.get("asked", ())),
        request=str(facts.get("request", "")),
        python=str(facts.get("python", "")),
        packages=tuple((each[0], each[1]) for each in facts.get("packages", ())),
        digest=environment.digest,
        created=float(facts.get("created", 0)),
        size=environments.size(environment),
        lock=lock.read_text() if lock.is_file() else "",
        outdated=environments.place_of(base).name != facts.get("base_environment"),
    )


def remove(name: str) -> None:
    """Remove an image. Raises ImageNotFound, and EngineError while a sandbox uses it."""
    describe(name)
    directories = _directories(name)
    if any(map(_is_used, directories)):
        raise EngineError(f"A sandbox of {name} runs: end it first (kernel-sandbox ps).")
    for directory in directories:
        _remove(directory)
