"""Executions as the session pools' API tells them, in both generations. Pure.

The shapes are those that clients read (semantic-kernel, autogen, langchain, llama-index); where their API carries less
than there is, a line in stderr says so: nothing is cut in silence.
"""

from __future__ import annotations

import ast
import base64
import json
import math
import re
from typing import Any

from kernel_sandbox.service.notices import notices, restart_notice
from kernel_sandbox.service.session_values import ServedExecution
from kernel_sandbox.session.outputs import (
    DisplayData,
    Execution,
    StreamOutput,
    bundle_text,
    has_picture,
)
from kernel_sandbox.session.shell_commands import shell_result
from kernel_sandbox.text.ansi import remove_ansi
from kernel_sandbox.text.clipping import clip_within
from kernel_sandbox.text.utf8 import clean_text

DEEPEST = 64
"""How deep a result may nest as JSON; deeper ones stay text."""
# One text as Python writes it, and nothing beside it.
_LITERAL = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")


def first_generation(ran: ServedExecution, *, longest: int | None = None) -> dict[str, Any]:
    """Write an execution as `POST code/execute` answers it."""
    execution = ran.execution
    return {
        "$id": "1",
        "properties": {
            "$id": "2",
            "status": "Success" if execution.status == "ok" else "Failure",
            "stdout": cut(stdout_of(execution), longest),
            "stderr": cut(notices(execution, ran.restarted_because) + stderr_of(execution), longest),
            "result": typed_result(execution),
            "executionTimeInMilliseconds": _milliseconds(execution.duration),
        },
    }


def second_generation(ran: ServedExecution, *, longest: int | None = None, bundle: bool = False) -> dict[str, Any]:
    """Write what an execution resource has beside its id: status, result, error.

    With `bundle`, the result of the last expression is its whole MIME bundle.
    """
    execution = ran.execution
    resource: dict[str, Any] = {
        "status": "Succeeded" if execution.status == "ok" else "Failed",
        "result": {
            "stdout": cut(stdout_of(execution), longest),
            "stderr": cut(notices(execution, ran.restarted_because) + stderr_of(execution), longest),
            "executionResult": _bundle(execution) if bundle else printed_result(execution),
            "executionTimeInMilliseconds": _milliseconds(execution.duration),
        },
    }
    return resource | ({} if execution.status == "ok" else {"error": {"error": _error(execution)}})


def shell_execution(identifier: str, ran: ServedExecution, *, longest: int | None = None) -> dict[str, Any]:
    """Write a shell command as the shell pools do: its exit status is the status, as text."""
    told = shell_result(ran.execution)
    return {
        "identifier": identifier,
        "status": str(told.exit_status),
        "result": {
            "stdout": cut(told.stdout, longest),
            "stderr": cut(restart_notice(ran.restarted_because) + told.stderr, longest),
            "executionTimeInMilliseconds": _milliseconds(told.duration),
        },
    }


def typed_result(execution: Execution) -> Any:
    """The `result` of the first generation: a number stays one, a text comes without quotes, a figure as an object.

    "" where the cell has no value, None where it failed.
    """
    if execution.status != "ok":
        return None
    if (image := _image(execution)) is not None:
        return image
    text = _text(execution)
    if text is None:
        return ""
    if text[:1] in ("'", '"'):
        return _unquoted(text)
    return _decoded(text)


def printed_result(execution: Execution) -> Any:
    """The `executionResult` of the second generation: as the first, but a text has its quotes, and None is null."""
    if execution.status != "ok":
        return None
    if (image := _image(execution)) is not None:
        return image
    text = _text(execution)
    if text is None:
        return None if _ends_in_expression(execution.source) else ""
    return text if text[:1] in ("'", '"') else _decoded(text)


def stdout_of(execution: Execution) -> str:
    """What the cell wrote to stdout, and, as a terminal would show them, what it displayed that is no picture."""
    parts: list[str] = []
    for output in execution.outputs:
        if isinstance(output, StreamOutput) and output.name == "stdout":
            parts.append(output.text)
        elif isinstance(output, DisplayData) and not has_picture(output.data):
            text = bundle_text(output.data)
            parts.append(f"{text}\n" if text else "")
    return "".join(parts)


def stderr_of(execution: Execution) -> str:
    """What the cell wrote to stderr, its traceback without colours, and what this API cannot carry."""
    streams = [output for output in execution.outputs if isinstance(output, StreamOutput)]
    parts = [stream.text for stream in streams if stream.name != "stdout"]
    if (error := execution.error) is not None and execution.status != "ok":
        traceback = remove_ansi("\n".join(error.traceback)) or f"{error.ename}: {error.evalue}"
        parts.append(traceback if traceback.endswith("\n") else f"{traceback}\n")
    pictures = len(execution.pictures)
    if pictures > 1:
        parts.append(f"[kernel-sandbox: {pictures} pictures were shown; this API carries the last one]\n")
    return "".join(parts)


def cut(text: str, longest: int | None) -> str:
    """Keep a text's beginning and end within the characters that were asked for."""
    return text if longest is None else clip_within(text, longest)


def _text(execution: Execution) -> str | None:
    """The last expression's value as text; None where it has none, or suppressed it."""
    result = execution.result
    return None if result is None else bundle_text(result)


def _bundle(execution: Execution) -> Any:
    return None if execution.result is None or execution.status != "ok" else dict(execution.result)


def _image(execution: Execution) -> dict[str, str] | None:
    if not execution.pictures:
        return None
    kind, data = execution.pictures[-1]
    name = kind.removeprefix("image/").removesuffix("+xml")
    return {"type": "image", "format": name, "base64_data": base64.b64encode(data).decode()}


def _decoded(text: str) -> Any:
    """Decode what is JSON, as Python writes it; leave all else as text."""
    if _depth(text) > DEEPEST:
        return text
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _depth(text: str) -> int:
    """How deep brackets nest in a text at most; those within quotes count too."""
    depth = deepest = 0
    for bracket in re.findall(r"[][{}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _finite(number: str) -> float:
    if math.isfinite(value := float(number)):
        return value
    raise ValueError(number)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _unquoted(text: str) -> str:
    if not _LITERAL.fullmatch(text):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return clean_text(value) if isinstance(value, str) else text


def _ends_in_expression(source: str) -> bool:
    """Whether the cell's last statement is an expression that shows its value: then the value was None."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return bool(body) and isinstance(body[-1], ast.Expr) and not source.rstrip().endswith(";")


def _error(execution: Execution) -> dict[str, Any]:
    error = execution.error
    codes = {"timeout": "Timeout", "dead": "ConnectionClosed", "aborted": "Canceled"}
    name, value = (error.ename, error.evalue) if error else (execution.status, "")
    return {
        "code": codes.get(execution.status, "ExecutionFailed"),
        "message": f"{name}: {value}"[:2000],
        "target": None,
        "details": [],
        "innererror": {"name": name, "ran": execution.ran, "kept": execution.kept},
    }


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
