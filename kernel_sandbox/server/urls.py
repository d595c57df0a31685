"""Addresses of this server's own resources, as the client that asks reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request

from kernel_sandbox.server.prefixes import PREFIX


def absolute_url(request: Request, path: str, query: Mapping[str, str]) -> str:
    """Write the address of a path under the endpoint that the client used."""
    return f"{request.url.scheme}://{request.url.netloc}{request.scope.get(PREFIX, '')}/{path}?{urlencode(query)}"
