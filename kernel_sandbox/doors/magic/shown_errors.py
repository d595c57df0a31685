"""How a magic fails: the notebook shows one line, or the sandbox's own traceback, and never a stack of ours.

IPython asks an exception for `_render_traceback_` and shows what it gives; ipyparallel's remote errors do the same. The
exception is raised all the same, so that "Run all", nbclient and papermill stop at the cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kernel_sandbox.errors import (
    KernelDied,
    ProtocolViolation,
    SandboxError,
    SandboxLost,
    what_is_kept,
)
from kernel_sandbox.session.outputs import ErrorOutput, Execution, advice_on
from kernel_sandbox.text.ansi import clean_terminal_text
from kernel_sandbox.text.characters import visible

RED, RESET = "\x1b[31m", "\x1b[0m"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
RESTART = "`%sandbox restart` starts a fresh kernel."
DEATHS = (KernelDied, SandboxLost, ProtocolViolation)
"""Errors after which a session has no kernel."""


class MagicFailed(Exception):
    """A magic has failed; `lines` is all that is shown."""

    lines: Sequence[str] = ()

    def _render_traceback_(self) -> list[str]:
        return list(self.lines)


def failure(name: str, message: str, lines: Sequence[str] = ()) -> MagicFailed:
    """Make an exception whose class is called `name`: front ends and nbclient show that name."""
    plain = name if _NAME.fullmatch(name) else "SandboxError"
    made: MagicFailed = type(plain, (MagicFailed,), {"__module__": "kernel_sandbox"})(message)
    made.lines = lines or [f"{RED}{plain}{RESET}: {message}"]
    return made


def failed_use(exc: SandboxError) -> MagicFailed:
    """Make the exception of what could not be done with a session."""
    gone = f" {what_is_kept(exc.kept)} {RESTART}" if isinstance(exc, DEATHS) else ""
    return failure(type(exc).__name__, f"{visible(exc.happened)}{gone}")


def failed_cell(execution: Execution, error: ErrorOutput | None) -> MagicFailed:
    """Make the exception of a cell that did not end well, with the sandbox's own traceback."""
    if error is None:
        error = execution.error or ErrorOutput("Error", execution.status, ())
    lines, evalue = [clean_terminal_text(part) for part in error.traceback], clean_terminal_text(error.evalue)
    dead = execution.status == "dead"
    hints = [hint for hint in (advice_on(execution.ran, execution.kept), RESTART if dead else "") if hint]
    if hints:
        lines = [*(lines or [f"{RED}{visible(error.ename)}{RESET}: {evalue}"]), " ".join(hints)]
    return failure(error.ename, evalue, lines)
