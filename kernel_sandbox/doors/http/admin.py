"""What admins may do with everybody's sessions, under /v1/admin: owner and identifier address one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from kernel_sandbox.doors.http import native_models as models
from kernel_sandbox.doors.http.azure_descriptions import OPERATION
from kernel_sandbox.doors.http.native import Service, notebook_answer, transcript_json
from kernel_sandbox.doors.http.outputs_json import session_json
from kernel_sandbox.service.identity import Identity, require
from kernel_sandbox.service.ownership import Address, Reach, address_for_admin, reach_of_admin
from kernel_sandbox.service.requests import identity_of
from kernel_sandbox.service.service import SessionMissing


async def admin_of(request: Request) -> Identity:
    identity = identity_of(request)
    require(identity, "admin")
    return identity


async def _address(
    identity: Annotated[Identity, Depends(admin_of)],
    owner: Annotated[str, Query(description="Whose session, as the list names its owner.")],
    identifier: Annotated[str, Query(description="The session's identifier.")],
) -> Address:
    return address_for_admin(identity, owner, identifier)


async def _reach(identity: Annotated[Identity, Depends(admin_of)]) -> Reach:
    return reach_of_admin(identity)


Anyones = Annotated[Address, Depends(_address)]
All = Annotated[Reach, Depends(_reach)]

router = APIRouter(prefix="/v1/admin", tags=["Administration"], responses=OPERATION, dependencies=[Depends(admin_of)])


@router.get("/sessions", summary="List all sessions", response_model=models.OwnedSessionsAnswer)
async def list_sessions(service: Service, everybodys: All) -> Response:
    """List everybody's sessions, as far as the key may see them, the oldest first."""
    told = [session_json(view) | {"owner": view.address.owner} for view in service.sessions(everybodys)]
    return JSONResponse({"sessions": told})


@router.get("/session", summary="Describe anyone's session", response_model=models.OwnedSessionAnswer)
async def get_session(service: Service, session: Anyones) -> Response:
    """Describe a session. It does not count as a use."""
    return JSONResponse({**session_json(service.describe(session)), "owner": session.owner})


@router.get("/session/usage", summary="What anyone's session uses", response_model=models.UsageAnswer)
async def usage(service: Service, session: Anyones) -> Response:
    """Report what a session's sandbox uses now."""
    used = await service.usage(session)
    return JSONResponse({"memory": used.memory, "data": used.data, "processes": used.processes})


@router.delete("/session", summary="Shut down anyone's session", status_code=204)
async def delete_session(service: Service, session: Anyones) -> Response:
    """End a session. Its notebook stays."""
    await service.shutdown(session, client=None)
    return Response(status_code=204)


@router.post("/session/interrupt", summary="Interrupt anyone's cell", status_code=204)
async def interrupt(service: Service, session: Anyones) -> Response:
    """Interrupt the cell that runs."""
    await service.interrupt(session)
    return Response(status_code=204)


@router.get("/session/transcript", summary="Download anyone's transcript", response_class=Response)
async def transcript(service: Service, session: Anyones) -> Response:
    """Give a session's cells and outputs as an .ipynb."""
    return notebook_answer(await service.transcript(session), f"{session.identifier}.ipynb")


@router.get("/transcripts", summary="List all kept notebooks", response_model=models.TranscriptsAnswer)
async def list_transcripts(service: Service, everybodys: All) -> Response:
    """List everybody's kept notebooks, as far as the key may see them, the newest first."""
    return JSONResponse({"transcripts": [transcript_json(each) for each in await service.saved.of(everybodys)]})


@router.get("/transcripts/{transcript_id}", summary="Download anyone's kept notebook", response_class=Response)
async def get_transcript(service: Service, everybodys: All, transcript_id: str) -> Response:
    """Give a kept notebook as an .ipynb."""
    content = await service.saved.read(everybodys, transcript_id)
    if content is None:
        raise SessionMissing("There is no such notebook.")
    return notebook_answer(content, f"{transcript_id}.ipynb")
