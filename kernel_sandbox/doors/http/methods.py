"""Routes by path alone, and HTTP's methods beside those that they name: HEAD for a GET, what a refusal names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Answers HEAD as GET, without the body (RFC 9110, section 9.3.2). An ASGI layer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
            elif not message.get("more_body", False):
                await send({**message, "body": b""})

        scope["method"] = "GET"  # in place: what is around this reads the route off this scope
        await self._app(scope, receive, send_head)


def allowed_methods(request: Request) -> str:
    """Write all methods of a request's path, as Allow names them: one path may be several routes."""
    found: set[str] = set()
    for route in flat(request.app.routes):
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))


def route_of(scope: Scope) -> BaseRoute | None:
    """Find the route that a request is for, whatever its method; None where there is none."""
    routes = flat(scope["app"].routes)
    return next((route for route in routes if route.matches(scope)[0] is not Match.NONE), None)


def flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Iterate over routes, and those of included routers: FastAPI keeps these whole."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from flat(included.routes)
