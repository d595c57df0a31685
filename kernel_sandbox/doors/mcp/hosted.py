"""The sessions of a SessionService as MCP tools, over streamable HTTP.

doors/http/asgi_app.py mounts it, behind its doorkeeper.

Each client's session of the protocol has a session of its own, whose identifier is made from it, and which ends with
it; by name, a client uses the same sessions as over the other routes, as far as its identity may.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from kernel_sandbox.doors.mcp.contract import CallExecution, CallRefused, OnEvent, SessionLine
from kernel_sandbox.doors.mcp.mcp_server import HttpTransport, make_server
from kernel_sandbox.doors.mcp.pool_tools import PoolTools
from kernel_sandbox.doors.mcp.protocol_sessions import ProtocolSessions
from kernel_sandbox.doors.mcp.toolbox import Toolbox
from kernel_sandbox.errors import FileError, SandboxError, SandboxFileNotFound, what_is_kept
from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.service.clients import REQUESTS
from kernel_sandbox.service.failures import Refusal, failure_of
from kernel_sandbox.service.identity import Identity
from kernel_sandbox.service.ownership import Address, address_of, reach_of
from kernel_sandbox.service.requests import POOL_PREFIX, identity_of, note_tool
from kernel_sandbox.service.service import SessionMissing, SessionService, suppressing_unsaved
from kernel_sandbox.service.session_values import Streaming
from kernel_sandbox.session.cell import AsyncCellStream
from kernel_sandbox.session.outputs import what_ran
from kernel_sandbox.session.shell_commands import GRACE
from kernel_sandbox.setup.image_packages import installed, language_of
from kernel_sandbox.text.amounts import format_size

SESSION_HEADER = "mcp-session-id"
GONE = "kernel_sandbox.gone"
"""Where a request's scope has what is set when its client goes away."""
IDLE = 3600.0
"""Seconds after which a client's session of the protocol ends if it asks for nothing. Its sandbox ends much earlier."""


@dataclass(frozen=True, slots=True, repr=False)
class Caller:
    """Who calls a tool."""

    request: Request
    identity: Identity
    protocol_session: str | None
    """None for a client of a version of the protocol that has no sessions."""

    @classmethod
    def of(cls, request: Request) -> Caller:
        return cls(request, identity_of(request), request.headers.get(SESSION_HEADER))

    @property
    def gone(self) -> asyncio.Event:
        """What is set when the client has gone away from the call."""
        event: asyncio.Event = self.request.scope[GONE]
        return event

    @property
    def client(self) -> str:
        """Which client of a session it is: a session of the protocol is one, all requests without are one together."""
        return REQUESTS if self.protocol_session is None else f"mcp-{_digest(self.protocol_session)}"

    @property
    def own_identifier(self) -> str:
        """The identifier of the session that the caller has without naming one."""
        if self.identity.identifiers and not self.identity.prefixes:
            return self.identity.identifiers[0]
        # Not the protocol's own: who has that may use the protocol's session.
        return self.identity.prefixed(f"mcp-{_digest(self.protocol_session) if self.protocol_session else 'default'}")

    @property
    def has_own_session(self) -> bool:
        """Whether the session that it has without naming one is nobody else's."""
        return self.protocol_session is not None and (not self.identity.identifiers or bool(self.identity.prefixes))


class HostedSessions:
    """The holder of sessions of HTTP."""

    takes_identifiers = True

    def __init__(self, service: SessionService) -> None:
        self._service = service
        longest = float(service.settings.max_timeout)
        self.max_timeout = max(longest - GRACE, longest / 2)

    def session(self, caller: Caller, identifier: str | None) -> HostedSession:
        """Find the caller's session. Raises InvalidIdentifier and Forbidden."""
        address = address_of(caller.identity, caller.own_identifier if identifier is None else identifier)
        return HostedSession(self._service, address, caller)

    def sessions(self, caller: Caller) -> Sequence[SessionLine]:
        return [
            SessionLine(view.address.identifier, view.state, view.cells, view.created_at, view.last_used_at)
            for view in self._service.sessions(reach_of(caller.identity))
        ]

    def explain(self, exc: Exception) -> str:
        return failure_of(exc).message


class HostedSession:
    """One session of the service."""

    def __init__(self, service: SessionService, address: Address, caller: Caller) -> None:
        self._service = service
        self._address = address
        self._caller = caller
        self.key = address.key
        self.identifier = address.identifier

    async def run(self, source: str, timeout: float, on_event: OnEvent) -> CallExecution:
        streaming: Streaming | None = None
        late = ""
        opened = self._service.stream(self._address, source, timeout=timeout, client=self._caller.client)
        try:
            async with asyncio.timeout(self._service.patience), opened as streaming, self._watching(streaming.cell):
                with suppressing_unsaved():
                    async for event in streaming.cell:
                        on_event(event)
        except TimeoutError as exc:
            if streaming is None:
                raise CallRefused(f"{what_ran('no')} No session was free within the time of a call.") from exc
            late = "It took longer than a request may, its wait for others included, and was given up."
        execution = streaming.cell.result()
        news = streaming.news()
        is_first = streaming.new_session and news is None  # the news say that it is new, and more
        began = "The session began with this call: nothing from before is in it." if is_first else ""
        return CallExecution(execution, streaming.new_session, f"{began} {late}".strip(), news)

    @contextlib.asynccontextmanager
    async def _watching(self, cell: AsyncCellStream) -> AsyncIterator[None]:
        """Give up a cell that waits when its client goes away. One that runs goes on: that is no cancellation.

        See "Sending Messages to the Server", 6, in MCP's streamable HTTP.
        """

        async def give_up() -> None:
            await self._caller.gone.wait()
            if cell.is_waiting:
                await cell.aclose()

        if self._caller.gone.is_set():  # it went while the sandbox started: the cell must not begin before `give_up`
            await cell.aclose()
        task = asyncio.ensure_future(give_up())
        try:
            yield
        finally:
            task.cancel()

    async def list_files(self, directory: str) -> tuple[FileInfo, ...]:
        with contextlib.suppress(SessionMissing):
            return await self._service.list_files(self._address, directory)
        return ()

    async def read_file(self, name: str, limit: int) -> bytes:
        content = _Bounded(limit)
        try:
            await self._service.read_file(self._address, name, content)
        except SessionMissing as exc:
            raise SandboxFileNotFound("There are no files: the session has not begun yet, or has ended.") from exc
        return content.getvalue()

    async def write_file(self, name: str, data: bytes) -> FileInfo:
        return await self._service.write_file(self._address, name, io.BytesIO(data))

    async def restart(self) -> str:
        try:
            await self._service.restart(self._address, client=self._caller.client)
        except SessionMissing:
            return "There was nothing to restart: the session has not begun yet, or has ended."
        return f"A fresh kernel runs. {what_is_kept(self._service.kept_by_restart(self._address))}"

    async def shutdown(self) -> str:
        try:
            await self._service.shutdown(self._address, client=self._caller.client)
        except SessionMissing:
            return "There was nothing to shut down: the session has not begun yet, or has ended."
        return f"{what_is_kept('nothing')} A new sandbox begins with the next call."

    async def transcript(self) -> bytes:
        try:
            return await self._service.transcript(self._address)
        except SessionMissing as exc:
            raise CallRefused("There is no notebook yet: run a cell first.") from exc


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class _Presence:
    """Sees a request's client go away, whoever else listens."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()

    async def receive(self) -> Message:
        if self._watching is not None:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone.set()
        elif not message.get("more_body", False):
            self._watching = asyncio.ensure_future(self._watch())
        return message

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.gone.set()

    def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()


def _note_call(caller: Caller, tool: str, failed: bool) -> None:
    note_tool(caller.request, tool, failed=failed)


class _Bounded(io.BytesIO):
    """Takes so many bytes, and no more."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        if self.tell() + len(data) > self._limit:
            raise FileError(f"The file has more than {format_size(self._limit)}: read a part of it with a cell.")
        return super().write(data)


class McpApplication:
    """The ASGI application for one path, whose requests have an identity already."""

    def __init__(self, service: SessionService) -> None:
        self._service = service
        self._open = ProtocolSessions(IDLE)
        holder, most = HostedSessions(service), service.settings.max_body_bytes
        image, engine = service.settings.image, service.settings.engine
        language = language_of(image, engine)
        packages = installed(image, engine) if language.is_python else ""
        toolbox = Toolbox(holder, language=language, packages=packages)
        self._transport = HttpTransport(
            make_server(toolbox, Caller.of, _note_call), idle_timeout=IDLE, max_body_bytes=most
        )
        pool_tools = make_server(PoolTools(holder, language), Caller.of, _note_call)
        self._pools = HttpTransport(pool_tools, idle_timeout=IDLE, max_body_bytes=most, stateless=True)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block is entered; once."""
        async with self._transport.running(), self._pools.running():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        presence = _Presence(receive)
        scope[GONE] = presence.gone
        try:
            await self._serve(scope, presence.receive, send)
        finally:
            presence.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if scope.get(POOL_PREFIX) and request.method == "POST":  # a pool's own endpoint
            await self._pools.handle(scope, receive, send, owner=identity_of(request).name)
            return
        owner, session = identity_of(request).name, request.headers.get(SESSION_HEADER)
        if refusal := self._refusal(request, owner):
            failure = failure_of(refusal)
            response = JSONResponse(failure.body(), failure.status, failure.headers() | {"Allow": "POST, DELETE"})
            await response(scope, receive, send)
            return

        async def send_watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                told = session or Headers(raw=message["headers"]).get(SESSION_HEADER)
                if told is not None:
                    self._open.note(told, owner)
                ended.extend([told] if told is not None and request.method == "DELETE" else [])
            await send(message)

        ended: list[str] = []
        await self._transport.handle(scope, receive, send_watched, owner=owner)
        for one in ended:
            self._open.forget(one)
            await self._end_sandbox(Caller.of(request))

    def _refusal(self, request: Request, owner: str) -> Refusal | None:
        if request.method not in ("POST", "DELETE"):
            # The stream of a GET is for what a server says by itself. This one says nothing, and so keeps none open.
            return Refusal(405, "MethodNotAllowed", "Use POST, or DELETE to end the session.")
        if self._transport.opens_session(request.headers) and not self._open.has_room(owner):
            return Refusal(429, "TooManySessions", "You have too many MCP sessions: end one.", retry_after=60)
        return None

    async def _end_sandbox(self, caller: Caller) -> None:
        """End the sandbox of a client that has ended its session of the protocol."""
        if caller.has_own_session:
            with contextlib.suppress(SandboxError):
                await self._service.shutdown(address_of(caller.identity, caller.own_identifier), client=caller.client)


def mcp_application(service: SessionService) -> McpApplication:
    """Make the application for a service that is open; whoever mounts it enters `running`."""
    return McpApplication(service)
