"""What a request may take, held before anything is read into memory: bytes, seconds, and how many at once.

ASGI layers. They refuse with an answer of their own, since nothing inside them has seen the request yet.
"""

from __future__ import annotations

import asyncio
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kernel_sandbox.doors.http.bodies import response_of
from kernel_sandbox.service.failures import Refusal, failure_of
from kernel_sandbox.service.settings import ServerSettings
from kernel_sandbox.text.amounts import format_size

MULTIPART_ROOM = 64 * 1024
"""Bytes around a file in a multipart body."""
BODY_IDLE = 10.0
"""Seconds between two pieces of a body."""
BODY_TIME = 20.0
"""Seconds for a body that is no upload."""
SEND_IDLE = 30.0
"""Seconds until a client has taken a piece of its answer."""
MOST_AT_ONCE = 512
"""Requests that the server works on at a time, whoever sends them."""
DRAIN_TIME, DRAIN_BYTES, MOST_DRAINS = 5.0, 512 * 1024 * 1024, 4
"""How much of a refused body is still taken, so that a client that sends all of it first sees the answer."""

_UPLOAD = re.compile(r"/files(/upload)?|/v1/sessions/[^/]+/files/.+")


def body_limit(settings: ServerSettings, method: str, path: str) -> int:
    """How many bytes a request's body may have."""
    if method in ("POST", "PUT") and _UPLOAD.fullmatch(path):
        return settings.max_upload_bytes + MULTIPART_ROOM
    return settings.max_body_bytes


class RequestLimits:
    """Holds every request to its size and its time."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._at_once = 0
        self._drains = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, body_limit(self._settings, scope["method"], scope["path"]))
        answer = _Answer(send, body)
        self._at_once += 1
        try:
            body.check_announced(scope)
            if self._at_once > MOST_AT_ONCE:
                raise Refusal(503, "ServiceUnavailable", "The server is busy: ask again soon.", retry_after=1)
            async with asyncio.timeout(self._settings.request_timeout):
                await self._app(scope, body.receive, answer.send)
        except Refusal as exc:
            await self._refuse(body, answer, exc)
        except RuntimeError:
            # The application would have answered the refusal in its own way, and was not let.
            if body.refusal is None or answer.started:
                raise
            await self._refuse(body, answer, body.refusal)
        except TimeoutError:
            late = f"The request took longer than {self._settings.request_timeout:g} s: ask for less at a time."
            await self._refuse(body, answer, Refusal(504, "RequestTimeout", late))
        except ConnectionAbortedError:
            return  # an answer that is not whole: the server closes the connection
        finally:
            self._at_once -= 1

    async def _refuse(self, body: _Body, answer: _Answer, refusal: Refusal) -> None:
        if answer.started:
            return
        body.refusal = None
        response = response_of(failure_of(refusal))
        response.headers["Connection"] = "close"
        status, headers = response.status_code, response.raw_headers
        await answer.send({"type": "http.response.start", "status": status, "headers": headers})
        await answer.send({"type": "http.response.body", "body": response.body, "more_body": True})
        if self._drains < MOST_DRAINS:
            self._drains += 1
            try:
                await body.drain()
            finally:
                self._drains -= 1
        await answer.send({"type": "http.response.body", "body": b"", "more_body": False})


class _Body:
    """A request's body, counted and timed as it is read."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._taken = 0
        self._ended = False
        self._deadline = time.monotonic() + BODY_TIME
        self._is_upload = False
        self.refusal: Refusal | None = None
        """Why no more of it is read. What the application makes of that is not sent."""

    def check_announced(self, scope: Scope) -> None:
        """Refuse what says itself that it is too large."""
        self._is_upload = self._limit > 0 and bool(_UPLOAD.fullmatch(scope["path"]))
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._limit:
                raise self._refused(413, "RequestTooLarge", f"The request has more than {format_size(self._limit)}.")

    def _refused(self, status: int, code: str, message: str) -> Refusal:
        self.refusal = Refusal(status, code, message)
        return self.refusal

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()  # the client's going away, when it comes to that
        try:
            async with asyncio.timeout(self._patience()):
                message = await self._receive()
        except TimeoutError:
            raise self._refused(408, "RequestTimeout", "The request's body came too slowly.") from None
        self._taken += len(message.get("body", b""))
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        if self._taken > self._limit:
            raise self._refused(413, "RequestTooLarge", f"The request has more than {format_size(self._limit)}.")
        return message

    def _patience(self) -> float:
        left = self._deadline - time.monotonic()
        return BODY_IDLE if self._is_upload else max(min(BODY_IDLE, left), 0.0)

    async def drain(self) -> None:
        """Take what the client still sends, within bounds."""
        taken = 0
        try:
            async with asyncio.timeout(DRAIN_TIME):
                while not self._ended and taken < DRAIN_BYTES:
                    message = await self._receive()
                    taken += len(message.get("body", b""))
                    self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            return


class _Answer:
    """What goes out, to a client that must take it."""

    def __init__(self, send: Send, body: _Body) -> None:
        self._send = send
        self._body = body
        self.started = False

    async def send(self, message: Message) -> None:
        if not self.started and self._body.refusal is not None:
            raise self._body.refusal
        self.started = True
        try:
            async with asyncio.timeout(SEND_IDLE):
                await self._send(message)
        except TimeoutError:
            raise ConnectionAbortedError("the client does not take its answer") from None
