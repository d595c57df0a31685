"""A stateful code interpreter: an IPython kernel in a locked-down sandbox, every output kept.

from kernel_sandbox import Session

with Session(image="datascience") as session:
    print(session.execute("21 * 2").text)
"""

from __future__ import annotations

from kernel_sandbox.cell import CellStream
from kernel_sandbox.errors import (
    CellError,
    CellTimeout,
    EngineError,
    EngineUnavailable,
    FileError,
    FileNameRefused,
    ImageNotFound,
    KernelDied,
    KernelError,
    KernelNotReady,
    OutOfMemory,
    PolicyError,
    ProtocolViolation,
    SandboxError,
    SandboxFileNotFound,
    SandboxFull,
    SandboxLost,
    SessionClosed,
    TranscriptError,
)
from kernel_sandbox.files import AsyncSandboxFiles, FileInfo
from kernel_sandbox.outputs import (
    ClearOutput,
    DisplayData,
    DisplayUpdate,
    ErrorOutput,
    ExecuteResult,
    Execution,
    Output,
    StreamOutput,
)
from kernel_sandbox.policy import Limits, Mount, SandboxSpec
from kernel_sandbox.session import AsyncSession
from kernel_sandbox.sync import SandboxFiles, Session
from kernel_sandbox.transcript import Transcript

__all__ = [
    "AsyncSandboxFiles",
    "AsyncSession",
    "CellError",
    "CellStream",
    "CellTimeout",
    "ClearOutput",
    "DisplayData",
    "DisplayUpdate",
    "EngineError",
    "EngineUnavailable",
    "ErrorOutput",
    "ExecuteResult",
    "Execution",
    "FileError",
    "FileInfo",
    "FileNameRefused",
    "ImageNotFound",
    "KernelDied",
    "KernelError",
    "KernelNotReady",
    "Limits",
    "Mount",
    "OutOfMemory",
    "Output",
    "PolicyError",
    "ProtocolViolation",
    "SandboxError",
    "SandboxFileNotFound",
    "SandboxFiles",
    "SandboxFull",
    "SandboxLost",
    "SandboxSpec",
    "Session",
    "SessionClosed",
    "StreamOutput",
    "Transcript",
    "TranscriptError",
]
