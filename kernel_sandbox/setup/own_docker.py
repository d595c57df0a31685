"""Images of one's own in a Docker engine: built step by step, described, removed.

What a package brings runs in the build's containers at most, and first in a session that tries the image.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import replace as changed
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_sandbox.errors import EngineError, ImageNotFound
from kernel_sandbox.sandbox.engines.docker_client import connect, translated_errors
from kernel_sandbox.sandbox.engines.image_names import (
    FACTS,
    LABEL,
    NAMESPACE,
    OWN_NAME,
    how_to_get,
    image_names,
    images_folder,
    reference,
)
from kernel_sandbox.setup import docker_images, killed_builds, own_debian
from kernel_sandbox.setup.fetch_sandbox import ContainerFetch
from kernel_sandbox.setup.image_builder import build_context, build_directory, remove_untagged, run_build
from kernel_sandbox.setup.image_request import ImageRequest
from kernel_sandbox.setup.import_check import try_image
from kernel_sandbox.setup.killed_builds import OWNER_LABEL
from kernel_sandbox.setup.own_environments import CHECK
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
from kernel_sandbox.setup.package_fetch import cached
from kernel_sandbox.setup.progress import Progress, Report
from kernel_sandbox.setup.wheels import cache_directory

if TYPE_CHECKING:
    import docker

ENGINE = "docker"
LABELLED = b"ARG BASE\nFROM ${BASE}\n"
"""Adds labels to an image that has been tried."""


def build(request: ImageRequest, report: Report, *, replace: bool = False) -> tuple[OwnImage, bool]:
    """Build an image, or find it there; return it, and whether it was there. Raises EngineError."""
    client = connect()
    killed_builds.remove_from_engine(client)
    found = None
    with contextlib.suppress(ImageNotFound):
        found = describe(request.name)
    if found is not None and require_free(found, request, replace=replace):
        report(Progress("image", f"{found.place} is up to date"))
        return found, True
    _require_no_other(client, request.name, known=found is not None)
    with _scratch() as scratch, _candidate(client, request) as candidate:
        if request.dockerfile is not None:
            resolved, base_id = Resolved(), ""
            _require_bases(client, request.dockerfile.read_text())
            labels = {OWNER_LABEL: killed_builds.owner()}
            build_directory(client, request.dockerfile, tag=candidate, labels=labels, report=report)
        else:
            resolved, base_id = _build_on_base(client, request, candidate, scratch, report)
        _publish(client, request, candidate, resolved, base_id, report)
    with translated_errors():
        left = client.api.images(quiet=True, filters={"dangling": True, "label": f"{LABEL}.image={request.name}"})
    remove_untagged(client, left)
    killed_builds.remove_from_engine(client)  # the trial has ended the sandboxes in which the others were tried
    return describe(request.name), False


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
        killed_builds.remove_directories(cache_directory(), ".part-*")
        with tempfile.TemporaryDirectory(dir=cache_directory(), prefix=".part-") as directory:
            killed_builds.own(Path(directory))
            yield Path(directory)
    except OSError as exc:
        place = cache_directory()
        raise EngineError(
            f"Packages cannot be downloaded to {place} ({exc.strerror or exc}): make room there."
        ) from exc


@contextlib.contextmanager
def _candidate(client: docker.DockerClient, request: ImageRequest) -> Iterator[str]:
    """Give a name for an image that is still to be tried; what has it at the end, has it no longer."""
    tag = f"{NAMESPACE}{request.name}:candidate-{secrets.token_hex(4)}"
    try:
        yield tag
    finally:
        with contextlib.suppress(EngineError), translated_errors():
            client.api.remove_image(tag, noprune=False)


def _require_no_other(client: docker.DockerClient, name: str, *, known: bool) -> None:
    """Refuse a name that means another image in this engine."""
    for other in (name, *(() if known else (own_reference(name),))):
        with contextlib.suppress(ImageNotFound), translated_errors():
            client.images.get(other)
            raise EngineError(f"Docker has another image {other} already: give yours another name.")


def _require_bases(client: docker.DockerClient, dockerfile: str) -> None:
    """Refuse to begin with an image of this package that is not here: on a registry that name is anybody's."""
    for name in re.findall(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)", dockerfile, re.MULTILINE | re.IGNORECASE):
        bare = name.removesuffix(":latest")
        if bare in image_names():
            raise EngineError(f"FROM {name} is no image of this package: write FROM {NAMESPACE}{bare}.")
        if bare.startswith(NAMESPACE):
            try:
                with translated_errors():
                    client.images.get(name)
            except ImageNotFound:
                there = [tag for image in client.api.images() for tag in image.get("RepoTags") or ()]
                raise ImageNotFound(f"Docker has no {name}, of FROM. {how_to_get(name, there)}") from None


def own_reference(name: str) -> str:
    """Return what the engine calls an image of one's own."""
    return f"{NAMESPACE}{name}:latest"


def _build_on_base(
    client: docker.DockerClient, request: ImageRequest, candidate: str, scratch: Path, report: Report
) -> tuple[Resolved, str]:
    """Build the packages on their base; return them, and the base's id."""
    base = reference(request.base)
    try:
        with translated_errors():
            base_id = str(client.images.get(base).id)
    except ImageNotFound:
        base_id = docker_images.build(request.base, client=client, progress=report).id
    resolved = resolve(request, ENGINE, request.base, ContainerFetch(client, base_id), scratch, report)
    pip, lock = pip_wheel(report, scratch), lock_text(resolved.packages)
    with own_debian.equipped(client, base_id, request.apt, report) as below:
        files: dict[str, Path | bytes] = {f"wheels/{package.file}": cached(package) for package in resolved.packages}
        files |= {f"wheels/{pip.name}": pip, "requirements.txt": lock.encode(), "wheel_check.py": CHECK}
        files["Dockerfile"] = images_folder() / "own/Dockerfile"
        with build_context(files) as context:
            labels = {f"{LABEL}.image": request.name, OWNER_LABEL: killed_builds.owner()}
            run_build(client, context, tag=candidate, base=below, labels=labels, report=report)
    return resolved, base_id


def _publish(
    client: docker.DockerClient, request: ImageRequest, candidate: str, resolved: Resolved, base_id: str, report: Report
) -> None:
    """Try a new image, and give it its name."""
    report(Progress("try it", f"import {', '.join(resolved.imported) or 'nothing new'} in a sandbox"))
    lock = lock_text(resolved.packages)
    contents = try_image(ENGINE, candidate, resolved.imported, request.name, lock_of_all(request, lock))
    digest = image_digest(base_id, lock, *request.apt)
    facts = facts_of(request, contents.python, contents.packages, digest) | {"lock": lock, "base_id": base_id}
    labels = {f"{LABEL}.image": request.name, FACTS: json.dumps(facts), OWNER_LABEL: ""}
    with build_context({"Dockerfile": LABELLED}) as context:
        target = own_reference(request.name)
        run_build(client, context, tag=target, base=candidate, labels=labels, report=lambda moment: None)


def describe(name: str) -> OwnImage:
    """Return what an image tells of itself. Raises ImageNotFound."""
    if not OWN_NAME.fullmatch(name):
        raise unknown_image(name, ENGINE)
    client = connect()
    try:
        with translated_errors():
            found = client.images.get(own_reference(name)).attrs
    except ImageNotFound:
        raise unknown_image(name, ENGINE) from None
    own = _read(found)
    if own is None:
        raise unknown_image(name, ENGINE)
    if not own[0].base:
        return own[0]
    with contextlib.suppress(ImageNotFound), translated_errors():
        base = client.images.get(reference(own[1]["base"]))
        return changed(own[0], outdated=bool(own[1].get("base_id")) and base.id != own[1]["base_id"])
    return own[0]


def _read(found: dict[str, Any]) -> tuple[OwnImage, dict[str, Any]] | None:
    labels = found["Config"].get("Labels") or {}
    try:
        facts = json.loads(labels.get(FACTS, ""))
        own = OwnImage(
            engine=ENGINE,
            name=str(facts["image"]),
            place=own_reference(str(facts["image"])),
            base=str(facts["base"]),
            asked=tuple(map(str, facts["asked"])),
            request=str(facts["request"]),
            python=str(facts["python"]),
            packages=tuple((str(name), str(version)) for name, version in facts["packages"]),
            digest=str(found["Id"]),
            created=datetime.fromisoformat(found["Created"]).timestamp(),
            size=int(found["Size"]),
            lock=str(facts["lock"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
    return own, facts


def own_images(client: docker.DockerClient) -> list[OwnImage]:
    """Return all images of one's own in the engine, by name."""
    with translated_errors():
        listed = client.api.images(filters={"label": FACTS})
    names = {str((image.get("Labels") or {}).get(f"{LABEL}.image", "")) for image in listed}
    found = []
    for name in sorted(names):
        with contextlib.suppress(ImageNotFound):
            found.append(describe(name))
    return found


def remove(name: str) -> None:
    """Remove an image. Raises ImageNotFound, and EngineError while a sandbox uses it."""
    describe(name)
    client = connect()
    with translated_errors():
        if client.containers.list(all=True, filters={"ancestor": own_reference(name)}):
            raise EngineError(f"A sandbox of {name} runs: end it first (kernel-sandbox ps).")
        client.api.remove_image(own_reference(name))
