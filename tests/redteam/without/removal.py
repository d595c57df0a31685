"""What the removal of a control is: how it is taken away in this process, and an attack that then succeeds."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import Limits, SandboxSpec, Session
from kernel_sandbox.sandbox.engines.bubblewrap_shelf import SWITCH
from tests.places import owner_of
from tests.redteam.arena import MEGABYTE, resident
from tests.redteam.canaries import Canaries
from tests.redteam.cells import arm, opened_sessions
from tests.redteam.without.seams import OF_OWN_STARTS, Seam


@dataclass(frozen=True)
class Ground:
    """What an attack stands on; a removal patches modules of kernel_sandbox in the process of the test."""

    engine: str
    patch: pytest.MonkeyPatch
    canaries: Canaries
    path: Path
    """An empty directory of the host, for this run only."""
    removed: tuple[str, ...] = ()
    """The controls that are gone, for an attack that needs a host process of its own."""
    strict: bool | None = False
    """What the self-check refuses: nothing, so that weakened sandboxes run."""

    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What else is to be put back at the end of this run."""

    def replace(self, seam: Seam, new: object) -> None:
        """Have something else stand in the places of a seam, for this run.

        What only bubblewrap's own start reads is taken from there: no template forks a sandbox then.
        """
        if seam in OF_OWN_STARTS:
            self.patch.setenv(SWITCH, "off")
        for place in seam.places:
            self.patch.setattr(*owner_of(place), new)

    @contextlib.contextmanager
    def session(self, *, limits: Limits | None = None, input_handler: Any = None, **fields: Any) -> Iterator[Session]:
        """Open an armed session on the small image."""
        spec = SandboxSpec(**{"image": "python", "limits": limits or Limits(), "strict": self.strict, **fields})
        with Session(engine=self.engine, spec=spec, input_handler=input_handler) as session:
            opened_sessions.add(session.id)
            arm(session)
            yield session


BOTH = ("docker", "bubblewrap")
GROWTH = 64.0
"""Megabytes that a flood may make the host process grow by; what gets past that is stopped at about 150."""


def growth(attack: Callable[[], object]) -> float:
    """Return by how many megabytes this process grew at the highest while an attack ran (proc(5), VmHWM)."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    start = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    attack()
    return (resident("VmHWM") - start) / MEGABYTE


@dataclass(frozen=True, kw_only=True)
class Removal:
    """One control, taken away."""

    severity: str
    """Of the attack, where it succeeds; security.md has the words."""
    remove: Callable[[Ground], None]
    """Takes the control away; may be joined with other removals."""
    succeeds: Callable[[Ground], bool]
    """Makes the attack, and tells whether it came through. Whatever does is bounded, and harms no machine."""
    engines: tuple[str, ...] = ("docker",)
    """Both where their mechanisms differ, else one."""
    also: tuple[str, ...] = ()
    """Controls that would hold the attack as well: they are gone in both runs, so that the run in which the attack
    fails shows that this control alone holds it."""
    noticed: str = ""
    """What the look from inside says of its absence at the start, where it looks for it."""
