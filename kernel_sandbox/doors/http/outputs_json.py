"""Executions, outputs and live events as JSON, for the routes under /v1 and the WebSocket. Pure."""

from __future__ import annotations

from typing import Any

from kernel_sandbox.doors.http.azure_shapes import moment
from kernel_sandbox.service.session_values import SessionView
from kernel_sandbox.session.outputs import (
    ClearOutput,
    DisplayUpdate,
    ErrorOutput,
    Event,
    ExecuteResult,
    Execution,
    StreamOutput,
)


def event_json(event: Event) -> dict[str, Any]:
    """Write an output, or a change of one, as nbformat and the Jupyter protocol name its parts."""
    kind = {"output_type": event.output_type}
    if isinstance(event, StreamOutput):
        return kind | {"name": event.name, "text": event.text}
    if isinstance(event, ErrorOutput):
        return kind | {"ename": event.ename, "evalue": event.evalue, "traceback": list(event.traceback)}
    if isinstance(event, ClearOutput):
        return kind | {"wait": event.wait}
    shown = kind | {"data": dict(event.data), "metadata": dict(event.metadata), "display_id": event.display_id}
    if isinstance(event, DisplayUpdate) or not isinstance(event, ExecuteResult):
        return shown
    return shown | {"execution_count": event.execution_count}


def execution_json(
    execution: Execution, restarted_because: str | None, *, new_session: bool, with_outputs: bool = True
) -> dict[str, Any]:
    """Write a whole execution. `restarted_because` is why its kernel was started, where the client is to be told.

    `new_session` says that the session began with it.
    """
    error = execution.error if execution.status != "ok" else None
    told: dict[str, Any] = {
        "status": execution.status,
        "ran": execution.ran,
        "kept": execution.kept,
        "execution_count": execution.execution_count,
        "started_at": moment(execution.started_at),
        "duration": round(execution.duration, 6),
        "error": None if error is None else event_json(error),
        "restarted_because": restarted_because,
        "new_session": new_session,
    }
    if with_outputs:
        told["outputs"] = [event_json(output) for output in execution.outputs]
    return told


def session_json(view: SessionView) -> dict[str, Any]:
    """Write a session."""
    return {
        "identifier": view.address.identifier,
        "state": view.state,
        "cells": view.cells,
        "created_at": moment(view.created_at),
        "last_used_at": moment(view.last_used_at),
        "expires_at": moment(view.expires_at),
    }
