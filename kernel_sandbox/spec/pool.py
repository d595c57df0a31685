"""What a pool may have, and how long things may take: frozen values, and the only place of their defaults. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kernel_sandbox.errors import PolicyError
from kernel_sandbox.spec.forms import require_items
from kernel_sandbox.spec.values import SandboxSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Bounds of a SessionPool; times are seconds. Raises PolicyError for values that cannot be held."""

    ready: int = 2
    """How many sessions are kept started, for whoever comes next. They count among `sessions`, and give way."""
    sessions: int = 16
    """How many sandboxes there may be at once, whatever they do."""
    queue_timeout: float = 10.0
    """How long `acquire` waits for room. Where the engine fails, how long it is tried again."""
    queue_length: int = 100
    """How many may wait for room; who comes then is refused at once."""
    idle_timeout: float = 300.0
    """A session ends when nobody has held it for so long, and no cell runs in it."""
    max_lifetime: float | None = None
    """A session of this age takes no more cells, and ends with the last one; None lets it live."""
    health_interval: float = 30.0
    """How often the kernels of the ready sessions are asked whether they answer."""
    preload: tuple[str, ...] = ()
    """Modules that are loaded before a session counts as ready, beside those of its image: see SandboxSpec.preload."""

    def __post_init__(self) -> None:
        require_items("preload", self.preload, str, "names of modules, such as ['numpy']")
        object.__setattr__(self, "preload", SandboxSpec(preload=tuple(self.preload)).preload)
        for name, least in (("ready", 0), ("sessions", 1), ("queue_length", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise PolicyError(f"PoolSettings({name}={value!r}): give a whole number of at least {least}.")
        if self.ready > self.sessions:
            raise PolicyError(f"ready={self.ready} sessions do not fit into sessions={self.sessions}: raise sessions.")
        for name in ("queue_timeout", "idle_timeout", "max_lifetime", "health_interval"):
            value = getattr(self, name)
            if not (name == "max_lifetime" and value is None) and not _is_positive(value):
                raise PolicyError(f"PoolSettings({name}={value!r}): give seconds above 0.")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
