"""The sandboxes of a notebook by their names: they open when first needed, and end with the notebook's kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.sync import Session
from kernel_sandbox.spec.values import Limits, Mount, SandboxSpec
from kernel_sandbox.text.spelling import did_you_mean

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class WantedSandbox:
    """What a magic's options ask of a sandbox; what is None was not asked."""

    engine: str | None = None
    image: str | None = None
    memory: str | None = None
    cpus: float | None = None
    mounts: tuple[str, ...] = ()
    save: Path | None = None

    def over(self, settings: Mapping[str, Any]) -> WantedSandbox:
        """Fill in what was not asked from the settings of `%config`."""
        given = {name: getattr(self, name) or settings.get(name) or None for name in ("engine", "image", "memory")}
        return WantedSandbox(**given, cpus=self.cpus, mounts=self.mounts, save=self.save)

    def spec(self) -> SandboxSpec:
        """Make the spec. Raises PolicyError."""
        limits = {name: getattr(self, name) for name in ("memory", "cpus") if getattr(self, name) is not None}
        mounts = tuple(Mount(source, name) for source, _, name in (text.partition(":") for text in self.mounts))
        image = {"image": self.image} if self.image else {}
        described: Any = {"limits": Limits(**limits), "mounts": mounts, **image}
        return SandboxSpec(door="command line", **described)


@dataclass(slots=True)
class Slot:
    """An open session and what belongs to it."""

    name: str
    session: Session
    known: KnownKernel
    """What the user has been told of."""
    new: bool = True
    """True until somebody has told the user about it."""
    questions: dict[str, Any] = field(default_factory=dict)
    """%ask's by their model: each agent remembers its conversation."""


class Sessions:
    """The open sessions of this process."""

    def __init__(self) -> None:
        self._slots: dict[str, Slot] = {}
        self._process = os.getpid()

    @property
    def names(self) -> list[str]:
        return list(self._slots)

    def get(self, name: str, wanted: WantedSandbox, settings: Mapping[str, Any]) -> Slot:
        """Return the session of a name, opened if need be. Raises SandboxError; for options that it has not, too."""
        slot = self._slots.get(name)
        if slot is None:
            filled = wanted.over(settings)
            session = Session(engine=filled.engine, spec=filled.spec(), save=filled.save)
            session.open()
            slot = self._slots[name] = Slot(name, session, KnownKernel(session.generation))
        else:
            _check_same(slot, wanted)
        return slot

    def find(self, name: str) -> Slot:
        """Return an open session. Raises SandboxError where there is none of this name."""
        if name not in self._slots:
            others = f" Open are: {', '.join(self._slots)}." if self._slots else ""
            start = "%sandbox start" if name == DEFAULT else f"%sandbox start --session {name}"
            meant = did_you_mean(name, self._slots)
            raise SandboxError(f"There is no session {name!r}.{meant} `{start}` or a %%sandbox cell opens it.{others}")
        return self._slots[name]

    def close(self, name: str) -> None:
        """Close a session; its variables and files are gone. Raises SandboxError where there is none."""
        slot = self.find(name)
        del self._slots[name]
        slot.session.close()

    def close_all(self) -> None:
        """Close all. A forked child does nothing: they are its parent's."""
        if self._process == os.getpid():
            for name in self.names:
                self.close(name)


def _check_same(slot: Slot, wanted: WantedSandbox) -> None:
    """Refuse options that an open session does not have: they would be ignored without a word."""
    spec = slot.session.spec
    asked = {"--engine": (wanted.engine, slot.session.engine), "--image": (wanted.image, spec.image)}
    asked["--memory"] = (wanted.memory, str(spec.limits.memory))
    for option, (value, now) in asked.items():
        if value is not None and str(value) != now:
            raise SandboxError(
                f"Session {slot.name!r} is open with {option} {now}: `%sandbox shutdown --session {slot.name}` ends "
                "it, or give this one another name with --session."
            )
