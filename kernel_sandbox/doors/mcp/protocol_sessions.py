"""How many sessions of the protocol each identity has over HTTP: one must not take the room of all. No I/O."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

MOST_OF_ONE = 64
"""Of one identity at a time. Each costs a task and two streams; its sandbox is counted by the pool."""


@dataclass
class ProtocolSessions:
    """Those that were opened and neither ended nor forgotten by the transport, which happens after `idle` seconds."""

    idle: float
    most: int = MOST_OF_ONE
    _used: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Owner, and when it was last used, by the session."""

    def has_room(self, owner: str) -> bool:
        """Whether the owner may open another."""
        oldest = time.monotonic() - self.idle
        self._used = {session: entry for session, entry in self._used.items() if entry[1] > oldest}
        return sum(entry[0] == owner for entry in self._used.values()) < self.most

    def note(self, session: str, owner: str) -> None:
        """Count a session as used now; it is one that the transport knows, and the owner's."""
        self._used[session] = owner, time.monotonic()

    def forget(self, session: str) -> None:
        """Stop counting a session that has ended."""
        self._used.pop(session, None)
