"""A stateful code interpreter: an IPython kernel in a locked-down sandbox, every output kept.

    from kernel_sandbox import Session

    with Session(image="datascience") as session:
        print(session.execute("21 * 2").text)

Names are imported when they are first asked for: `kernel-sandbox --help` must not wait for a kernel's client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernel_sandbox.errors import EngineError as EngineError
    from kernel_sandbox.errors import EngineUnavailable as EngineUnavailable
    from kernel_sandbox.errors import FileError as FileError
    from kernel_sandbox.errors import FileNameRefused as FileNameRefused
    from kernel_sandbox.errors import HostFileRefused as HostFileRefused
    from kernel_sandbox.errors import ImageNotFound as ImageNotFound
    from kernel_sandbox.errors import Kept as Kept
    from kernel_sandbox.errors import KernelDied as KernelDied
    from kernel_sandbox.errors import KernelError as KernelError
    from kernel_sandbox.errors import KernelNotReady as KernelNotReady
    from kernel_sandbox.errors import ModelError as ModelError
    from kernel_sandbox.errors import ModelNotConfigured as ModelNotConfigured
    from kernel_sandbox.errors import NoAnswer as NoAnswer
    from kernel_sandbox.errors import OutOfMemory as OutOfMemory
    from kernel_sandbox.errors import PolicyError as PolicyError
    from kernel_sandbox.errors import PoolClosed as PoolClosed
    from kernel_sandbox.errors import PoolFull as PoolFull
    from kernel_sandbox.errors import ProtocolViolation as ProtocolViolation
    from kernel_sandbox.errors import SandboxError as SandboxError
    from kernel_sandbox.errors import SandboxFileNotFound as SandboxFileNotFound
    from kernel_sandbox.errors import SandboxFull as SandboxFull
    from kernel_sandbox.errors import SandboxLost as SandboxLost
    from kernel_sandbox.errors import SessionClosed as SessionClosed
    from kernel_sandbox.errors import SessionNotFound as SessionNotFound
    from kernel_sandbox.errors import TranscriptError as TranscriptError
    from kernel_sandbox.errors import TruncatedTable as TruncatedTable
    from kernel_sandbox.errors import VariableError as VariableError
    from kernel_sandbox.errors import VariableNotFound as VariableNotFound
    from kernel_sandbox.errors import VariableTooLarge as VariableTooLarge
    from kernel_sandbox.errors import WrongEventLoop as WrongEventLoop
    from kernel_sandbox.pool import Histogram as Histogram
    from kernel_sandbox.pool import PooledSession as PooledSession
    from kernel_sandbox.pool import PoolMetrics as PoolMetrics
    from kernel_sandbox.pool import PoolSettings as PoolSettings
    from kernel_sandbox.pool import SessionPool as SessionPool
    from kernel_sandbox.sandbox.files import AsyncSandboxFiles as AsyncSandboxFiles
    from kernel_sandbox.sandbox.files import FileInfo as FileInfo
    from kernel_sandbox.sandbox.link import Usage as Usage
    from kernel_sandbox.session.cell import AsyncCellStream as AsyncCellStream
    from kernel_sandbox.session.kernel_state import SessionState as SessionState
    from kernel_sandbox.session.outputs import CellError as CellError
    from kernel_sandbox.session.outputs import CellTimeout as CellTimeout
    from kernel_sandbox.session.outputs import ClearOutput as ClearOutput
    from kernel_sandbox.session.outputs import DisplayData as DisplayData
    from kernel_sandbox.session.outputs import DisplayUpdate as DisplayUpdate
    from kernel_sandbox.session.outputs import ErrorOutput as ErrorOutput
    from kernel_sandbox.session.outputs import Event as Event
    from kernel_sandbox.session.outputs import ExecuteResult as ExecuteResult
    from kernel_sandbox.session.outputs import Execution as Execution
    from kernel_sandbox.session.outputs import Output as Output
    from kernel_sandbox.session.outputs import Ran as Ran
    from kernel_sandbox.session.outputs import Status as Status
    from kernel_sandbox.session.outputs import StreamOutput as StreamOutput
    from kernel_sandbox.session.prompts import InputHandler as InputHandler
    from kernel_sandbox.session.session import AsyncSession as AsyncSession
    from kernel_sandbox.session.session import Timeout as Timeout
    from kernel_sandbox.session.shell_commands import CommandResult as CommandResult
    from kernel_sandbox.session.sync import CellStream as CellStream
    from kernel_sandbox.session.sync import SandboxFiles as SandboxFiles
    from kernel_sandbox.session.sync import Session as Session
    from kernel_sandbox.session.transcript import Cell as Cell
    from kernel_sandbox.session.transcript import CellKind as CellKind
    from kernel_sandbox.session.transcript import Transcript as Transcript
    from kernel_sandbox.show.exports import ExportFormat as ExportFormat
    from kernel_sandbox.show.exports import export_notebook as export_notebook
    from kernel_sandbox.spec.languages import Language as Language
    from kernel_sandbox.spec.values import Limits as Limits
    from kernel_sandbox.spec.values import Mount as Mount
    from kernel_sandbox.spec.values import SandboxSpec as SandboxSpec

_ROOMS = {
    "session.cell": "AsyncCellStream",
    "errors": (
        "EngineError EngineUnavailable FileError FileNameRefused HostFileRefused ImageNotFound "
        "KernelDied KernelError KernelNotReady Kept ModelError ModelNotConfigured NoAnswer OutOfMemory PolicyError "
        "PoolClosed PoolFull ProtocolViolation SandboxError SandboxFileNotFound SandboxFull SandboxLost SessionClosed "
        "SessionNotFound TranscriptError TruncatedTable VariableError VariableNotFound VariableTooLarge "
        "WrongEventLoop"
    ),
    "show.exports": "ExportFormat export_notebook",
    "sandbox.files": "AsyncSandboxFiles FileInfo",
    "sandbox.link": "Usage",
    "session.kernel_state": "SessionState",
    "session.outputs": (
        "CellError CellTimeout ClearOutput DisplayData DisplayUpdate ErrorOutput Event ExecuteResult Execution Output "
        "Ran Status StreamOutput"
    ),
    "spec.languages": "Language",
    "spec.values": "Limits Mount SandboxSpec",
    "pool": "Histogram PoolMetrics PoolSettings PooledSession SessionPool",
    "session.prompts": "InputHandler",
    "session.session": "AsyncSession Timeout",
    "session.shell_commands": "CommandResult",
    "session.sync": "CellStream SandboxFiles Session",
    "session.transcript": "Cell CellKind Transcript",
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = sorted(_HOMES)

# What `%load_ext kernel_sandbox` looks for. Not a public name: `import *` must not import IPython.
_HOMES |= dict.fromkeys(("load_ipython_extension", "unload_ipython_extension"), "doors.magic.extension")


if not TYPE_CHECKING:  # a type checker would take any name, misspelled ones too

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
