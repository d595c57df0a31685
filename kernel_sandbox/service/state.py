"""Where the service keeps what must outlive it, unless told otherwise: for settings.py, and for who needs no more."""

from __future__ import annotations

from pathlib import Path

from kernel_sandbox.host import directories


def default_database() -> str:
    """Return the path of this user's database."""
    return str(directories.state(of_service=True) / "server.db")


def default_save_dir() -> Path:
    """Return the directory of this user's saved notebooks."""
    return directories.state(of_service=True) / "transcripts"
