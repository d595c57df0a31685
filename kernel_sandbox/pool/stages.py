"""What a pool's session is at, as one value: each case holds what only it has, and its methods say what may follow.

    Starting ─ Ready ─ Reviving ─ Ready     a dead one is started again when it is next wanted
               Ready ─ Finishing            its time is over: it takes no more cells, and ends after its last
    Closing may follow each, and nothing follows it

SessionPool makes the values, starts what they wait for, and ends what they hold.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TypeAlias

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.session.session import AsyncSession


@dataclass(frozen=True, eq=False)
class Starting:
    """It waits for its first sandbox."""

    opening: asyncio.Task[None]

    def given(self, session: AsyncSession) -> Ready:
        return Ready(session)


@dataclass(frozen=True, eq=False)
class Ready:
    """Cells run, or could if its kernel had not died."""

    session: AsyncSession

    def reviving(self, opening: asyncio.Task[None]) -> Reviving:
        return Reviving(self.session, opening)

    def finishing(self, why: SandboxError) -> Finishing:
        return Finishing(self.session, why)


@dataclass(frozen=True, eq=False)
class Reviving:
    """Its kernel had died, and another is started."""

    session: AsyncSession
    opening: asyncio.Task[None]

    def revived(self) -> Ready:
        return Ready(self.session)


@dataclass(frozen=True, eq=False)
class Finishing:
    """It takes no more cells; those that were begun go on."""

    session: AsyncSession
    why: SandboxError


@dataclass(frozen=True, eq=False)
class Closing:
    """Its end is on its way, or behind it."""

    why: SandboxError
    before: Starting | Ready | Reviving | Finishing
    """What is to be ended."""

    def given(self, session: AsyncSession) -> Closing:
        """Return what follows where a first session comes just before nobody waits for it any more."""
        return replace(self, before=Ready(session))


Stage: TypeAlias = Starting | Ready | Reviving | Finishing | Closing
