"""The session pools' API of Azure's dynamic sessions, both generations, so that its published clients work unchanged.

Which generation a request is of, `api-version` says: `GET files` answers in either shape. `prefixes` has taken off
whatever stood before these paths.
"""

from __future__ import annotations

import functools
import re
import uuid
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from kernel_sandbox.doors.http import azure_requests as requests
from kernel_sandbox.doors.http import azure_results as results
from kernel_sandbox.doors.http import azure_shapes as shapes
from kernel_sandbox.doors.http.azure_descriptions import EXECUTE, OPERATION, UPLOAD
from kernel_sandbox.doors.http.bodies import form_file, read_json, send_file
from kernel_sandbox.doors.http.plain_requests import Retry, answer
from kernel_sandbox.doors.http.urls import absolute_url
from kernel_sandbox.service.failures import InvalidRequest
from kernel_sandbox.service.ownership import LONGEST_IDENTIFIER, Address, address_of, reach_of
from kernel_sandbox.service.requests import identity_of
from kernel_sandbox.service.results import Outcome
from kernel_sandbox.service.runs import Watched
from kernel_sandbox.service.service import SessionMissing, SessionService
from kernel_sandbox.service.session_values import ServedExecution

PAGE = 300
"""Sessions of one page of a list."""
_OPERATION_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")

router = APIRouter(tags=["Session pool API"], responses=OPERATION)


@dataclass(frozen=True, slots=True)
class Call:
    """A request, as all routes need it."""

    request: Request
    service: SessionService
    version: str
    generation: int
    address: Address


def service_of(request: Request) -> SessionService:
    """The service that answers a request."""
    service: SessionService = request.app.state.service
    return service


# These stand in the description and are checked by hand, so that a refusal can say what there is.
Version = Annotated[
    str,
    Query(
        alias="api-version",
        description="Which generation's shapes to speak.",
        json_schema_extra={"enum": list(requests.VERSIONS)},
    ),
]
Identifier = Annotated[
    str,
    Query(
        description="The session, by a name of your choice. Treat it as a secret.",
        json_schema_extra={"minLength": 1, "maxLength": LONGEST_IDENTIFIER},
    ),
]
Skip = Annotated[str | None, Query(description="How many to skip.", json_schema_extra={"pattern": "^[0-9]{1,9}$"})]


async def _call(request: Request, identifier: Identifier, version: Version) -> Call:
    generation = requests.generation(version)
    address = address_of(identity_of(request), identifier)
    return Call(request, service_of(request), version, generation, address)


Called = Annotated[Call, Depends(_call)]


@router.post("/code/execute", summary="Run code (first generation)", openapi_extra=EXECUTE)
async def execute_code(call: Called, key: Retry = None) -> Response:
    """Run code in a session, which is made if there is none. A failing cell is HTTP 200 with `status: "Failure"`."""
    asked = requests.read_execution(await read_json(call.request), max_timeout=_longest(call))
    if asked.command is not None or asked.asynchronous:
        raise InvalidRequest("This is for code that runs synchronously: use executions for the rest.")

    async def run(watched: Watched) -> Response:
        ran = await call.service.execute(call.address, asked.code, timeout=asked.timeout, watched=watched)
        return JSONResponse(results.first_generation(ran, longest=asked.longest), headers=_timings(ran))

    return await answer(call.request, call.service, call.address, key, run)


@router.post("/python/execute", summary="Run code (2024, before api-versions)", openapi_extra=EXECUTE)
async def execute_python(request: Request, key: Retry = None) -> Response:
    """Run code as the first clients sent it: the identifier is in the body, and there is no api-version."""
    body = await read_json(request)
    fields = body.get("properties") if isinstance(body, dict) else None
    if not isinstance(fields, dict) or not isinstance(fields.get("identifier"), str):
        raise InvalidRequest("Name the session: properties.identifier is missing.", target="identifier")
    service = service_of(request)
    asked = requests.read_execution(body, max_timeout=service.settings.max_timeout)
    address = address_of(identity_of(request), fields["identifier"])

    async def run(watched: Watched) -> Response:
        ran = await service.execute(address, asked.code, timeout=asked.timeout, watched=watched)
        told = results.first_generation(ran, longest=asked.longest)["properties"]
        error = ran.execution.error if ran.execution.status != "ok" else None
        return JSONResponse({**told, "error": None if error is None else f"{error.ename}: {error.evalue}"})

    return await answer(request, service, address, key, run)


@router.post("/executions", summary="Run code or a shell command (second generation)", openapi_extra=EXECUTE)
async def create_execution(call: Called, key: Retry = None) -> Response:
    """Run code, and wait or ask for it later; or a shell command, as the shell pools do.

    Asynchronously it answers 202 at once: `GET` what `Operation-Location` names until its status is final. So can be
    asked for one that is waited for, by the `operation-id` that it was sent with, also after its client has gone.
    """
    asked = requests.read_execution(await read_json(call.request), max_timeout=_longest(call))
    if asked.command is not None:
        run = functools.partial(_run_command, call, asked)
    elif asked.asynchronous:
        run = functools.partial(_start, call, asked, _operation_id(call.request))
    else:
        run = functools.partial(_run_and_keep, call, asked, _operation_id(call.request))
    return await answer(call.request, call.service, call.address, key, run)


async def _run_command(call: Call, asked: requests.ExecutionRequest, watched: Watched) -> Response:
    assert asked.command is not None
    ran = await call.service.run_command(
        call.address, asked.command, timeout=asked.timeout, posix=asked.posix, watched=watched
    )
    return JSONResponse(results.shell_execution(call.address.identifier, ran, longest=asked.longest))


async def _start(call: Call, asked: requests.ExecutionRequest, execution_id: str, watched: Watched) -> Response:
    await call.service.results.start(call.address, lambda job: _run(call, asked, job), execution_id)
    watched.is_started = True
    resource = _resource(call.address, execution_id, "Asynchronous", ("Running", {}))
    return JSONResponse(resource, 202, _operation(call, execution_id) | {"Retry-After": "1"})


async def _run_and_keep(call: Call, asked: requests.ExecutionRequest, execution_id: str, watched: Watched) -> Response:
    watched.is_kept = "operation-id" in call.request.headers or watched.is_kept
    outcome = await call.service.results.run(call.address, execution_id, lambda: _run(call, asked, watched), watched)
    resource = _resource(call.address, execution_id, "Synchronous", outcome)
    return JSONResponse(resource, headers=_operation(call, execution_id))


@router.get("/executions/{execution_id}", summary="Ask for an execution")
async def get_execution(call: Called, execution_id: str) -> Response:
    """Report how far an execution has come, and its result once it has ended. It is kept for an hour."""
    outcome = await call.service.results.get(call.address, execution_id)
    if outcome is None:
        raise ExecutionMissing("There is no such execution of this session, or no more.")
    waiting = {"Retry-After": "1"} if outcome[0] in ("NotStarted", "Running") else {}
    return JSONResponse(_resource(call.address, execution_id, "Asynchronous", outcome), headers=waiting)


class ExecutionMissing(SessionMissing):
    """There is no execution of that id."""


@router.get("/files", summary="List files")
async def list_files(call: Called, path: str = "", recursive: bool = False) -> Response:
    """List the files of a session: in the first generation all of them, in the second those of a directory."""
    if call.generation == 1:
        return JSONResponse(shapes.first_generation_files(await call.service.list_files(call.address)))
    directory = requests.directory_path(path)
    files = await call.service.list_files(call.address, directory)
    return JSONResponse(shapes.second_generation_files(files, directory, recursive=recursive))


@router.post("/files/upload", summary="Upload a file (first generation)", openapi_extra=UPLOAD)
@router.post("/files", summary="Upload a file (second generation)", openapi_extra=UPLOAD)
async def upload_file(call: Called, path: str = "") -> Response:
    """Put a file into a session, which is made if there is none. The file replaces one of its name in one step."""
    directory = requests.directory_path(path)
    async with form_file(call.request) as (filename, file):
        name = requests.below(directory, requests.uploaded_name(filename))
        info = await call.service.write_file(call.address, name, file)
    if call.generation == 1:
        return JSONResponse(shapes.first_generation_files([info]))
    return JSONResponse(shapes.second_generation_file(info, directory))


@router.get("/files/{name:path}", summary="Download a file, or describe it")
async def get_file(call: Called, name: str, path: str = "") -> Response:
    """Download a file (`files/content/NAME` in the first generation, `files/NAME/content` in the second), or tell
    about it (`files/NAME`).
    """
    directory = requests.directory_path(path)
    if call.generation == 1 and name.startswith("content/"):
        return await _download(call, requests.file_path(name.removeprefix("content/")))
    if call.generation == 2 and name.endswith("/content"):
        return await _download(call, requests.below(directory, requests.file_path(name.removesuffix("/content"))))
    info = await call.service.describe_file(call.address, requests.below(directory, requests.file_path(name)))
    if call.generation == 1:
        return JSONResponse(shapes.first_generation_file(info))
    return JSONResponse(shapes.second_generation_file(info, directory))


async def _download(call: Call, name: str) -> Response:
    return await send_file(lambda file: call.service.read_file(call.address, name, file), name)


@router.delete("/files/{name:path}", summary="Delete a file")
async def delete_file(call: Called, name: str, path: str = "") -> Response:
    """Delete a file, or an empty directory."""
    file = requests.below(requests.directory_path(path), requests.file_path(name))
    await call.service.delete_file(call.address, file)
    if call.generation == 1:
        return JSONResponse({"message": "file deleted successfully"})
    return Response(status_code=204)


@router.get("/session", summary="Describe a session")
async def get_session(call: Called) -> Response:
    """Report when a session was made and used, and when it ends."""
    return JSONResponse(shapes.session(call.service.describe(call.address)))


@router.delete("/session", summary="End a session", status_code=204)
async def delete_session(call: Called) -> Response:
    """End a session, with its variables and files. It is no failure if there is none."""
    try:
        await call.service.shutdown(call.address)
    except SessionMissing:
        return Response(status_code=204)
    return Response(status_code=204)


@router.get("/listSessions", summary="List your sessions")
async def list_sessions(request: Request, version: Version, skip: Skip = None) -> Response:
    """List the sessions of who asks, a page at a time."""
    requests.generation(version)
    return JSONResponse(_session_page(request, version, skip, "listSessions"))


@router.post("/.management/listSessions", summary="List your sessions (management)")
async def manage_list(request: Request, version: Version, skip: Skip = None) -> Response:
    """List the sessions of who asks, a page at a time."""
    requests.generation(version)
    return JSONResponse(_session_page(request, version, skip, ".management/listSessions"))


@router.post("/.management/getSession", summary="Describe a session (management)")
async def manage_get(call: Called) -> Response:
    """Report when a session was made and used, and when it ends."""
    return JSONResponse(shapes.session(call.service.describe(call.address)))


@router.post("/.management/stopSession", summary="End a session (management)")
async def manage_stop(call: Called) -> Response:
    """End a session, with its variables and files."""
    await call.service.shutdown(call.address)
    return PlainTextResponse(f"Session {call.address.identifier} in session pool kernel-sandbox stopped.")


@router.get("/metadata", summary="What the image holds")
async def get_metadata(request: Request, version: Version) -> Response:
    """List the image's Python and packages, as a session of it tells them."""
    requests.generation(version)
    return JSONResponse(shapes.metadata(await service_of(request).image_facts()))


async def _run(call: Call, asked: requests.ExecutionRequest, watched: Watched) -> Outcome:
    ran = await call.service.execute(call.address, asked.code, timeout=asked.timeout, watched=watched)
    resource = results.second_generation(ran, longest=asked.longest, bundle=asked.bundle)
    return resource.pop("status"), resource


def _resource(address: Address, execution_id: str, kind: str, outcome: Outcome) -> dict[str, Any]:
    head = {"id": execution_id, "identifier": address.identifier, "executionType": kind, "status": outcome[0]}
    return head | dict(outcome[1])


def _longest(call: Call) -> float:
    return call.service.settings.max_timeout


def _operation_id(request: Request) -> str:
    """The id that the client gave the execution, or a new one."""
    given = request.headers.get("operation-id")
    if given is None:
        return str(uuid.uuid4())
    if not _OPERATION_ID.fullmatch(given) or given in (".", ".."):
        raise InvalidRequest("An id has up to 128 letters, digits, '-', '_' and '.'.", target="operation-id")
    return given


def _operation(call: Call, execution_id: str) -> dict[str, str]:
    query = {"api-version": call.version, "identifier": call.address.identifier}
    where = absolute_url(call.request, f"executions/{execution_id}", query)
    return {"operation-id": execution_id, "Operation-Location": where}


def _session_page(request: Request, version: str, skip: str | None, path: str) -> dict[str, Any]:
    views = service_of(request).sessions(reach_of(identity_of(request)))
    start = requests.skipped(skip)
    page = [shapes.session(view) for view in views[start : start + PAGE]]
    after = {"api-version": version, "skip": str(start + PAGE)}
    following = absolute_url(request, path, after) if len(views) > start + PAGE else None
    # Clients read one name or the other.
    return {"value": page, "sessions": page, "count": len(page), "nextLink": following}


def _timings(ran: ServedExecution) -> dict[str, str]:
    """The headers by which the first generation tells where the time went, in milliseconds."""
    inside, before = round(ran.execution.duration * 1000), round(ran.preparation * 1000)
    return {
        "operation-id": str(uuid.uuid4()),
        "x-ms-session-guid": ran.session_id,
        "x-ms-new-allocation": str(ran.new_session).lower(),
        "x-ms-preparation-time": str(before),
        "x-ms-container-execution-duration": str(inside),
        "x-ms-overall-execution-time": str(before + inside),
    }
