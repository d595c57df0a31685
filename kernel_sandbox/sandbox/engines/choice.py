"""Which engine a sandbox is started with, and why; never none, so that code never runs unsandboxed."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass

from kernel_sandbox.errors import EngineError, EngineUnavailable, ImageNotFound
from kernel_sandbox.sandbox.engines import NAMES, get_engine
from kernel_sandbox.sandbox.engines.base import Engine
from kernel_sandbox.sandbox.engines.image_names import image_names
from kernel_sandbox.spec.values import SandboxSpec

VARIABLE = "KERNEL_SANDBOX_ENGINE"
PATIENCE = 5.0
"""Seconds in which an engine must have said whether it can serve."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, and why it was chosen, in a few words."""

    engine: Engine
    reason: str

    @property
    def line(self) -> str:
        return f"{self.engine.name} ({self.reason})"


async def choose_engine(wanted: str | None, spec: SandboxSpec) -> Choice:
    """Return the engine `wanted`, else the one that KERNEL_SANDBOX_ENGINE names, else the first that can serve.

    Docker comes before bubblewrap. Raises EngineError for an unknown name; ImageNotFound or EngineUnavailable where
    none can serve, with what to do about it.
    """
    if wanted:
        return Choice(get_engine(wanted), "as asked for")
    if named := os.environ.get(VARIABLE):
        return Choice(get_engine(named), f"{VARIABLE} names it")
    problems: dict[str, EngineError] = {}
    for name in NAMES:
        engine = get_engine(name)
        try:
            async with asyncio.timeout(PATIENCE):
                await engine.check(spec)
        except TimeoutError:
            problems[name] = EngineUnavailable(f"The engine {name} did not answer within {PATIENCE:g} s.")
        except EngineError as exc:
            problems[name] = exc
        else:
            choice = Choice(engine, _reason(name, problems))
            logger.info("Engine: %s", choice.line)
            return choice
    raise _nothing_serves(spec, problems)


def _reason(name: str, problems: dict[str, EngineError]) -> str:
    if name == "docker":
        return "Docker answers and has the image"
    return "Docker has not the image" if isinstance(problems["docker"], ImageNotFound) else "no Docker engine answers"


def _nothing_serves(spec: SandboxSpec, problems: dict[str, EngineError]) -> EngineError:
    """Return the error that names what is missing: the image, where an engine runs and lacks only that."""
    for problem in problems.values():
        if isinstance(problem, ImageNotFound):
            known = spec.image in image_names()
            return ImageNotFound(f"{problem}{f'. Or: kernel-sandbox setup --image {spec.image}' if known else ''}")
    said = " ".join(f"{str(problem).rstrip('.')}." for problem in problems.values())
    return EngineUnavailable(f"No engine can start a sandbox. {said} Or set one up: kernel-sandbox setup")
