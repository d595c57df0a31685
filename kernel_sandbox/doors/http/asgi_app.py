"""The application: routes, and around them the layers that let requests in. It only composes.

Proxied        what a proxy before this says
Paths          where the session pools' API begins in a path
Observer       log, metrics, traces
HeadAsGet      HEAD where there is a GET
Limits         bytes, seconds, requests at once
Doorkeeper     who sends it
routes         azure, native, admin, live, page, mcp, and the few here
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kernel_sandbox.doors.http import admin, azure, native, sessions_page, websocket_sessions
from kernel_sandbox.doors.http.azure_requests import VERSIONS
from kernel_sandbox.doors.http.bodies import response_of
from kernel_sandbox.doors.http.doorkeeper import OPEN_PATHS, Doorkeeper
from kernel_sandbox.doors.http.limits import RequestLimits
from kernel_sandbox.doors.http.methods import HeadAsGet, allowed_methods
from kernel_sandbox.doors.http.observer import Observer
from kernel_sandbox.doors.http.prefixes import Paths
from kernel_sandbox.doors.http.proxies import Proxied, base_of
from kernel_sandbox.doors.http.reference import reference_page
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.authenticator import Authenticator
from kernel_sandbox.service.failures import Failure, InvalidVersion, failure_of
from kernel_sandbox.service.metrics import Metrics
from kernel_sandbox.service.ownership import reach_of_admin
from kernel_sandbox.service.readiness import Readiness
from kernel_sandbox.service.requests import identity_of
from kernel_sandbox.service.service import SessionService
from kernel_sandbox.service.traces import Tracing
from kernel_sandbox.text.utf8 import clean_text

DESCRIPTION = """Python sessions in locked-down sandboxes, over HTTP.

A session is a kernel with its files: what a cell leaves behind, the next one finds. The routes under `/v1` are this
server's own; all others are those of Azure's dynamic sessions, under any prefix, so that their published clients work
here unchanged. Say who you are with `Authorization: Bearer …` or `x-api-key`.

`/v1/sessions/{identifier}/ws` is a WebSocket of JSON objects. Send `{"type": "execute", "id": "1", "source": "6 * 7"}`
(with a `timeout` in seconds, if you like) or `{"type": "interrupt"}`. What comes back has the `id` of its cell:
`output` for each output as it comes, at the end `done` with the `execution`, or `error`. No message has more than
1 MiB: a long stream comes as several outputs, and any other long message as consecutive
`{"type": "part", "id": "1", "part": 1, "parts": 3, "text": "…"}`, whose texts, joined, are the JSON of the message."""

# FastAPI's own would put URLs, which hold identifiers, into the spans of whoever set OpenTelemetry up in the process.
_NO_TELEMETRY: dict[str, Any] = {
    "telemetry": {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
}
_SECURE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),  # no page of another site shows, plays or runs it
)


def create_app(
    service: SessionService,
    authenticator: Authenticator,
    *,
    is_ready: Callable[[], bool] = lambda: True,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Make the application for a service that is open. `is_ready` turns false when the server is about to end."""
    app = FastAPI(
        title="kernel-sandbox",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        openapi_url=None,  # a route here, which knows the address that the client uses
        redoc_url=None,
        lifespan=_running,
        **_NO_TELEMETRY,
    )
    app.state.service = service
    app.state.readiness = Readiness(service, is_ready)
    app.state.metrics = metrics = Metrics(lambda: service.pool.metrics)
    settings = service.settings
    app.include_router(native.router)
    app.include_router(admin.router)
    app.include_router(websocket_sessions.router)
    app.include_router(sessions_page.router)
    app.include_router(azure.router)
    app.state.mcp = _mount_mcp(app, service)
    _add_own_routes(app)
    if settings.metrics != "off":
        _add_metrics(app, for_admins=settings.metrics == "admin")
    app.add_exception_handler(SandboxError, _answer_failure)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    # The last one added is the outermost.
    open_paths = OPEN_PATHS | {"/metrics"} if settings.metrics == "open" else OPEN_PATHS
    most = settings.quota_requests
    app.add_middleware(Doorkeeper, authenticator=authenticator, most_requests=most, open_paths=open_paths)
    app.add_middleware(RequestLimits, settings=settings)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Observer, metrics=metrics, tracing=tracing or Tracing(None))
    app.add_middleware(Paths)
    app.add_middleware(_SecureHeaders)
    app.add_middleware(Proxied, settings=settings)
    return app


@contextlib.asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    """Run the tools for MCP clients. The service itself is opened and closed by who makes the application."""
    async with contextlib.nullcontext() if app.state.mcp is None else app.state.mcp.running():
        yield


def _mount_mcp(app: FastAPI, service: SessionService) -> Any:
    """Add the tools for MCP clients, where the extra `mcp` is installed: a door of its own, found by its name."""
    try:
        hosted = importlib.import_module("kernel_sandbox.doors.mcp.hosted")
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        return None
    application = hosted.mcp_application(service)
    app.router.routes.append(_NamedRoute("/mcp", endpoint=application, include_in_schema=False))
    return application


class _NamedRoute(Route):
    """A route that tells the observer which it is, as FastAPI's do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return match, {**child, "route": self}


def _add_own_routes(app: FastAPI) -> None:
    @app.get("/healthz", tags=["Operations"], summary="Is the process alive?")
    async def healthz() -> JSONResponse:
        """Answer that the process is alive; /readyz answers whether it can serve."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", tags=["Operations"], summary="Can it serve?", responses={503: {"description": "Not now."}})
    async def readyz(request: Request) -> JSONResponse:
        """Return whether the server takes requests: not while it starts or shuts down, nor while its database does not
        answer or no session can be started.
        """
        hindrance = await request.app.state.readiness.hindrance()
        return JSONResponse({"status": hindrance or "ready"}, 503 if hindrance else 200)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        """Show the routes as a page that loads nothing."""
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
        return HTMLResponse(reference_page(described(request)), headers=headers)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> JSONResponse:
        """Give the description of all routes."""
        return JSONResponse(described(request))

    def described(request: Request) -> dict[str, Any]:
        base = base_of(request)
        return app.openapi() | ({"servers": [{"url": base}]} if base else {})


def _add_metrics(app: FastAPI, *, for_admins: bool) -> None:
    @app.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        """Give the numbers, in Prometheus' format."""
        if for_admins:
            reach_of_admin(identity_of(request)).require_all()
        body, content_type = request.app.state.metrics.render()
        return Response(body, headers={"Content-Type": content_type})


service_of = azure.service_of


async def _answer_failure(request: Request, exc: Exception) -> Response:
    return response_of(failure_of(exc))


async def _answer_invalid(request: Request, exc: Exception) -> Response:
    """Answer what FastAPI could not read; without the input, which may be secret or large."""
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0] if exc.errors() else {}
    where = ".".join(str(part) for part in first.get("loc", ())[1:])[:200]
    where = clean_text(where)  # it may be a name that the client made up
    if where == "api-version":
        return response_of(failure_of(InvalidVersion(VERSIONS)))
    message = f"{where or 'The request'}: {first.get('msg', 'not understood')}."
    return response_of(Failure(400, "InvalidRequest", message, target=where or None))


async def _answer_http(request: Request, exc: Exception) -> Response:
    """Answer a path or a method that there is not."""
    assert isinstance(exc, HTTPException)
    codes = {404: "NotFound", 405: "MethodNotAllowed"}
    headers = dict(exc.headers or {})
    if exc.status_code == 405:
        headers["Allow"] = allowed_methods(request)
    code = codes.get(exc.status_code, "InvalidRequest")
    return response_of(Failure(exc.status_code, code, exc.detail, headers))


class _SecureHeaders:
    """Adds to every answer what keeps a browser from taking it for something else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_SECURE]
            await send(message)

        handle: Callable[[Message], Awaitable[None]] = send_secured if scope["type"] == "http" else send
        await self._app(scope, receive, handle)
