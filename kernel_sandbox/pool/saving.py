"""Where the notebooks of a pool's sessions are kept: a private directory, and names that tell nothing of an owner."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

from kernel_sandbox.errors import TranscriptError


def make_save_dir(directory: Path) -> None:
    """Make the directory, for this user only, where there is none. Raises TranscriptError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise TranscriptError(f"Notebooks cannot be kept in {directory} ({exc.strerror}): name another place.") from exc


def new_notebook(directory: Path) -> Path:
    """Name the file of a new session's notebook. An identifier is a caller's own text, and so no part of a name."""
    return directory / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(6)}.ipynb"
