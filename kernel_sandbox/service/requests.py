"""What a request carries once it was let in, for every API: who sends it, which tool it calls, which pool it named.

In the scope of ASGI, which each layer of a server hands on.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

from kernel_sandbox.service.identity import Identity

IDENTITY = "identity"
"""The key in a request's state for who sends it."""
TOOL = "tool"
"""The key in its state for the tool that was called, and whether it failed."""
POOL_PREFIX = "session_pool_prefix"
"""The scope's key for the prefix that was taken away, as it was sent: "" or "/pool"."""


class ClientConnection(Protocol):
    """A request or a WebSocket."""

    @property
    def scope(self) -> MutableMapping[str, Any]: ...


def identity_of(connection: ClientConnection) -> Identity:
    """Who sends a request that was let in."""
    identity: Identity = connection.scope["state"][IDENTITY]
    return identity


def note_tool(connection: ClientConnection, tool: str, *, failed: bool) -> None:
    """Note that a request calls a tool that there is; as failed until it has ended."""
    connection.scope["state"][TOOL] = (tool, failed)
