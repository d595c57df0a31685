"""What a proxy before the service says of the request that it passed on: https or not, and a prefix that it took off.

An ASGI layer, the outermost. Only proxies that the settings trust are believed; uvicorn's own layer for this is off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kernel_sandbox.service.settings import ServerSettings

BASE = "proxy_prefix"
"""The scope's key for what stands before every path in the addresses that clients use: "" or "/sandboxes"."""
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+/?", re.ASCII)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


def base_of(connection: HTTPConnection) -> str:
    """Return what stands before this service's paths in the addresses that the client uses."""
    base: str = connection.scope.get(BASE, "")
    return base


class Proxied:
    """Takes a trusted proxy's word, and puts the prefix into every Location."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._prefix = settings.proxy_prefix
        self._trusted = tuple(ip_network(each) for each in settings.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        told: Mapping[str, str] = headers if self._is_trusted(scope) else {}
        scheme = _SCHEMES.get(_first(told.get("x-forwarded-proto")), "")
        if scheme:
            is_socket = scope["type"] == "websocket"
            scope["scheme"] = scheme.replace("http", "ws") if is_socket else scheme
        base = scope[BASE] = _prefix_of(_first(told.get("x-forwarded-prefix"))) or self._prefix
        if self._prefix and scope["raw_path"].startswith(f"{self._prefix}/".encode()):  # it was not taken off
            scope["raw_path"] = scope["raw_path"][len(self._prefix) :]  # what prefixes.py reads
        own = f"{scope.get('scheme', 'http')}://{headers.get('host', '')}/"

        async def send_based(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, _based(value, base, own) if name.lower() == b"location" else value)
                    for name, value in message.get("headers", ())
                ]
            await send(message)

        await self._app(scope, receive, send_based if base else send)

    def _is_trusted(self, scope: Scope) -> bool:
        try:
            address = ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        # A socket of both versions shows IPv4 addresses as IPv6 (RFC 4291, section 2.5.5.2).
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._trusted)


def _first(value: str | None) -> str:
    return (value or "").partition(",")[0].strip()


def _prefix_of(text: str) -> str:
    """Read a prefix; "" for what is none, which might lead a client elsewhere."""
    good = _PREFIX.fullmatch(text) and not {".", ".."} & set(text.split("/"))
    return text.rstrip("/") if good else ""


def _based(value: bytes, base: str, own: str) -> bytes:
    """Put the prefix before the path of an address of ours."""
    location = value.decode("latin-1")
    for start in (own, "/"):
        if location.startswith(start) and not location.startswith("//"):
            return f"{start.removesuffix('/')}{base}/{location.removeprefix(start)}".encode("latin-1")
    return value
