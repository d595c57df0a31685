"""Addresses of this server's own resources, as the client that asks reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from starlette.requests import Request

from kernel_sandbox.doors.http.proxies import base_of
from kernel_sandbox.service.requests import POOL_PREFIX


def absolute_url(request: Request, path: str, query: Mapping[str, str]) -> str:
    """Write the address of a path under the endpoint that the client used."""
    base = f"{base_of(request)}{request.scope.get(POOL_PREFIX, '')}"
    return f"{request.url.scheme}://{request.url.netloc}{base}/{path}?{urlencode(query)}"
