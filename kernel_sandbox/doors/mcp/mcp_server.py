"""The only door to the package `mcp`: the toolbox as a server of the protocol, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from importlib.metadata import version
from typing import Any, cast
from urllib.parse import quote

import mcp_types as types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.streamable_http_manager import __name__ as manager_module
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import Receive, Scope, Send

from kernel_sandbox.doors.mcp.cell_progress import Report
from kernel_sandbox.doors.mcp.definitions import Definition, instructions
from kernel_sandbox.doors.mcp.stdio import Lines, Writer
from kernel_sandbox.doors.mcp.tool_results import CallResult, FilePart, Part, TextPart
from kernel_sandbox.doors.mcp.toolbox import RefusedByProtocol, SessionTools

Context = ServerRequestContext[Any, Any]
FindCaller = Callable[[Any], Any]
"""Given the HTTP request of a call (None over stdio), says who calls: what the holder of sessions takes as `caller`."""
NoteCall = Callable[[Any, str, bool], None]
"""Given who calls, a tool that there is, and whether the call failed; first as failed, until it has ended."""
LAST_WORDS = 0.5
"""Seconds that a client over stdio has to read what was still to be said when it left."""
MAX_SESSIONS = 1000
"""Clients of the HTTP transport at a time. Each costs a task and two streams; its sandbox is the pool's affair."""


def make_server(
    toolbox: SessionTools,
    find_caller: FindCaller = lambda request: None,
    note_call: NoteCall = lambda caller, tool, failed: None,
) -> Server[Any]:
    """Make a server of the protocol that has these tools; `note_call` is told of each call."""
    listed = [_tool(definition) for definition in toolbox.definitions]
    names = {definition.name for definition in toolbox.definitions}

    async def list_tools(context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        caller, report = find_caller(context.request), _report(context)
        if params.name in names:
            note_call(caller, params.name, True)
        try:
            answer = await toolbox.call(params.name, params.arguments, caller=caller, report=report)
        except RefusedByProtocol as exc:
            raise MCPError(exc.code, str(exc)) from exc
        note_call(caller, params.name, answer.failed)
        return _result(answer)

    return Server(
        "kernel-sandbox",
        version=version("kernel-sandbox"),
        title=f"{toolbox.language.title} sandbox",
        instructions=instructions(toolbox.language),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _report(context: Context) -> Report | None:
    """How a call's progress is told; None where its client has not asked for it."""
    if not context.meta or context.meta.get("progress_token") is None:
        return None

    async def report(seconds: float, line: str) -> None:
        await context.session.report_progress(round(seconds, 1), message=line)

    return report


def _tool(definition: Definition) -> types.Tool:
    hints = types.ToolAnnotations(
        title=definition.title,
        read_only_hint=definition.reads_only,
        destructive_hint=definition.destroys,
        idempotent_hint=definition.repeats or definition.reads_only,
        open_world_hint=False,
    )
    return types.Tool(
        name=definition.name,
        title=definition.title,
        description=definition.description,
        input_schema=definition.arguments,
        output_schema=definition.data,
        annotations=hints,
    )


def _result(answer: CallResult) -> types.CallToolResult:
    content = [_content(part) for part in answer.parts]
    return types.CallToolResult(content=content, structured_content=answer.data, is_error=answer.failed)


def _content(part: Part) -> types.ContentBlock:
    if isinstance(part, TextPart):
        return types.TextContent(text=part.text)
    if not isinstance(part, FilePart):
        return types.ImageContent(data=base64.b64encode(part.data).decode(), mime_type=part.kind)
    uri = f"sandbox://{quote(part.name)}"
    if isinstance(part.content, str):
        return types.EmbeddedResource(
            resource=types.TextResourceContents(uri=uri, mime_type=part.kind, text=part.content)
        )
    blob = base64.b64encode(part.content).decode()
    return types.EmbeddedResource(resource=types.BlobResourceContents(uri=uri, mime_type=part.kind, blob=blob))


async def serve_stdio(server: Server[Any], lines: Lines, writer: Writer) -> None:
    """Serve one client over lines of text, until they end."""
    async with stdio_server(cast(Any, lines), cast(Any, writer)) as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
        asyncio.get_running_loop().call_later(LAST_WORDS, writer.abandon)


class HttpTransport:
    """The protocol's streamable HTTP, for clients that are known already: whoever mounts it says who sends a request.

    A client's session of the protocol is its own: to anybody else it is not there. `stateless` has none at all: each
    request stands for itself, and is answered as plain JSON.
    """

    def __init__(
        self, server: Server[Any], *, idle_timeout: float, max_body_bytes: int, stateless: bool = False
    ) -> None:
        if not stateless:
            server.add_request_handler("server/discover", types.RequestParams, _discover_handshake(server))
        self._manager = StreamableHTTPSessionManager(
            server,
            stateless=stateless,
            json_response=stateless,
            session_idle_timeout=idle_timeout,
            max_request_body_size=max_body_bytes,
            max_sessions=MAX_SESSIONS,
        )
        logging.getLogger(manager_module).addFilter(_without_session_ids)

    def opens_session(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers is to open a session of the protocol."""
        version_told = headers.get(MCP_PROTOCOL_VERSION_HEADER)
        knows_sessions = version_told is None or version_told in HANDSHAKE_PROTOCOL_VERSIONS
        return knows_sessions and MCP_SESSION_ID_HEADER not in headers

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block is entered; once."""
        async with self._manager.run():
            yield

    async def handle(self, scope: Scope, receive: Receive, send: Send, *, owner: str) -> None:
        """Answer a request of the client `owner`."""
        token = AccessToken(token="", client_id=owner, scopes=[])
        await self._manager.handle_request({**scope, "user": AuthenticatedUser(token)}, receive, send)


def _without_session_ids(record: logging.LogRecord) -> bool:
    """Take the identifiers out of the package's own messages: who has one may use the session."""
    record.msg = re.sub(r"[0-9a-f]{32}", "…", str(record.msg))
    return True


def _discover_handshake(server: Server[Any]) -> Callable[..., Any]:
    async def discover(context: Context, params: types.RequestParams | None) -> types.DiscoverResult:
        """Send who could do without sessions to the handshake, which gives one, and so a sandbox of its own."""
        return types.DiscoverResult(
            supported_versions=list(HANDSHAKE_PROTOCOL_VERSIONS),
            capabilities=server.get_capabilities(protocol_version=context.protocol_version),
            instructions=server.instructions,
        )

    return discover
