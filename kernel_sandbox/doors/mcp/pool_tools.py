"""The tools that Azure's dynamic sessions have at a pool's own MCP endpoint (preview), for clients made for these.

`launchShell` names an environment, which begins with the first use; the other two run code and commands in it. The
requests stand for themselves: an environment's name is all that keeps them together.
"""

from __future__ import annotations

import collections
import secrets
from typing import Any

from kernel_sandbox.doors.mcp.cell_answers import cell_answer, read_text, shell_answer, stream_text
from kernel_sandbox.doors.mcp.cell_progress import CellProgress
from kernel_sandbox.doors.mcp.contract import CallRefused, SessionHolder
from kernel_sandbox.doors.mcp.definitions import DEFAULT_TIMEOUT, SHELL, Definition, describe_cells
from kernel_sandbox.doors.mcp.tool_results import CallResult, TextPart
from kernel_sandbox.doors.mcp.toolbox import RefusedByProtocol, SessionTools
from kernel_sandbox.service.notices import notices
from kernel_sandbox.session.outputs import ExecuteResult
from kernel_sandbox.session.shell_commands import GRACE, shell_cell, shell_result
from kernel_sandbox.spec.languages import Language

MOST_OF_ONE = 256
"""Environments of one identity that are remembered; its oldest is forgotten first."""
NOT_FOUND = -32000
"""The code of the error for an environment that there is not, as that endpoint has it."""
_ENVIRONMENT = {"type": "string", "description": "The environmentId that launchShell gave."}
_SECONDS = {"type": "number", "description": "Seconds that it may run.", "exclusiveMinimum": 0}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


_COMMAND = {
    "environmentId": _ENVIRONMENT,
    "shellCommand": {"type": "string", "description": "A command line."},
    "execCommandAndArgs": {"type": "array", "items": {"type": "string"}, "description": "Or its words, for no shell."},
    "timeoutSeconds": _SECONDS,
}
_CODE = {"environmentId": _ENVIRONMENT, "pythonCode": {"type": "string"}, "timeoutSeconds": _SECONDS}


def pool_definitions(language: Language) -> tuple[Definition, ...]:
    """Give the tools; their names are that endpoint's, whatever language the cells are of."""
    launch = Definition(
        "launchShell",
        "Launch an environment",
        "Get an environmentId, for the other tools. It begins with its first use, and ends when it is not used.",
        _object({}),
        None,
    )
    cells = Definition(
        "runPythonCodeInRemoteEnvironment",
        f"Run {language.title}",
        describe_cells(language),
        _object(_CODE, "environmentId", "pythonCode"),
        None,
        destroys=True,
    )
    shell = Definition(
        "runShellCommandInRemoteEnvironment",
        "Run a shell command",
        SHELL,
        _object(_COMMAND, "environmentId"),
        None,
        destroys=True,
    )
    return (launch, cells, shell) if language.is_python else (launch, cells)


class PoolTools(SessionTools):
    """These tools, over the sessions of a service."""

    def __init__(self, holder: SessionHolder, language: Language) -> None:
        super().__init__(holder, pool_definitions(language), language)
        self._launched: dict[str, collections.deque[str]] = {}
        """The environments of each owner, the oldest first."""

    async def _answer(self, name: str, arguments: dict[str, Any], caller: Any, progress: CellProgress) -> CallResult:
        owner = caller.identity.name
        if name == "launchShell":
            return self._launch(owner)
        environment = arguments.pop("environmentId")
        if environment not in self._launched.get(owner, ()):
            raise RefusedByProtocol("Environment not found. launchShell gives one.", NOT_FOUND)
        session = self._holder.session(caller, caller.identity.prefixed(f"env-{environment}"))
        with self._counted(session):
            async with progress.reporting():
                run = self._run_code if name == "runPythonCodeInRemoteEnvironment" else self._run_command
                return await run(session, progress, **arguments)

    def _launch(self, owner: str) -> CallResult:
        environment = secrets.token_hex(16)
        self._launched.setdefault(owner, collections.deque(maxlen=MOST_OF_ONE)).append(environment)
        return CallResult((TextPart(f"environmentId: {environment}"),), {"environmentId": environment})

    async def _run_code(
        self, session: Any, progress: CellProgress, pythonCode: str, timeoutSeconds: float = DEFAULT_TIMEOUT, **_: Any
    ) -> CallResult:
        ran = await session.run(pythonCode, self._seconds(timeoutSeconds), progress.take)
        answer = cell_answer(ran, "")
        value = read_text([output for output in ran.execution.outputs if isinstance(output, ExecuteResult)], {})
        written = stream_text(ran.execution, "stdout")
        error = answer.data["error"]["traceback"] if answer.data and answer.failed else ""
        said = (notices(ran.execution, ran.restarted_because), stream_text(ran.execution, "stderr"), error)
        told = {
            "stdout": "\n".join(part for part in (written.rstrip("\n"), value) if part),
            "stderr": "\n".join(part.rstrip("\n") for part in said if part),
            "exitCode": int(answer.failed),
        }
        return CallResult(answer.parts, told, answer.failed)

    async def _run_command(
        self,
        session: Any,
        progress: CellProgress,
        shellCommand: str | None = None,
        execCommandAndArgs: list[str] | None = None,
        timeoutSeconds: float = DEFAULT_TIMEOUT,
        **_: Any,
    ) -> CallResult:
        command = shellCommand or execCommandAndArgs
        if not command:
            raise CallRefused("Give shellCommand or execCommandAndArgs.")
        seconds = self._seconds(timeoutSeconds)
        ran = await session.run(shell_cell(command, timeout=seconds), seconds + GRACE, progress.take)
        result = shell_result(ran.execution)
        answer = shell_answer(ran, result.exit_status, "")
        told = {name: stream_text(ran.execution, name) for name in ("stdout", "stderr")}
        told["stderr"] = notices(ran.execution, ran.restarted_because) + told["stderr"]
        return CallResult(answer.parts, told | {"exitCode": result.exit_status}, answer.failed)
