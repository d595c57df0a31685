"""Where the service keeps what must outlive it, unless told otherwise: for settings.py, and for who needs no more."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kernel_sandbox.host import directories


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of this user's service."""
    if os.geteuid() == 0 and directories.given("XDG_STATE_HOME", environ) is None:
        return Path("/var/lib/kernel-sandbox")
    return directories.state_home(environ) / "kernel-sandbox"


def default_database(environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of its database."""
    return str(state_directory(environ) / "server.db")


def default_transcripts(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of its saved notebooks."""
    return state_directory(environ) / "transcripts"
