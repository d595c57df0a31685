"""What an error of a session's cell says where a name was looked up or a host called, and there is no network."""

from __future__ import annotations

import errno
import socket
from typing import Any

LINE = "The sandbox has no network: nothing outside it can be reached, and trying again changes nothing."
DEEPEST = 20
"""Errors that led to one another and are looked at."""


def about_error(error: BaseException) -> str | None:
    """Return the line for an error that comes from there being no network, for error_notes."""
    return LINE if _came_from_the_network(error) and _is_alone() else None


def _came_from_the_network(error: Any) -> bool:
    for _ in range(DEEPEST):
        if isinstance(error, socket.gaierror) or getattr(error, "errno", None) == errno.ENETUNREACH:
            return True
        error = getattr(error, "__cause__", None) or getattr(error, "__context__", None)
    return False


def _is_alone() -> bool:
    """Return whether the sandbox has no interface but its loopback."""
    try:
        with open("/proc/net/dev") as listed:
            return [line.split(":")[0].strip() for line in listed if ":" in line] == ["lo"]
    except OSError:
        return False
