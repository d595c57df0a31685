"""An image in either engine: a container image for Docker, an environment for bubblewrap. Built, listed, told, removed.

`kernel-sandbox image`, `setup` and `doctor` come here. The work is docker_images.py's and environment_builder.py's, and
for images of one's own own_docker.py's and own_bubblewrap.py's.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio.to_thread

from kernel_sandbox.errors import EngineError, EngineUnavailable, ImageNotFound
from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.sandbox.engines import environments, get_engine, registry
from kernel_sandbox.sandbox.engines.all_engines import answering
from kernel_sandbox.sandbox.engines.base import Engine
from kernel_sandbox.sandbox.engines.bubblewrap_host import examine_host, start_failure
from kernel_sandbox.sandbox.engines.docker_client import connect
from kernel_sandbox.sandbox.engines.image_names import debian_packages, image_names, lock_of, main_packages
from kernel_sandbox.setup import docker_images, environment_builder, own_bubblewrap, own_docker
from kernel_sandbox.setup.image_packages import held
from kernel_sandbox.setup.image_request import ImageRequest
from kernel_sandbox.setup.import_check import try_image
from kernel_sandbox.setup.own_images import OwnImage
from kernel_sandbox.setup.progress import Report
from kernel_sandbox.spec.values import SandboxSpec

Base = Literal["auto", "python", "debian"]
T = TypeVar("T")
State = Literal["built", "out of date", "not built"]


@dataclass(frozen=True, slots=True)
class EngineImage:
    """The state of an image in one engine: one of this package, or one of the user's own."""

    engine: str
    name: str
    state: State
    usable: bool
    """Whether a sandbox can start from it; Docker starts one that is out of date too."""
    place: str
    """What the engine calls it: a reference, or a directory. Empty where it is not built."""
    size: int | None = None
    """Bytes, with all that is below it."""
    base: str = ""
    """"python" or "debian" for Docker; "host", this machine's own Python, for bubblewrap; of one's own, an image."""
    created: datetime | None = None
    holds: tuple[str, ...] = ()
    """The packages that it is for."""
    again: str = ""
    """The command that builds it anew."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left in an engine."""

    engine: str
    place: str
    base: str
    size: int
    """Bytes."""
    seconds: float
    up_to_date: bool
    """Whether it was there already; then nothing was done."""


async def list_images(engine: Engine) -> list[EngineImage]:
    """Return every image of this package, and whether it is in the engine, then those of the user's own.

    Raises EngineUnavailable.
    """
    states = _docker_states if engine.name == "docker" else _environment_states
    return await anyio.to_thread.run_sync(lambda: list(states()))


def _docker_states() -> Iterator[EngineImage]:
    for info in docker_images.list_images(connect()):
        name = info.name
        more: dict[str, Any] = {"holds": main_packages(name), "again": _build_command("docker", name)}
        if not info.built:
            yield EngineImage("docker", name, "not built", False, "", **more)
            continue
        state: State = "out of date" if info.stale else "built"
        yield EngineImage("docker", name, state, True, info.reference, info.size, info.base or "", info.created, **more)
    yield from map(_own_state, own_docker.own_images(connect()))


def _environment_states() -> Iterator[EngineImage]:
    complete = environments.installed()
    for name in image_names():
        more: dict[str, Any] = {"holds": main_packages(name), "again": _build_command("bubblewrap", name)}
        if environment := complete.get(name):
            made = datetime.fromtimestamp(environments.made(environment), UTC)
            size = environments.size(environment)
            yield EngineImage("bubblewrap", name, "built", True, str(environment.directory), size, "host", made, **more)
        elif older := environment_builder.outdated(name):
            yield EngineImage("bubblewrap", name, "out of date", False, str(older[0]), **more)
        else:
            yield EngineImage("bubblewrap", name, "not built", False, "", **more)
    yield from map(_own_state, map(own_bubblewrap.describe, environments.own_names()))


def _own_state(own: OwnImage) -> EngineImage:
    state: State = "out of date" if own.outdated else "built"
    made = datetime.fromtimestamp(own.created, UTC)
    more: dict[str, Any] = {"holds": held(own), "again": _build_command(own.engine, own.name, own)}
    return EngineImage(own.engine, own.name, state, True, own.place, own.size, own.base, made, **more)


def _build_command(engine: str, name: str, own: OwnImage | None = None) -> str:
    command = f"kernel-sandbox image build {name}"
    if own is not None and own.base:
        asked = (
            f"--apt {each[4:]}" if each.startswith("apt:") else f"--with {shlex.quote(each)}" for each in own.asked
        )
        command += f" --from {own.base} {' '.join(asked)}"
    return f"{command} --engine {engine}"


def build(engine: str, name: str, report: Report, *, base: Base = "auto") -> Built:
    """Build an image in an engine, unless it is up to date. `base` is for Docker. Raises EngineError."""
    if engine == "docker":
        done = docker_images.build(name, base=base, client=connect(), progress=report)
        return Built(engine, done.reference, done.base, done.size, done.seconds, done.up_to_date)
    started = time.monotonic()
    up_to_date = name in environments.installed()
    if not up_to_date:
        check_bubblewrap()  # the last thing that a build does, and the first that it needs to know
    environment = environment_builder.build(name, report)
    environment_builder.remove_outdated(name, {record["environment"] for record in registry.records()})
    size, seconds = environments.size(environment), time.monotonic() - started
    return Built(engine, str(environment.directory), "host", size, seconds, up_to_date)


def build_own(engine: str, request: ImageRequest, report: Report, *, replace: bool = False) -> Built:
    """Build an image of one's own in an engine, unless it is up to date. Raises EngineError."""
    started = time.monotonic()
    if engine == "docker":
        image, up_to_date = own_docker.build(request, report, replace=replace)
    else:
        check_bubblewrap()
        image, up_to_date = own_bubblewrap.build(request, report, replace=replace)
    return Built(engine, image.place, image.base, image.size, time.monotonic() - started, up_to_date)


def show_image(engine: str, name: str) -> OwnImage:
    """Return what an image holds; one of this package is asked in a session. Raises ImageNotFound, and EngineError."""
    if name not in image_names():
        return own_docker.describe(name) if engine == "docker" else own_bubblewrap.describe(name)
    states = _docker_states() if engine == "docker" else _environment_states()
    found = next(image for image in states if image.name == name)
    if not found.usable or found.size is None or found.created is None:
        raise ImageNotFound(f"{engine} has no image {name}. Get it with: kernel-sandbox image build {name}")
    contents = try_image(engine, name, (), name, lock_of(name))
    digest = docker_images.digest(name, connect()) if engine == "docker" else Path(found.place).name[-16:]
    return OwnImage(
        engine=engine,
        name=name,
        place=found.place,
        base=found.base,
        asked=main_packages(name),
        request="",
        python=contents.python,
        packages=(*contents.packages, *((package, "of Debian") for package in debian_packages(name))),
        digest=digest,
        created=found.created.timestamp(),
        size=found.size,
        lock=lock_of(name),
        outdated=found.state == "out of date",
    )


def remove_image(engine: str, name: str) -> None:
    """Remove an image of one's own from an engine. Raises ImageNotFound, and EngineError while a sandbox uses it."""
    (own_docker if engine == "docker" else own_bubblewrap).remove(name)


def engine_for(request: ImageRequest) -> str:
    """Choose where an image of one's own is built: Docker for what only Docker can, else who has its base, in order."""
    there = answering()
    if request.dockerfile is not None or request.apt:
        return "docker"
    for name in there:
        with contextlib.suppress(EngineError):
            call_reactor(get_engine(name).check, SandboxSpec(image=request.base))
            return name
    return there[0]


def where_it_is(name: str, engine: str | None, work: Callable[[str], T]) -> dict[str, T]:
    """Do something in every engine that has an image, or in the one that is named. Raises ImageNotFound for none."""
    if engine:
        return {engine: work(engine)}
    done, problem = {}, None
    for place in answering():
        try:
            done[place] = work(place)
        except ImageNotFound as exc:
            problem = exc
    if problem is not None and not done:
        raise ImageNotFound(str(problem).replace(f"{place} has no image", "No engine has an image", 1))
    return done


def check_bubblewrap() -> None:
    """Find out whether bubblewrap can make sandboxes on this machine. Raises EngineUnavailable."""
    for finding in examine_host():
        if finding.verdict == "problem":
            raise EngineUnavailable(start_failure(finding.detail))
