"""What became of a cell, in lines of their own, for answers that have only text to say it in. Pure."""

from __future__ import annotations

from kernel_sandbox.session.outputs import Execution, fresh_kernel


def restart_notice(restarted_because: str | None) -> str:
    """Return a line that says that a cell had a fresh kernel, for doors that have only text; empty where it had not."""
    return "" if restarted_because is None else f"[kernel-sandbox: {fresh_kernel(restarted_because)}]\n"


def fate_notice(execution: Execution) -> str:
    """Return what became of a cell that did not end by itself, for where there is only text to say it in."""
    if execution.ran == "whole" and execution.kept == "all":
        return ""
    return f"[kernel-sandbox: {execution.fate}]\n"


def notices(execution: Execution, restarted_because: str | None) -> str:
    """Return both, each in its line."""
    return restart_notice(restarted_because) + fate_notice(execution)
