"""Watches every request: a line in the log, numbers for Prometheus, a span, all without anybody's data.

An ASGI layer around what lets requests in and holds them to their limits, so that refusals are seen too. What a request
is called is its route's template; one that no route took is "unknown", whatever its path was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kernel_sandbox.doors.http.methods import route_of
from kernel_sandbox.service.identity import Identity
from kernel_sandbox.service.logs import log_request
from kernel_sandbox.service.metrics import Metrics, known_method
from kernel_sandbox.service.requests import TOOL
from kernel_sandbox.service.traces import Tracing

UNKNOWN = "unknown"
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""What machines ask for all day: no line in the log while it goes well."""
GONE = 499
"""The status of a request whose client went away before it was answered; no standard, but widely read so."""


class Observer:
    """Logs, counts and traces what passes."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope)

        async def send_seen(message: Message) -> None:
            seen.take(message)
            await send(message)

        with self._observed(seen):
            await self._app(scope, receive, send_seen)

    @contextlib.contextmanager
    def _observed(self, seen: _Seen) -> Iterator[None]:
        started = time.perf_counter()
        self._metrics.requests_in_flight.inc()
        with self._tracing.span("request") as span:
            try:
                yield
            except Exception:
                seen.status = seen.status or 500
                raise
            finally:
                seconds = time.perf_counter() - started
                status = seen.status or GONE
                self._metrics.requests_in_flight.dec()
                self._metrics.observe_request(seen.method, seen.route, status, seconds)
                tool, failed = seen.tool
                if tool is not None:
                    self._metrics.observe_tool(tool, bool(failed), seconds)
                span.set("http.request.method", seen.method)
                span.set("http.route", seen.route)
                span.set("http.response.status_code", status)
                if seen.route not in QUIET or status >= 400:
                    who = {"session": seen.session, "identity": seen.owner}
                    log_request(seen.method, seen.route, status, seconds, **who, tool=tool, failed=failed)


class _Seen:
    """What can be said of a request when it is over."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.method = "WEBSOCKET" if scope["type"] == "websocket" else known_method(scope["method"])
        self.status: int | None = None

    def take(self, message: Message) -> None:
        """Read the status off what goes out."""
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = int(message["status"])
        elif message["type"] == "websocket.accept":
            self.status = 101
        elif message["type"] == "websocket.close" and self.status is None:
            self.status = 403  # what uvicorn answers to a handshake that is refused so

    @property
    def route(self) -> str:
        # The router writes into the scope that it is given. What was refused before it came there is looked up.
        found = self._scope.get("route") or route_of(self._scope)
        return str(getattr(found, "path", UNKNOWN))

    @property
    def tool(self) -> tuple[str | None, bool | None]:
        """The tool that an MCP client called, and whether that failed or never ended."""
        found: tuple[str, bool] | tuple[None, None] = self._state.get(TOOL, (None, None))
        return found

    @property
    def owner(self) -> str | None:
        identity: Identity | None = self._state.get("identity")
        return None if identity is None else identity.name

    @property
    def session(self) -> str | None:
        """Something that is the same for requests of one owner about one session; the log writes a digest of it."""
        parameters = self._scope.get("path_params") or {}
        named = parameters.get("identifier") or QueryParams(self._scope["query_string"]).get("identifier")
        return None if named is None or self.owner is None else f"{self.owner}\0{unquote(named)}"

    @property
    def _state(self) -> dict[str, Any]:
        return self._scope.get("state") or {}
