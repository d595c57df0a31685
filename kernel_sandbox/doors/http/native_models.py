"""What the routes under /v1 take and give, as OpenAPI describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kernel_sandbox.session.kernel_state import SessionState

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False, description="Seconds; the server has a maximum.")]

RAN = Annotated[
    Literal["no", "began", "whole", "unknown"],
    Field(description='How far it came: "whole" is to its own end, "began" was cut off, "unknown" was lost with it.'),
]
KEPT = Annotated[
    Literal["all", "files", "nothing"],
    Field(description="What the session still has: variables and files, only files, or neither."),
]


Text = Annotated[str, Field(min_length=1)]
Words = Annotated[list[str], Field(min_length=1, max_length=10_000)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewSession(_Asked):
    """A session to be made."""

    identifier: str | None = Field(None, max_length=256, description="Any text; by default a new one.", examples=["a"])


class CellToRun(_Asked):
    """A cell."""

    source: str = Field(description="Python, as in a notebook's cell.", examples=["6 * 7"])
    timeout: Seconds | None = None
    create: bool = Field(False, description="Make the session, if there is none.")


class CommandToRun(_Asked):
    """A shell command: its text, or its words for no shell at all."""

    command: Text | Words = Field(examples=["ls -l"])
    posix: bool = Field(False, description="Whether sh runs a text, instead of bash.")
    timeout: Seconds | None = None
    create: bool = Field(False, description="Make the session, if there is none.")


class SessionAnswer(BaseModel):
    """A session."""

    identifier: str
    state: SessionState = Field(description="What it does now.")
    cells: int = Field(description="How many cells have run.")
    created_at: str
    last_used_at: str
    expires_at: str = Field(description="When it ends if nobody uses it before.")


class OwnedSessionAnswer(SessionAnswer):
    """A session, and whose it is."""

    owner: str


class SessionsAnswer(BaseModel):
    sessions: list[SessionAnswer]


class OwnedSessionsAnswer(BaseModel):
    sessions: list[OwnedSessionAnswer]


class OutputAnswer(BaseModel):
    """An output, with the parts that nbformat gives an output of its type."""

    model_config = ConfigDict(extra="allow")

    output_type: str
    data: dict[str, Any] | None = Field(None, description="A MIME bundle: pictures are base64.")


class ExecutionAnswer(BaseModel):
    """What came of a cell."""

    status: Literal["ok", "error", "aborted", "timeout", "dead"]
    ran: RAN
    kept: KEPT
    execution_count: int | None
    started_at: str
    duration: float = Field(description="Seconds.")
    error: OutputAnswer | None = Field(description="The exception that ended it, or why it did not end by itself.")
    outputs: list[OutputAnswer]
    restarted_because: str | None = Field(
        None, description="Why the session's kernel was started anew since your last cell: earlier variables are lost."
    )
    new_session: bool = Field(False, description="Whether the session began with this cell: nothing is in it yet.")


class CommandAnswer(BaseModel):
    """What came of a shell command."""

    stdout: str
    stderr: str
    exit_status: int = Field(description="128 and the number for a signal; 124 past its time; 255 where nobody saw.")
    duration: float = Field(description="Seconds.")
    ran: RAN
    kept: KEPT
    restarted_because: str | None = Field(None, description="As a cell's.")
    new_session: bool = Field(False, description="As a cell's.")


class FileAnswer(BaseModel):
    """A file or a directory."""

    name: str = Field(description="Its path below /mnt/data.")
    kind: Literal["file", "directory"]
    size: int = Field(description="Bytes.")
    modified_at: str


class FilesAnswer(BaseModel):
    files: list[FileAnswer]


class UsageAnswer(BaseModel):
    """What a session's sandbox uses now."""

    memory: int | None = Field(description="Bytes; null where the sandbox cannot see it.")
    data: int = Field(description="Bytes of files.")
    processes: int


class TranscriptAnswer(BaseModel):
    """A notebook that is kept."""

    id: str
    identifier: str = Field(description="Of the session that it is of.")
    owner: str
    cells: int
    size: int = Field(description="Bytes.")
    created_at: str
    updated_at: str


class TranscriptsAnswer(BaseModel):
    transcripts: list[TranscriptAnswer]
