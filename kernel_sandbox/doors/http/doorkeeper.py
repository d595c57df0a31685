"""Asks who sends a request before anything else of it is looked at, and holds each identity to its requests at a time.

An ASGI layer around all routes, so that a new route cannot forget it: what is open to everybody is listed here.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kernel_sandbox.doors.http.bodies import response_of
from kernel_sandbox.service.authenticator import Authenticator
from kernel_sandbox.service.failures import Refusal, failure_of
from kernel_sandbox.service.identity import Forbidden, Identity, is_local_request, is_own_site
from kernel_sandbox.service.requests import IDENTITY

HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
"""What a balancer asks, by HTTP/1.0 perhaps, and so without a Host."""
OPEN_PATHS = HEALTH_PATHS | {"/docs", "/openapi.json", "/", "/page/page.css", "/page/page.js"}
"""What everybody may read: it tells nothing of any session."""
PAGES = frozenset({"/", "/docs"})
"""What other pages may link to."""
POLICY_VIOLATION = 1008
"""How a live connection is closed (RFC 6455, section 7.4.1)."""
TOKEN_PROTOCOL = "bearer."  # noqa: S105 - a prefix, no token
"""What a browser puts its token behind, as a WebSocket subprotocol: it can set no header."""


class Doorkeeper:
    """Lets requests in, or answers 401, 403, 429."""

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        most_requests: int,
        open_paths: frozenset[str] = OPEN_PATHS,
    ) -> None:
        """`most_requests` are those of one identity at a time; 0 is no bound."""
        self._app = app
        self._open_paths = open_paths
        self._authenticator = authenticator
        self._most = most_requests
        self._in_flight: collections.Counter[str] = collections.Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            if scope["path"] not in HEALTH_PATHS:
                self._check_origin(scope)
            if scope["path"] in self._open_paths:
                await self._app(scope, receive, send)
                return
            identity = await self._identify(scope)
            with self._counted(identity):
                scope.setdefault("state", {})[IDENTITY] = identity
                await self._app(scope, self._asking_again(scope, receive, send, identity), send)
        except _Turned as turned:
            await self._turn_away(turned.cause, scope, receive, send)

    def _check_origin(self, scope: Scope) -> None:
        """Refuse what a web page of another site sends: no program has an Origin, and the own page has its host."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        if self._authenticator.modes == ("open",):
            good = is_local_request(host, origin) and (is_own_site(headers.get("sec-fetch-site")) or _is_link(scope))
        else:
            # Only who has a key or a token gets further. What a browser may connect to without asking first, and
            # MCP's endpoint, which has to ask by its standard ("Security Warning" of its streamable HTTP), ask here.
            asked = scope["type"] == "websocket" or scope["path"] == "/mcp"
            good = origin is None or not asked or _is_of_host(origin, host)
        if not good:
            raise _Turned(Forbidden("Requests of other sites' pages are refused."))

    async def _identify(self, scope: Scope) -> Identity:
        headers = Headers(scope=scope)
        api_key = headers.get("x-api-key") or headers.get("x-ms-apikey")
        authorization = headers.get("authorization")
        if scope["type"] == "websocket" and authorization is None:
            tokens = [name for name in scope.get("subprotocols", ()) if name.startswith(TOKEN_PROTOCOL)]
            authorization = f"Bearer {tokens[0].removeprefix(TOKEN_PROTOCOL)}" if tokens else None
        try:
            return await self._authenticator.identify(authorization, api_key)
        except Exception as exc:  # whatever went wrong, nobody comes in
            raise _Turned(exc) from exc

    def _asking_again(self, scope: Scope, receive: Receive, send: Send, identity: Identity) -> Receive:
        """End a live connection at its first message after its key or token has lost its force.

        So does one that was opened while everybody was let in.
        """
        if scope["type"] != "websocket":
            return receive

        async def receive_of_known() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                try:
                    known = await self._identify(scope) == identity
                except _Turned:
                    known = False
                if not known:
                    await send({"type": "websocket.close", "code": POLICY_VIOLATION})
                    return {"type": "websocket.disconnect", "code": POLICY_VIOLATION}
            return message

        return receive_of_known

    @contextlib.contextmanager
    def _counted(self, identity: Identity) -> Iterator[None]:
        if self._most and self._in_flight[identity.name] >= self._most:
            few = f"You have {self._most} requests under way, as many as you may have: wait for one of them."
            raise _Turned(Refusal(429, "TooManyRequests", few, retry_after=1))
        self._in_flight[identity.name] += 1
        try:
            yield
        finally:
            self._in_flight[identity.name] -= 1
            if not self._in_flight[identity.name]:
                del self._in_flight[identity.name]

    async def _turn_away(self, cause: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        response = response_of(failure_of(cause))
        if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
            await response(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})


def _is_link(scope: Scope) -> bool:
    """Whether somebody follows a link to a page that tells nothing, as its own document and not within another."""
    headers = Headers(scope=scope)
    kind = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return scope["path"] in PAGES and scope.get("method") in ("GET", "HEAD") and kind == ("navigate", "document")


def _is_of_host(origin: str, host: str | None) -> bool:
    try:
        return bool(host) and urlsplit(origin).netloc == host
    except ValueError:
        return False


class _Turned(Exception):
    """The request was turned away; `cause` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause
