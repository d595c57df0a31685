"""The server's own routes, under /v1: whole results with every output, live events, files, notebooks.

A session is addressed by its identifier in the path, percent-encoded; another identity's answers as a missing one does.
"""

from __future__ import annotations

import dataclasses
import secrets
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import JSONResponse, Response

from kernel_sandbox.doors.http import native_models as models
from kernel_sandbox.doors.http.azure import service_of
from kernel_sandbox.doors.http.azure_descriptions import OPERATION
from kernel_sandbox.doors.http.azure_requests import directory_path, file_path
from kernel_sandbox.doors.http.azure_shapes import moment
from kernel_sandbox.doors.http.bodies import attachment, body_file, send_file
from kernel_sandbox.doors.http.event_stream import open_event_stream
from kernel_sandbox.doors.http.outputs_json import execution_json, session_json
from kernel_sandbox.doors.http.plain_requests import Retry, answer
from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.service.failures import InvalidRequest
from kernel_sandbox.service.ownership import Address, Reach, address_of, reach_of
from kernel_sandbox.service.requests import identity_of
from kernel_sandbox.service.runs import Watched
from kernel_sandbox.service.saved import SavedTranscript
from kernel_sandbox.service.service import SessionMissing, SessionService
from kernel_sandbox.session.shell_commands import shell_result

NOTEBOOK = "application/x-ipynb+json"

router = APIRouter(prefix="/v1", tags=["Sessions"], responses=OPERATION)

Service = Annotated[SessionService, Depends(service_of)]


async def _address(
    request: Request, identifier: Annotated[str, Path(description="The session's identifier, percent-encoded.")]
) -> Address:
    # The path layer leaves this part as it was sent, so that an encoded slash is not the end of it.
    return address_of(identity_of(request), unquote(identifier))


Session = Annotated[Address, Depends(_address)]


async def _reach(request: Request) -> Reach:
    return reach_of(identity_of(request))


Own = Annotated[Reach, Depends(_reach)]


@router.post("/sessions", summary="Make a session", response_model=models.SessionAnswer, status_code=201)
async def create_session(request: Request, service: Service, asked: models.NewSession | None = None) -> Response:
    """Make a session (201), or give the one of that identifier (200)."""
    identity = identity_of(request)
    given = asked.identifier if asked else None
    identifier = identity.prefixed(f"s-{secrets.token_hex(16)}") if given is None else given
    view, new = await service.create(address_of(identity, identifier))
    headers = {"Location": f"/v1/sessions/{quote(identifier, safe='')}"}
    return JSONResponse(session_json(view), 201 if new else 200, headers)


@router.get("/sessions", summary="List your sessions", response_model=models.SessionsAnswer)
async def list_sessions(service: Service, own: Own) -> Response:
    """List the sessions of who asks, as far as the key may use them, the oldest first."""
    return JSONResponse({"sessions": [session_json(view) for view in service.sessions(own)]})


@router.get("/sessions/{identifier}", summary="Describe a session", response_model=models.SessionAnswer)
async def get_session(service: Service, session: Session) -> Response:
    """Describe a session. It does not count as a use."""
    return JSONResponse(session_json(service.describe(session)))


@router.delete("/sessions/{identifier}", summary="Shut down a session", status_code=204)
async def delete_session(service: Service, session: Session) -> Response:
    """End a session. Variables and files are gone; its notebook stays, under /v1/transcripts."""
    await service.shutdown(session)
    return Response(status_code=204)


@router.post(
    "/sessions/{identifier}/execute",
    summary="Run a cell",
    response_model=models.ExecutionAnswer,
    openapi_extra={"responses": {"200": {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}},
)
async def execute(
    request: Request,
    service: Service,
    session: Session,
    cell: models.CellToRun,
    stream: Annotated[bool, Query(description="Send server-sent events, as `Accept: text/event-stream` does.")] = False,
    key: Retry = None,
) -> Response:
    """Run a cell, and answer with all that it showed. A failing cell is HTTP 200 with another status than "ok".

    As server-sent events: an `output` event for each output as it comes (an increment of a stream, a display, an
    update or a clearing of one), then one `done` event.

    A cell whose client goes away before its turn never runs. One that runs is interrupted when its stream is closed;
    without a stream it runs on, and a retry with the same Idempotency-Key gets its result.
    """
    if stream or "text/event-stream" in request.headers.get("accept", ""):
        if key is not None:
            told = "A stream that ends interrupts its cell, and cannot be had again: send no Idempotency-Key with it."
            raise InvalidRequest(told, target="Idempotency-Key")
        opened = service.stream(session, cell.source, timeout=cell.timeout, create=cell.create)
        return await open_event_stream(request, opened, service.patience)

    async def run(watched: Watched) -> Response:
        ran = await service.execute(session, cell.source, timeout=cell.timeout, create=cell.create, watched=watched)
        return JSONResponse(execution_json(ran.execution, ran.restarted_because, new_session=ran.new_session))

    return await answer(request, service, session, key, run)


@router.post("/sessions/{identifier}/run_command", summary="Run a shell command", response_model=models.CommandAnswer)
async def run_command(
    request: Request, service: Service, session: Session, asked: models.CommandToRun, key: Retry = None
) -> Response:
    """Run a shell command beside the cells, in the kernel's directory and environment.

    It waits for its turn among them, and never runs if its client goes away before that. Once it runs it runs on, and
    a retry with the same Idempotency-Key gets its result.
    """
    command = asked.command
    if any("\0" in word for word in ([command] if isinstance(command, str) else command)):
        raise InvalidRequest("A command holds no null character.", target="command")

    async def run(watched: Watched) -> Response:
        ran = await service.run_command(
            session, command, timeout=asked.timeout, posix=asked.posix, create=asked.create, watched=watched
        )
        result = dataclasses.asdict(shell_result(ran.execution))
        news = {"restarted_because": ran.restarted_because, "new_session": ran.new_session}
        return JSONResponse(result | news | {"duration": round(result["duration"], 6)})

    return await answer(request, service, session, key, run)


@router.post("/sessions/{identifier}/interrupt", summary="Interrupt the running cell", status_code=204)
async def interrupt(service: Service, session: Session) -> Response:
    """Interrupt the cell that runs, as a notebook's stop button does; nothing where none does."""
    await service.interrupt(session)
    return Response(status_code=204)


@router.post("/sessions/{identifier}/restart", summary="Restart the kernel", response_model=models.SessionAnswer)
async def restart(service: Service, session: Session) -> Response:
    """Start a fresh kernel: variables are gone, files stay."""
    return JSONResponse(session_json(await service.restart(session)))


@router.get("/sessions/{identifier}/usage", summary="What a session uses", response_model=models.UsageAnswer)
async def usage(service: Service, session: Session) -> Response:
    """Report what a session's sandbox uses now."""
    used = await service.usage(session)
    return JSONResponse({"memory": used.memory, "data": used.data, "processes": used.processes})


@router.get("/sessions/{identifier}/transcript", summary="Download the transcript", response_class=Response)
async def transcript(service: Service, session: Session) -> Response:
    """Give the session's cells and outputs as an .ipynb; of one that has ended, the last that was kept."""
    return notebook_answer(await service.transcript(session), f"{session.identifier}.ipynb")


@router.get("/sessions/{identifier}/files", summary="List files", response_model=models.FilesAnswer)
async def list_files(service: Service, session: Session, directory: str = "") -> Response:
    """List the tree below a directory of /mnt/data."""
    service.describe(session)
    files = await service.list_files(session, directory_path(directory))
    return JSONResponse({"files": [_file_json(info) for info in files]})


_FILE_BODY: dict[str, Any] = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.put(
    "/sessions/{identifier}/files/{name:path}", summary="Write a file", response_model=models.FileAnswer,
    openapi_extra=_FILE_BODY,
)  # fmt: skip
async def write_file(request: Request, service: Service, session: Session, name: str) -> Response:
    """Put a file below /mnt/data, replacing one of that name in one step; directories on the way are made."""
    service.describe(session)
    async with body_file(request) as file:
        info = await service.write_file(session, file_path(name), file, create=False)
    return JSONResponse(_file_json(info))


@router.get("/sessions/{identifier}/files/{name:path}", summary="Read a file", response_class=Response)
async def read_file(service: Service, session: Session, name: str) -> Response:
    """Give a file's bytes."""
    path = file_path(name)
    return await send_file(lambda file: service.read_file(session, path, file), path)


@router.delete("/sessions/{identifier}/files/{name:path}", summary="Delete a file", status_code=204)
async def delete_file(service: Service, session: Session, name: str) -> Response:
    """Delete a file, or an empty directory."""
    await service.delete_file(session, file_path(name))
    return Response(status_code=204)


@router.get("/transcripts", summary="List your kept notebooks", response_model=models.TranscriptsAnswer)
async def list_transcripts(service: Service, own: Own) -> Response:
    """List the notebooks of the sessions that your key may use, also of those that have ended, the newest first."""
    kept = await service.saved.of(own)
    return JSONResponse({"transcripts": [transcript_json(each) for each in kept]})


@router.get("/transcripts/{transcript_id}", summary="Download a kept notebook", response_class=Response)
async def get_transcript(service: Service, own: Own, transcript_id: str) -> Response:
    """Give a kept notebook as an .ipynb."""
    content = await service.saved.read(own, transcript_id)
    if content is None:
        raise SessionMissing("There is no such notebook.")
    return notebook_answer(content, f"{transcript_id}.ipynb")


def notebook_answer(content: bytes, name: str) -> Response:
    """Answer with a notebook, as a download."""
    return Response(content, media_type=NOTEBOOK, headers={"Content-Disposition": attachment(name)})


def transcript_json(kept: SavedTranscript) -> dict[str, Any]:
    """Write what there is to know of a kept notebook."""
    return {
        "id": kept.id,
        "identifier": kept.address.identifier,
        "owner": kept.address.owner,
        "cells": kept.cells,
        "size": kept.size,
        "created_at": moment(kept.created_at),
        "updated_at": moment(kept.updated_at),
    }


def _file_json(info: FileInfo) -> dict[str, Any]:
    return {"name": info.name, "kind": info.kind, "size": info.size, "modified_at": moment(info.modified_at)}
