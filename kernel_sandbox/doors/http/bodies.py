"""Bodies in and out: JSON, files of a form, files as they are. Large ones go through nameless temporary files.

A nameless file is gone with the process, however that ends. Everything read here has passed `limits`.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

from kernel_sandbox.service.failures import Failure, InvalidRequest, Refusal

PIECE = 256 * 1024
IN_MEMORY = 1024 * 1024
"""Bytes of a file that are held in memory before it goes to disk."""
MOST_FIELDS = 16
"""Fields of a form beside the file."""
LONGEST_FIRST_LINE = 128
_FIRST_LINE = re.compile(rb"--([0-9A-Za-z'()+_,./:=?-]{1,70})\r?\n")
"""What parts are divided by (RFC 2046, section 5.1.1)."""


def response_of(failure: Failure) -> JSONResponse:
    """Make the answer that tells a failure."""
    return JSONResponse(failure.body(), failure.status, failure.headers())


class ClientGone(Refusal):
    """The client went away before its answer was ready: nobody reads this."""

    def __init__(self) -> None:
        super().__init__(499, "ClientGone", "The client went away.")


class TurnMissed(Refusal):
    """The time of a request was over before its cell's turn came: the cell never runs."""

    def __init__(self) -> None:
        told = "It did not run: its turn did not come within the time of a request. Send it again."
        super().__init__(504, "RequestTimeout", told)


async def read_json(request: Request) -> Any:
    """Read a body as JSON. Raises InvalidRequest."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("The body is not JSON.") from exc


@contextlib.asynccontextmanager
async def form_file(request: Request) -> AsyncIterator[tuple[str, BinaryIO]]:
    """Read the part `file` of a multipart form: its file name as it was sent, and its content."""
    try:
        form = await _read_form(request)
    except MultiPartException as exc:
        raise InvalidRequest(f"The form is not understood: {exc.message}") from exc
    try:
        part = form.get("file")
        if not isinstance(part, UploadFile) or not part.filename:
            raise InvalidRequest("Send the file as the part `file` of a form, with a file name.", target="file")
        yield part.filename, part.file
    finally:
        await form.close()


async def _read_form(request: Request) -> FormData:
    """Read a multipart form; by its first line where its Content-Type says nothing of it. Raises MultiPartException.

    A client that has sent JSON before may go on to name that type: semantic-kernel's does.
    """
    stream = request.stream()
    start = b""
    while b"\n" not in start and len(start) < LONGEST_FIRST_LINE and (piece := await anext(stream, b"")):
        start += piece
    headers = request.headers
    if "boundary=" not in headers.get("content-type", ""):
        first = _FIRST_LINE.match(start)
        if first is None:
            return FormData()
        headers = Headers({"content-type": f'multipart/form-data; boundary="{first[1].decode()}"'})

    async def whole() -> AsyncGenerator[bytes, None]:
        yield start
        async for piece in stream:
            yield piece

    return await MultiPartParser(headers, whole(), max_files=1, max_fields=MOST_FIELDS).parse()


@contextlib.asynccontextmanager
async def body_file(request: Request) -> AsyncIterator[BinaryIO]:
    """Read a body that is a file."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
        async for piece in request.stream():
            file.write(piece)
        yield cast(BinaryIO, file)


async def send_file(fill: Callable[[BinaryIO], Awaitable[int]], name: str) -> StreamingResponse:
    """Answer with a file that `fill` writes. It is a download for every browser: no page of the sandbox is shown."""
    file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed when it has been sent
    try:
        size = await fill(cast(BinaryIO, file))
        file.seek(0)
    except BaseException:
        file.close()
        raise

    async def pieces() -> AsyncIterator[bytes]:
        with file:
            while piece := file.read(PIECE):
                yield piece

    headers = {"Content-Length": str(size), "Content-Disposition": attachment(name)}
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)


def attachment(name: str) -> str:
    """Write a Content-Disposition with a file's last name, by RFC 6266 and RFC 5987."""
    last = name.rpartition("/")[2]
    plain = re.sub(r'[^ -~]|["\\%]', "_", last)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"


async def disconnected(request: Request) -> None:
    """Wait until the client goes away. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
