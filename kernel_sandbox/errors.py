"""The exceptions of this package.

    SandboxError                      everything that this package raises on purpose
    ├── PolicyError (ValueError)      a SandboxSpec, Limits or Mount that cannot be held
    ├── EngineError                   the engine refused or failed; nothing is left running
    │   ├── EngineUnavailable         no engine answers
    │   └── ImageNotFound             the engine answers but does not have the image
    ├── SandboxLost                   the sandbox went away: variables and files are lost
    ├── KernelError                   the kernel, inside a sandbox that still stands
    │   ├── KernelNotReady            it did not start, or did not answer in time
    │   └── KernelDied                it exited: variables are lost, files remain
    │       └── OutOfMemory           it was killed at the memory limit
    ├── ProtocolViolation             the sandbox sent what no honest one sends; it was ended
    ├── VariableError                 a variable that could not be carried in or out of a kernel
    │   ├── VariableNotFound (LookupError)  the kernel has none of this name
    │   └── VariableTooLarge          it has more bytes than the call allows
    ├── TruncatedTable                of a displayed table only the first rows came with the cell
    ├── CellError                     a cell failed (`Execution.raise_for_error`): session/outputs
    │   └── CellTimeout               a cell ran past its time
    ├── FileError                     a file operation of `session.files` failed
    │   ├── FileNameRefused           a name outside /mnt/data, with `..`, or not a regular file
    │   ├── SandboxFileNotFound       no such file inside
    │   └── SandboxFull               /mnt/data has no room left
    ├── HostFileRefused               an agent asked for a file of the host that it may not read
    ├── ModelError                    a language model failed, or its answer cannot be used
    │   ├── ModelNotConfigured        no key, or requests to models are switched off
    │   └── NoAnswer                  there is no model, and the fixed analyses do not answer the question
    ├── TranscriptError               a notebook that cannot be read or written
    ├── PoolFull                      a pool has no room for another session; `retry_after` says when to ask again
    ├── PoolClosed                    a pool that was closed, or never opened
    ├── SessionNotFound (LookupError) a pool has no session of this identifier
    ├── SessionClosed                 the session was closed, or never opened
    └── WrongEventLoop (RuntimeError) a session or pool was used from an event loop that did not open it

Every message says what happened and what to do next. `happened` is the first half: what to do next is said in the
words of the door that shows it.
"""

from __future__ import annotations

import signal
from typing import ClassVar, Literal

from kernel_sandbox.text.characters import visible

Kept = Literal["all", "files", "nothing"]
"""What is still there of a session: variables and files, the files under /mnt/data, or neither."""
KEPT_WORDS: dict[Kept, str] = {
    "all": "variables and files are kept",
    "files": "variables are lost, files under /mnt/data are kept",
    "nothing": "variables and files are lost",
}


def what_is_kept(kept: Kept) -> str:
    """Return a sentence that says what is still there."""
    return f"{KEPT_WORDS[kept].capitalize()}."


class SandboxError(Exception):
    """Base of everything that this package raises on purpose."""

    kept: ClassVar[Kept] = "all"
    """What a session still has after it."""

    def __init__(self, message: str = "", *, advice: str = "") -> None:
        """`advice` is for who calls from Python, and ends the message."""
        between = "\n" if "\n" in message else " "  # what a sandbox wrote has lines of its own
        super().__init__(f"{message}{between}{advice}" if advice else message)
        self.happened = message
        """What happened, without the advice."""


class PolicyError(SandboxError, ValueError):
    """A SandboxSpec, Limits or Mount that cannot be held."""


class EngineError(SandboxError):
    """The engine refused or failed; nothing of the attempt is left running."""


class EngineUnavailable(EngineError):
    """No engine answers."""

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        """The command or step that mends it, where there is one."""


class ImageNotFound(EngineError):
    """The engine answers, but does not have the image."""


class SandboxLost(SandboxError):
    """The sandbox went away, and with it the variables and the files."""

    kept = "nothing"


class KernelError(SandboxError):
    """The kernel failed inside a sandbox that still stands."""

    kept = "files"


class KernelNotReady(KernelError):
    """The kernel did not start, or did not answer in time."""


class KernelDied(KernelError):
    """The kernel exited. Variables are lost; files under /mnt/data remain."""

    def __init__(self, message: str, *, exit_code: int | None = None, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.exit_code = exit_code
        """The exit status; a negative number is the signal that ended it."""


class OutOfMemory(KernelDied):
    """The kernel was killed at the memory limit of the sandbox."""


class ProtocolViolation(SandboxError):
    """The sandbox sent what no honest one sends, and was ended for it."""

    kept = "nothing"


class VariableError(SandboxError):
    """A variable could not be carried in or out of a kernel; the message names it, and the reason."""


class VariableNotFound(VariableError, LookupError):
    """The kernel has no variable of this name."""


class VariableTooLarge(VariableError):
    """The variable has more bytes than the call allows."""


class TruncatedTable(SandboxError):
    """Of a displayed table only the first rows came with the cell's outputs."""

    def __init__(self, message: str, *, rows: int, shown: int) -> None:
        super().__init__(message)
        self.rows = rows
        """How many rows the table has in the kernel."""
        self.shown = shown
        """How many came."""


class FileError(SandboxError):
    """A file operation in the sandbox failed."""


class FileNameRefused(FileError):
    """The name leaves /mnt/data, or does not name a regular file."""


class SandboxFileNotFound(FileError):
    """There is no such file in the sandbox."""


class SandboxFull(FileError):
    """/mnt/data has no room left."""


class HostFileRefused(SandboxError):
    """An agent asked for a file of the host that it may not read, or that is not there."""


class ModelError(SandboxError):
    """A language model failed, or its answer cannot be used."""

    def __init__(self, message: str, *, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code
        """The HTTP status, where a server answered with one."""


class ModelNotConfigured(ModelError):
    """No request can be made: there is no key, or requests to models are switched off."""


class NoAnswer(ModelError):
    """There is no model to ask, and the fixed analyses do not answer the question, or not on this table."""


class TranscriptError(SandboxError):
    """A notebook that cannot be read or written."""


class PoolFull(SandboxError):
    """A pool has no room for another session."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which there may be room."""


class PoolClosed(SandboxError):
    """The pool was closed, or never opened."""


class SessionNotFound(SandboxError, LookupError):
    """A pool has no session of this identifier, and was not to make one."""


class WrongEventLoop(SandboxError, RuntimeError):
    """A session or pool was used from an event loop that did not open it."""


class SessionClosed(SandboxError):
    """The session was closed, or never opened."""

    kept = "nothing"


def kernel_death(exit_code: int | None, *, out_of_memory: bool, memory: str, remedy: str, said: str = "") -> KernelDied:
    """Name the death of a kernel from its exit status.

    `exit_code` follows subprocess: a negative number is a signal. `memory` is the limit, as text; `remedy` a sentence
    about the limit that was reached, if one was; `said` is what the kernel wrote to standard error last.
    """
    advice = f"{what_is_kept('files')} Call restart() to go on."
    if out_of_memory:
        text = f"The kernel used more than its {memory} of memory and was killed. {remedy}"
        return OutOfMemory(text.rstrip() + last_words(said), exit_code=exit_code, advice=advice)
    text = f"The kernel {_cause(exit_code)}. {remedy}"
    return KernelDied(text.rstrip() + last_words(said), exit_code=exit_code, advice=advice)


def last_words(said: str) -> str:
    """Return what a kernel wrote to standard error last as an appendix to a message, or an empty text.

    Each line is marked as the sandbox's, and shows as escapes what hides something.
    """
    lines = said.replace("\r\n", "\n").strip("\n").split("\n")
    marked = [f"  | {visible(line)}" for line in lines]
    return (
        "\nThe last that it wrote to standard error (text of the sandbox):\n" + "\n".join(marked)
        if said.strip()
        else ""
    )


def _cause(exit_code: int | None) -> str:
    if exit_code is None:
        return "ended"
    if exit_code >= 0:
        return f"exited with status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    meanings = {"SIGSEGV": "segmentation fault", "SIGKILL": "killed", "SIGABRT": "aborted", "SIGBUS": "bus error"}
    return f"was ended by {name} ({meanings[name]})" if name in meanings else f"was ended by {name}"
