"""The engines by name. A session names one, and never imports it."""

from __future__ import annotations

from functools import lru_cache

from kernel_sandbox.engines.base import Engine
from kernel_sandbox.errors import EngineError
from kernel_sandbox.spelling import did_you_mean

NAMES = ("docker", "bubblewrap")


@lru_cache
def get_engine(name: str) -> Engine:
    """Return the engine of this name, the same one each time. Raises EngineError for an unknown name."""
    if name == "docker":
        from kernel_sandbox.engines.docker import DockerEngine

        return DockerEngine()
    if name == "bubblewrap":
        from kernel_sandbox.engines.bubblewrap import BubblewrapEngine

        return BubblewrapEngine()
    raise EngineError(f"There is no engine named {name!r}.{did_you_mean(name, NAMES)} Choose {' or '.join(NAMES)}.")
