"""What each client knows of a session: which one it is, and which kernel. So each is told once when that changes.

All requests over HTTP of an owner to one session are one client: they have nothing else in common. A WebSocket's
connection is a client of its own, and so is each of MCP's sessions. What a client knows is remembered by the session's
identifier and not with the session: another client may end it, and it may begin again under the same identifier.
"""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from dataclasses import dataclass

from kernel_sandbox.pool import PooledSession
from kernel_sandbox.service.ownership import Address
from kernel_sandbox.session.known_kernel import KnownKernel, Sent

REQUESTS = "requests"
"""The client that all plain requests are."""
MOST_OF_ONE = 10_000
"""Clients of one owner's sessions that are remembered; who has not used its session for longest is forgotten first."""
ANOTHER_SESSION = "The session had ended, and another one began under its name: earlier files are gone too."


@dataclass(slots=True)
class Known:
    """The newest session of an identifier that a client knows, and what it knows of its kernels."""

    number: int
    kernel: KnownKernel


@dataclass(frozen=True, slots=True)
class Meeting:
    """A client that uses a session."""

    known: Known
    number: int
    """The session's: of two with one identifier, the later has the higher one."""

    def news(self, cell: Sent) -> str | None:
        """Return why the cell found a fresh kernel, if the client does not know of that yet."""
        if cell.generation is None or self.number < self.known.number:
            return None
        if self.number == self.known.number:
            return self.known.kernel.news(cell)
        self.known.number, self.known.kernel = self.number, KnownKernel(cell.generation)
        return ANOTHER_SESSION

    def note_restart(self, generation: int) -> None:
        """Note that the client asked for this kernel. Of a session that began meanwhile it is still to be told."""
        if self.number == self.known.number:
            self.known.kernel.generation = generation


class Clients:
    """The clients of the sessions that there are, and were."""

    def __init__(self) -> None:
        self._count = itertools.count()
        self._numbers: weakref.WeakKeyDictionary[PooledSession, int] = weakref.WeakKeyDictionary()
        self._known: dict[str, OrderedDict[tuple[str, str], Known]] = {}
        """By owner; then by the pool's identifier and the client, the one last used at the end."""

    def meet(self, pooled: PooledSession, client: str) -> Meeting:
        """Note that a client uses a session. One that is met for the first time knows it as it is now."""
        if pooled not in self._numbers:
            self._numbers[pooled] = next(self._count)
        number, key = self._numbers[pooled], (pooled.identifier, client)
        clients = self._known.setdefault(Address.from_key(pooled.identifier).owner, OrderedDict())
        known = clients.setdefault(key, Known(number, KnownKernel(pooled.session.generation)))
        clients.move_to_end(key)
        if len(clients) > MOST_OF_ONE:
            clients.popitem(last=False)
        return Meeting(known, number)

    def forget(self, address: Address, client: str) -> None:
        """Forget what a client knows: it has ended the session, or been told that a new one began."""
        self._known.get(address.owner, OrderedDict()).pop((address.key, client), None)
