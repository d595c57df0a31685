"""This user's directories of kernel-sandbox: where platformdirs, and the XDG Base Directory Specification, have them.

A relative path in a variable counts as not set, HOME included: the working directory would decide which cache is
trusted, whose keys open the service, and where a session's sockets are.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import PlatformDirs

NAME = "kernel-sandbox"


def given(variable: str) -> Path | None:
    """Return the directory that a variable names; None where it names none, or another one in each directory."""
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None


def cache(*, seen_by_others: bool = False) -> Path:
    """Return where we keep what we could make again; root's is under /var/cache if other users are to look into it."""
    return PlatformDirs(NAME, use_site_for_root=seen_by_others).user_cache_path


def state(*, of_service: bool = False) -> Path:
    """Return where we keep what must last; root's service has it under /var/lib unless XDG_STATE_HOME is set."""
    if of_service and os.geteuid() == 0 and given("XDG_STATE_HOME") is None:
        return PlatformDirs(NAME).site_state_path
    return PlatformDirs(NAME).user_state_path
