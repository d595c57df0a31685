"""This package's images in a Docker engine: their state there, and the build.

`kernel-sandbox image` builds and lists. Names and locks are in image_names.py, downloads in wheels.py, the base
without a registry in debian_root.py, the engine's work in image_builder.py.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kernel_sandbox.errors import EngineError, EngineUnavailable, ImageNotFound
from kernel_sandbox.sandbox.engines.docker_client import registry_answers, translated_errors
from kernel_sandbox.sandbox.engines.image_names import (
    ARCHIVER,
    LABEL,
    common_files,
    debian_packages,
    folder,
    image_names,
    label_size,
    lock_digest,
    own_files,
    pip_lock,
    reference,
)
from kernel_sandbox.setup import debian_root, own_debian, wheels
from kernel_sandbox.setup.image_builder import build_context, remove_untagged, run_build
from kernel_sandbox.setup.progress import Progress, Report
from kernel_sandbox.text.amounts import format_size

if TYPE_CHECKING:
    import docker

PYTHON_BASE = "python@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b"
"""The official slim Python image, as python:3.11-slim-bookworm was on 2026-10-01: a tag may hold something else
tomorrow, a digest cannot. Renewed by hand, in images/server/Dockerfile too; images/README.md says how."""
REGISTRY_PATIENCE = 15.0
"""Seconds in which a registry must have said something, before it counts as out of reach."""

Base = Literal["python", "debian"]


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What `build` left in the engine."""

    name: str
    reference: str
    id: str
    base: str
    """"python" (the official slim image) or "debian" (a root file system made here)."""
    size: int
    """Bytes, with the base."""
    seconds: float
    """How long it took."""
    up_to_date: bool
    """Whether it was there already, built from the same files and the same base; then nothing was done."""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image as `kernel-sandbox image list` shows it."""

    name: str
    reference: str
    built: bool
    size: int | None = None
    """Bytes, with the base."""
    base: str | None = None
    created: datetime | None = None
    stale: bool = False
    """Whether the image's folder has changed since the image was built."""


def list_images(client: docker.DockerClient) -> list[ImageInfo]:
    """Return every image of this package, and whether and how it was built."""
    return [_info(name, _inspect(client, reference(name))) for name in image_names()]


def digest(name: str, client: docker.DockerClient) -> str:
    """Return by which digest the engine knows an image of this package. Raises ImageNotFound."""
    with translated_errors():
        return str(client.images.get(reference(name)).id)


def _info(name: str, found: dict[str, Any] | None) -> ImageInfo:
    if found is None:
        return ImageInfo(name, reference(name), built=False)
    labels = _labels(found)
    return ImageInfo(
        name,
        reference(name),
        built=True,
        size=int(found["Size"]),
        base=labels.get(f"{LABEL}.base"),
        created=datetime.fromisoformat(found["Created"]),
        stale=labels.get(f"{LABEL}.lock") != lock_digest(name),
    )


def _inspect(client: docker.DockerClient, image: str) -> dict[str, Any] | None:
    with contextlib.suppress(ImageNotFound), translated_errors():
        return dict(client.images.get(image).attrs)
    return None


def _labels(found: dict[str, Any]) -> dict[str, str]:
    return dict(found["Config"].get("Labels") or {})


def build(
    name: str, *, base: Literal["auto", "python", "debian"] = "auto", client: docker.DockerClient, progress: Report
) -> BuiltImage:
    """Build an image of this package, or find it up to date.

    With base "auto" the official slim Python image is pulled, and where that fails a Debian root file system is made
    instead; `progress` hears of it. Raises ImageNotFound for an unknown name, and EngineError with what to do next.
    """
    started = time.monotonic()
    lock_digest(name)  # an unknown name is refused before anything is done
    target = reference(name)
    _remove_predecessors(client, name)
    found = _inspect(client, target)
    if found is not None and _is_up_to_date(client, found, name, base):
        progress(Progress("build", f"{target} is up to date"))
        return _built(name, found, started, up_to_date=True)
    _build_new(client, name, base, progress)
    _remove_predecessors(client, name)
    with translated_errors():
        return _built(name, client.images.get(target).attrs, started, up_to_date=False)


def _build_new(client: docker.DockerClient, name: str, base: str, progress: Report) -> None:
    """Get the base and the packages, and build on them."""
    kind, base_reference = choose_base(client, base, progress)
    with translated_errors():
        base_id = client.images.get(base_reference).id
    requirements = folder(name) / "requirements.txt"
    room = label_size(name, "downloads")
    packages = wheels.fetch([pip_lock(), requirements], _architecture(client), progress, room=room)
    files: dict[str, Path | bytes] = {f"wheels/{path.name}": path for path in packages.iterdir()}
    files |= {path.name: path for path in (*folder(name).iterdir(), ARCHIVER) if path.is_file()}
    files |= {f"common/{inside}": path for inside, path in common_files().items()}
    files |= {f"files/{inside}": path for inside, path in own_files(name).items()}
    facts = {"image": name, "lock": lock_digest(name), "base": kind, "base-id": base_id}
    facts["base-reference"] = base_reference
    labels = {f"{LABEL}.{key}": str(value) for key, value in facts.items()}
    # The Debian base has the commands that cells find; only an official image is built with a network, to get them.
    tools = debian_root.TOOLS if kind == "python" else ()
    debian = own_debian.equipped(client, base_reference, debian_packages(name), progress)
    with build_context(files) as context, _advice(kind), debian as below:
        target = reference(name)
        more = {"EQUIPPED": below} if below != base_reference else {}
        run_build(
            client, context, tag=target, base=base_reference, more=more, tools=tools, labels=labels, report=progress
        )


@contextlib.contextmanager
def _advice(kind: str) -> Iterator[None]:
    """Add what to do to the error of a build that has no network for the commands that an official image lacks."""
    try:
        yield
    except EngineError as exc:
        if kind == "python" and "Install commands" in str(exc):
            raise EngineError(f"{exc}\nWithout Debian's archive, --base debian makes a base on this machine.") from exc
        raise


def _built(name: str, found: dict[str, Any], started: float, *, up_to_date: bool) -> BuiltImage:
    seconds = time.monotonic() - started
    base = _labels(found)[f"{LABEL}.base"]
    return BuiltImage(name, reference(name), found["Id"], base, int(found["Size"]), seconds, up_to_date)


def _remove_predecessors(client: docker.DockerClient, name: str) -> None:
    """Remove what earlier builds left without a tag; an image that a sandbox still uses goes at the next build."""
    with translated_errors():
        left = client.api.images(quiet=True, filters={"dangling": True, "label": f"{LABEL}.image={name}"})
    remove_untagged(client, left)


def _is_up_to_date(client: docker.DockerClient, found: dict[str, Any], name: str, base: str) -> bool:
    """Whether an image is what a build would make: the same files, a base that was asked for, no newer one at hand."""
    labels = _labels(found)
    kind = labels.get(f"{LABEL}.base", "")
    if labels.get(f"{LABEL}.lock") != lock_digest(name) or base not in ("auto", kind):
        return False
    if kind == "python":
        return labels.get(f"{LABEL}.base-reference") == PYTHON_BASE
    current = _inspect(client, debian_root.REFERENCE)
    return kind == "debian" and (current is None or current["Id"] == labels.get(f"{LABEL}.base-id"))


def _architecture(client: docker.DockerClient) -> str:
    with translated_errors():
        name = str(client.version()["Arch"])
    try:
        return {"amd64": "x86_64", "arm64": "aarch64"}[name]
    except KeyError:
        raise EngineError(f"The engine's machine is {name}; images are made for amd64 and arm64 only.") from None


def choose_base(
    client: docker.DockerClient, wanted: str, report: Report, official: str = PYTHON_BASE
) -> tuple[Base, str]:
    """Get a base image into the engine, and return its kind and reference."""
    if wanted == "debian":
        return "debian", debian_root.ensure(client, report)
    try:
        return "python", _pull(client, official, report)
    except EngineUnavailable:
        raise
    except EngineError as exc:
        if wanted == "python":
            raise EngineError(f"{exc} Without a registry, --base debian makes a base on this machine.") from exc
        report(Progress("pull base", f"{exc} Building on a Debian root file system instead (--base debian)."))
        return "debian", debian_root.ensure(client, report)


def _pull(client: docker.DockerClient, image: str, report: Report) -> str:
    """Pull REPOSITORY@DIGEST unless it is there, and return that. Raises EngineError when it cannot be had.

    The engine refuses what has another digest (OCI's distribution specification, "Pulling manifests").
    """
    repository, _, digest = image.partition("@")
    if _inspect(client, image) is not None:
        report(Progress("pull base", f"{image} is there"))
        return image
    report(Progress("pull base", image))
    if not registry_answers(client, image, REGISTRY_PATIENCE):
        raise EngineError(f"{image} cannot be pulled: its registry was silent for {REGISTRY_PATIENCE:.0f} s.")
    layers: dict[str, tuple[int, int]] = {}
    try:
        with translated_errors():
            for event in client.api.pull(repository, tag=digest, stream=True, decode=True):
                _report_pull(event, layers, report)
    except EngineUnavailable:
        raise
    except EngineError as exc:
        raise EngineError(f"{image} cannot be pulled ({exc}).") from exc
    return image


def _report_pull(event: dict[str, Any], layers: dict[str, tuple[int, int]], report: Report) -> None:
    """Report one event of a pull. Raises EngineError when it is the pull's failure."""
    if "error" in event:
        raise EngineError(str(event["error"]))
    size = event.get("progressDetail") or {}
    if event.get("status") != "Downloading" or not size.get("total"):
        return
    layers[str(event["id"])] = (int(size["current"]), int(size["total"]))
    done, total = (sum(column) for column in zip(*layers.values(), strict=True))
    report(Progress("pull base", f"{format_size(done)} of {format_size(total)}", done, total))
