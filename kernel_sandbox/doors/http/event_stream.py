"""A running cell as server-sent events (WHATWG HTML, section 9.2): every output as it comes, then the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kernel_sandbox.doors.http.bodies import ClientGone, TurnMissed, disconnected
from kernel_sandbox.doors.http.outputs_json import event_json, execution_json
from kernel_sandbox.service.service import suppressing_unsaved
from kernel_sandbox.service.session_values import Streaming
from kernel_sandbox.session.cell import AsyncCellStream

HEARTBEAT = 10.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection."""


async def open_event_stream(
    request: Request, opened: contextlib.AbstractAsyncContextManager[Streaming], patience: float
) -> EventStream:
    """Begin a cell and answer with its events. Raises ClientGone, and TurnMissed where it got no session in time.

    `patience` is how many seconds the cell has, its wait included.
    """
    held, deadline = contextlib.AsyncExitStack(), asyncio.get_running_loop().time() + patience
    gone = asyncio.ensure_future(disconnected(request))

    async def open_unless_gone() -> Streaming:
        streaming = await held.enter_async_context(opened)
        if gone.done():
            await streaming.cell.aclose()
        return streaming

    opening = asyncio.ensure_future(open_unless_gone())
    try:
        await asyncio.wait({opening, gone}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise ClientGone
        if not opening.done():
            raise TurnMissed
        return EventStream(opening.result(), held, deadline)
    except BaseException:
        opening.cancel()
        await asyncio.wait({opening})
        await held.aclose()
        raise
    finally:
        gone.cancel()


class EventStream(StreamingResponse):
    """Answers with a cell's events. When the client goes away, the cell is interrupted."""

    def __init__(self, streaming: Streaming, held: contextlib.AsyncExitStack, deadline: float) -> None:
        """`held` is closed at the end, however it comes about: it interrupts the cell if that still runs.

        At the `deadline`, by the loop's clock, the cell is ended.
        """
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_events(streaming, deadline), media_type="text/event-stream", headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._held.aclose()


async def _events(streaming: Streaming, deadline: float) -> AsyncIterator[bytes]:
    stream, loop = streaming.cell, asyncio.get_running_loop()
    ending: set[asyncio.Task[None]] = set()
    timer = loop.call_at(deadline, lambda: ending.add(loop.create_task(stream.aclose())))
    try:
        async for event in with_silences(stream):
            yield b": not over yet\n\n" if event is None else _message("output", event)
    finally:
        timer.cancel()
    told = execution_json(stream.result(), streaming.news(), new_session=streaming.new_session, with_outputs=False)
    yield _message("done", told)


async def with_silences(stream: AsyncCellStream) -> AsyncIterator[dict[str, Any] | None]:
    """Iterate over a cell's events as JSON; None after each silence."""
    following = asyncio.ensure_future(anext(stream, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=HEARTBEAT)
            if not done:
                yield None
                continue
            event = None
            with suppressing_unsaved():
                event = following.result()
            if event is None:
                return
            yield event_json(event)
            following = asyncio.ensure_future(anext(stream, None))
    finally:
        following.cancel()


def _message(kind: str, value: dict[str, Any]) -> bytes:
    # JSON in one line: a line end within a text is written as \n there.
    return f"event: {kind}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
