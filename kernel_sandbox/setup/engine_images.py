"""An image in either engine: a container image for Docker, an environment for bubblewrap. Built, and listed.

`kernel-sandbox image`, `setup` and `doctor` come here; the work is docker_images.py's and environment_builder.py's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import anyio.to_thread

from kernel_sandbox.errors import EngineUnavailable
from kernel_sandbox.sandbox.engines import environments, registry
from kernel_sandbox.sandbox.engines.base import Engine
from kernel_sandbox.sandbox.engines.bubblewrap_host import examine_host, start_failure
from kernel_sandbox.sandbox.engines.docker_client import connect
from kernel_sandbox.sandbox.engines.image_names import image_names
from kernel_sandbox.setup import docker_images, environment_builder
from kernel_sandbox.setup.progress import Report

Base = Literal["auto", "python", "debian"]
State = Literal["built", "out of date", "not built"]


@dataclass(frozen=True, slots=True)
class EngineImage:
    """The state of one of this package's images in one engine."""

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
    """"python" or "debian" for Docker; "host", this machine's own Python, for bubblewrap."""
    created: datetime | None = None


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
    """Return every image of this package, and whether it is in the engine. Raises EngineUnavailable."""
    states = _docker_states if engine.name == "docker" else _environment_states
    return await anyio.to_thread.run_sync(lambda: list(states()))


def _docker_states() -> Iterator[EngineImage]:
    for info in docker_images.list_images(connect()):
        if not info.built:
            yield EngineImage("docker", info.name, "not built", False, "")
            continue
        state: State = "out of date" if info.stale else "built"
        base = info.base or ""
        yield EngineImage("docker", info.name, state, True, info.reference, info.size, base, info.created)


def _environment_states() -> Iterator[EngineImage]:
    complete = environments.installed()
    for name in image_names():
        if environment := complete.get(name):
            made = datetime.fromtimestamp(environments.made(environment), UTC)
            size = environments.size(environment)
            yield EngineImage("bubblewrap", name, "built", True, str(environment.directory), size, "host", made)
        elif older := environment_builder.outdated(name):
            yield EngineImage("bubblewrap", name, "out of date", False, str(older[0]))
        else:
            yield EngineImage("bubblewrap", name, "not built", False, "")


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


def check_bubblewrap() -> None:
    """Find out whether bubblewrap can make sandboxes on this machine. Raises EngineUnavailable."""
    for finding in examine_host():
        if finding.verdict == "problem":
            raise EngineUnavailable(start_failure(finding.detail))
