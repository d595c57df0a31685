"""Shell commands as cells, and what came of them. Pure; `inside/shell.py` runs them, inside.

A command is an ordinary cell for the session: it waits its turn, is interrupted like one, and stands in the notebook.
`session.run_command` and every door that runs commands (HTTP, MCP) write the cell and read its end here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kernel_sandbox.errors import Kept
from kernel_sandbox.session.outputs import DisplayData, Execution, Ran, StreamOutput
from kernel_sandbox.text.quoting import quoted

EXIT_TYPE = "application/vnd.kernel-sandbox.exit+json"
"""As inside/shell.py has it."""
NO_STATUS = 255
"""The exit status where the command's own end was not seen: its kernel died, or the cell was stopped."""
_GLIMPSE = 60
"""Characters of each stream that a `repr` has."""
GRACE = 5.0
"""Seconds that the cell may take longer than its command: the command's own time-out says more."""


@dataclass(frozen=True, slots=True, repr=False)
class CommandResult:
    """What a shell command wrote, and how it ended."""

    stdout: str
    stderr: str
    exit_status: int
    """As the shells have it: 128 and the number for a signal, 124 past its time, 126 or 127 where it did not start,
    255 where its end was not seen."""
    duration: float
    """Seconds."""
    ran: Ran
    kept: Kept
    """Both as an Execution has them."""

    def __repr__(self) -> str:
        written = {"stdout": self.stdout, "stderr": self.stderr}
        shown = [f"{name} {quoted(text, _GLIMPSE)}" for name, text in written.items() if text]
        return f"<CommandResult: {', '.join([f'exit status {self.exit_status}', *shown])}>"


def require_command(command: Any) -> None:
    """Raise TypeError or ValueError unless `command` is a text, or a sequence of words, that can be run."""
    words = [command] if isinstance(command, str) else command
    if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"command={command!r:.100}: give a text for the shell, or a list of words.")
    if not words or not words[0].strip() or any("\0" in word for word in words):
        raise ValueError(f"command={command!r:.100}: give a command that is not empty and holds no null character.")


def shell_cell(command: str | Sequence[str], *, timeout: float | None, posix: bool = False) -> str:
    """Write the cell that runs a command: a text for bash (sh, with `posix`), or its words for no shell at all."""
    options = [] if timeout is None else ["--timeout", f"{float(timeout):g}"]
    if isinstance(command, str):
        return " ".join(["%%shell", *options, *(["--sh"] if posix else [])]) + f"\n{command}"
    return " ".join(["%%shell", *options, "--argv"]) + f"\n{json.dumps(list(command))}"


def shell_result(execution: Execution) -> CommandResult:
    """Read what came of a shell command off its cell."""
    written = {"stdout": "", "stderr": ""}
    status = NO_STATUS
    for output in execution.outputs:
        if isinstance(output, StreamOutput):
            written[output.name] = written.get(output.name, "") + output.text
        elif isinstance(output, DisplayData) and EXIT_TYPE in output.data:
            status = _exit_status(output.data[EXIT_TYPE])
    if execution.status != "ok":
        error = execution.error
        said = f"{error.ename}: {error.evalue}" if error else execution.status
        unseen = "the command's end was not seen" if execution.ran != "no" else "the command did not run"
        written["stderr"] += f"[kernel-sandbox: {unseen}: {said}]\n"
        status = NO_STATUS
    stdout, stderr = written["stdout"], written["stderr"]
    return CommandResult(stdout, stderr, status, execution.duration, execution.ran, execution.kept)


def _exit_status(told: Any) -> int:
    """Read what the sandbox told, which may be anything."""
    status = told.get("exit_status") if isinstance(told, dict) else None
    return status if type(status) is int and 0 <= status <= NO_STATUS else NO_STATUS
