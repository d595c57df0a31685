"""What is missing on this machine until a sandbox can start, and the steps that mend it.

`kernel-sandbox setup` and `demo` show them, ask, and take them. Nothing here asks or prints, and nothing falls back to
running code without a sandbox.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.errors import EngineUnavailable, ImageNotFound
from kernel_sandbox.host import programs
from kernel_sandbox.sandbox.engines import environments
from kernel_sandbox.sandbox.engines.all_engines import ask_engines
from kernel_sandbox.sandbox.engines.base import Engine
from kernel_sandbox.sandbox.engines.bubblewrap_host import install_command, start_failure
from kernel_sandbox.setup import environment_builder, kernelspec, system_packages
from kernel_sandbox.setup.engine_images import EngineImage, build, check_bubblewrap, list_images
from kernel_sandbox.setup.progress import Report
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.text.amounts import format_size


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    text: str
    """What it will do, in the imperative."""
    take: Callable[[Report], str]
    """Does it, and returns in words what came of it. Raises SandboxError; Ctrl-C leaves nothing half made."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do; perhaps nothing."""

    engine: str
    reason: str
    """Why this one, in a few words."""
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    """What is left out, and why."""


def make_plan(wanted: str | None, image: str, *, with_kernelspec: bool | None = None, refresh: bool = True) -> Plan:
    """Find out what is missing until sandboxes of `image`, one of this package's, can start.

    `wanted` names an engine; None is Docker where it answers, else bubblewrap. `with_kernelspec` None is: where it
    can be written. `refresh` counts an image as missing that is only out of date. Raises EngineError for what no step
    of ours can mend, with what to do about it.
    """
    engine, reason = (wanted, "as asked for") if wanted else _choose(image)
    steps = [*(_docker_steps(image, refresh=refresh) if engine == "docker" else _bubblewrap_steps(image))]
    notes = []
    if with_kernelspec is not False:
        steps += map(_mending_step, (known for known in kernelspec.exposed() if _is_writable(known.directory)))
    if with_kernelspec is not False and not kernelspec.installed():
        directories = (kernelspec.default_directory(), kernelspec.user_directory())
        directory = next(filter(_is_writable, directories), None)
        if directory is not None or with_kernelspec:
            steps.append(_kernelspec_step(directory or directories[0], wanted, image))
        else:
            notes.append(f"No kernelspec for Jupyter: neither {directories[0]} nor {directories[1]} can be written.")
    return Plan(engine, reason, tuple(steps), tuple(notes))


def _choose(image: str) -> tuple[str, str]:
    """Take the engine that a session would take; where none can serve yet, the one that is nearest to it."""

    async def check(engine: Engine) -> None:
        await engine.check(SandboxSpec(image=image))

    answers = ask_engines(check)
    if "docker" in answers.given:
        return "docker", "Docker answers and has the image"
    docker = isinstance(answers.refused["docker"], ImageNotFound)
    if docker and not ("bubblewrap" in answers.given and _bubblewrap_works()):
        return "docker", "Docker answers"
    return "bubblewrap", "Docker has not the image" if docker else "no Docker engine answers"


def _bubblewrap_works() -> bool:
    try:
        check_bubblewrap()
    except EngineUnavailable:
        return False
    return True


def _docker_steps(image: str, *, refresh: bool) -> Iterator[Step]:
    found = _find(image, "docker")
    if found.state == "not built":
        text = f"Build the image {found.name} in Docker: about 1 GB there, and a few minutes the first time"
        yield Step(text, lambda report: _build("docker", image, report))
    elif found.state == "out of date" and refresh:
        text = f"Build the image {found.name} in Docker anew, since it is older than what it is made from"
        yield Step(text, lambda report: _build("docker", image, report))


def _find(image: str, engine: str) -> EngineImage:
    return next(found for found in ask_engines(list_images, engine).given[engine] if found.name == image)


def _bubblewrap_steps(image: str) -> Iterator[Step]:
    if sys.platform != "linux":
        raise EngineUnavailable(start_failure(""))
    if programs.find("bwrap") is None:
        yield _installation()
    else:
        check_bubblewrap()
    if image not in environments.installed():
        environment_builder.check_room(image)
        room = f"up to {format_size(environment_builder.room(image))} there, and a minute or two"
        text = f"Make the environment {image} of bubblewrap in {environments.shelf()}: {room}"
        yield Step(text, lambda report: _build("bubblewrap", image, report))


def _installation() -> Step:
    command = install_command()
    if not command or os.getuid() != 0:
        raise EngineUnavailable(f"{start_failure('')}, and then run this command again.")

    def install(report: Report) -> str:
        system_packages.install(command, "install bubblewrap", report)
        check_bubblewrap()
        return f"{programs.find('bwrap')} is installed"

    return Step(f"Install bubblewrap: {' '.join(command)}", install)


def _build(engine: str, image: str, report: Report) -> str:
    built = build(engine, image, report)
    return f"{built.place} is there, {format_size(built.size)}"


def _kernelspec_step(directory: Path, engine: str | None, image: str) -> Step:
    def install(report: Report) -> str:
        return f"{kernelspec.install(directory, engine=engine, spec=SandboxSpec(image=image))} is installed"

    return Step(f"Install the kernelspec {kernelspec.DEFAULT_NAME} for Jupyter in {directory}", install)


def _mending_step(known: kernelspec.InstalledKernelspec) -> Step:
    def mend(report: Report) -> str:
        kernelspec.mend(known)
        return f"{known.directory} is replaced"

    return Step(f"Replace the kernelspec {known.directory}, which imports modules that lie beside a notebook", mend)


def _is_writable(directory: Path) -> bool:
    """Whether a directory, or the first above it that there is, can be written."""
    try:
        existing = next(path for path in (directory, *directory.parents) if path.exists())
    except OSError:
        return False
    return os.access(existing, os.W_OK | os.X_OK)
