"""Settings in a file `.env`: read by the command line only, never by the library, and never shown to a sandbox."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

NAMES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORGANIZATION", "OPENAI_PROJECT")
"""What is taken from it; a directory that somebody else filled must not set anything else."""


def load_dotenv(path: Path) -> None:
    """Take the settings of the file, unless the environment has a key or a server of its own.

    All or nothing: a key from the environment must not be sent to a server that a file in some directory names.
    """
    if path.is_file() and not set(NAMES) & os.environ.keys():
        values = dotenv_values(path, interpolate=False)
        os.environ.update({name: str(values[name]) for name in NAMES if values.get(name)})
