"""Where the service keeps what must outlive it, unless told otherwise: for settings.py, and for who needs no more."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of this user's service."""
    if base := environ.get("XDG_STATE_HOME"):
        return Path(base) / "kernel-sandbox"
    if os.geteuid() == 0:
        return Path("/var/lib/kernel-sandbox")
    return Path.home() / ".local" / "state" / "kernel-sandbox"


def default_database(environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of its database."""
    return str(state_directory(environ) / "server.db")


def default_transcripts(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of its saved notebooks."""
    return state_directory(environ) / "transcripts"
