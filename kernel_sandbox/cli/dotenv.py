"""Settings in a file `.env`: read by the command line only, never by the library, and never shown to a sandbox."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

ACCESS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORGANIZATION", "OPENAI_PROJECT")
"""All or nothing: a key from the environment must not be sent to a server that a file in some directory names."""
NAMES = (*ACCESS, "OPENAI_TIMEOUT", "OPENAI_MAX_RETRIES")
"""What is taken from it; a directory that somebody else filled must not set anything else."""


def load_dotenv(path: Path) -> frozenset[str]:
    """Take the settings that the environment lacks; who is asked and with which key, only where it names neither.

    Returns the names of those that were taken.
    """
    if not path.is_file():
        return frozenset()
    values = dotenv_values(path, interpolate=False)
    kept = os.environ.keys() | (ACCESS if set(ACCESS) & os.environ.keys() else ())
    taken = {name: str(values[name]) for name in NAMES if values.get(name) and name not in kept}
    os.environ.update(taken)
    return frozenset(taken)
