"""Which kernel of a session each of its clients knows, so that each is told of a restart once.

All requests over HTTP of an owner to one session are one client: they have nothing else in common. A WebSocket's
connection is a client of its own, and so is each of MCP's sessions.
"""

from __future__ import annotations

import collections
import weakref

from kernel_sandbox.known_kernel import KnownKernel
from kernel_sandbox.pool import PooledSession

REQUESTS = "requests"
"""The client that all plain requests are."""
MOST_CLIENTS = 1000
"""Clients of one session that are remembered; who has not used it for longest is forgotten first."""


class Clients:
    """The clients of the sessions that there are."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[PooledSession, collections.OrderedDict[str, KnownKernel]]
        self._known = weakref.WeakKeyDictionary()

    def meet(self, pooled: PooledSession, client: str) -> KnownKernel:
        """Return what a client knows of a session that has begun: at first the kernel that it has now."""
        clients = self._known.setdefault(pooled, collections.OrderedDict())
        known = clients.setdefault(client, KnownKernel(pooled.session.generation))
        clients.move_to_end(client)
        while len(clients) > MOST_CLIENTS:
            clients.popitem(last=False)
        return known
