"""Paths as the routes need them: the session pools' API on any prefix, and session identifiers in one piece.

An ASGI layer. Clients of the pools' API are given an endpoint and append to it: what stands before the API's own path
is taken off. It works on the path as it was sent, so that an encoded slash is no separator: under /v1/sessions/, the
identifier stays percent-encoded, and the route decodes it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from kernel_sandbox.service.requests import POOL_PREFIX

_SESSIONS = "/v1/sessions/"
OWN = ("v1", "docs", "openapi.json", "healthz", "readyz", "metrics", "mcp", "page", "")
"""First parts of paths that are this server's own."""
_API = re.compile(
    r"code/execute|python/execute|executions(/[^/]+)?|files(/.+)?|session|listSessions|metadata|mcp"
    r"|\.management/(getSession|listSessions|stopSession)"
)
# An endpoint as the cloud names it; a pool there may be called "files".
_RESOURCE = re.compile(r"subscriptions/[^/]+/resourceGroups/[^/]+/sessionPools/[^/]+/")


class Paths:
    """Takes the prefix off the session pools' API, and keeps an identifier in one piece."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            sent = scope["raw_path"].partition(b"?")[0].decode("latin-1")
            prefix, path = split_prefix(sent)
            scope = {**scope, "path": decoded(path), "raw_path": path.encode("latin-1"), POOL_PREFIX: prefix}
        await self._app(scope, receive, send)


def decoded(path: str) -> str:
    """Decode a path, but for the identifier in /v1/sessions/IDENTIFIER."""
    if not path.startswith(_SESSIONS):
        return unquote(path)
    identifier, slash, rest = path.removeprefix(_SESSIONS).partition("/")
    return f"{_SESSIONS}{identifier}{slash}{unquote(rest)}"


def split_prefix(path: str) -> tuple[str, str]:
    """Split a path, as it was sent, into a prefix and the API's own path; ("", path) where that is not in it."""
    parts = path.lstrip("/").split("/")
    if parts[0] in OWN:
        return "", path
    rest = "/".join(parts)
    resource = _RESOURCE.match(rest)
    first = resource[0].count("/") if resource else 0
    for start in range(first, len(parts)):
        if _API.fullmatch("/".join(parts[start:])):
            return ("/" + "/".join(parts[:start])).rstrip("/"), "/" + "/".join(parts[start:])
    return "", path
