"""This user's directories, where the XDG Base Directory Specification has them.

A relative path in one of its variables counts as not set, as it demands: the working directory would decide which cache
is trusted, whose keys open the service, and where a session's sockets are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def given(variable: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the directory that a variable names; None where it names none, or another one in each directory."""
    path = Path(environ.get(variable, ""))
    return path if path.is_absolute() else None


def cache_home() -> Path:
    """Return where programs keep what they could make again."""
    return given("XDG_CACHE_HOME") or Path.home() / ".cache"


def state_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where programs keep what they remember."""
    return given("XDG_STATE_HOME", environ) or Path.home() / ".local" / "state"
