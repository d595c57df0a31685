"""Settings in a file `.env`: read by the command line only, never by the library, and never shown to a sandbox.

Whoever filled the directory wrote it. `access` asks the user before any of ACCESS is taken.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from dotenv import dotenv_values

from kernel_sandbox.agents.models import BASE_URL

ACCESS = ("OPENAI_API_KEY", BASE_URL, "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""Which server gets the data, and for whose account. All or nothing: a key from the environment must not be sent to a
server that a file in some directory names."""
SENT_TOO = ("OPENAI_ADMIN_KEY", "OPENAI_CUSTOM_HEADERS")
"""What the client sends besides, where the environment has it; taken from no file."""
NAMES = (*ACCESS, "OPENAI_TIMEOUT", "OPENAI_MAX_RETRIES")
"""What is taken from it; a directory that somebody else filled must not set anything else."""
MAX_BYTES = 64 * 1024


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the settings that the environment lacks: of ACCESS, where it has nothing of an access at all.

    Empty where there is no file, or none that can be read.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            return {}
        with path.open("rb") as file:
            text = file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    own = os.environ.keys() & {*ACCESS, *SENT_TOO}
    kept = os.environ.keys() | (ACCESS if own else ())
    given = {name: str(values[name]).strip() for name in NAMES if name not in kept and values.get(name)}
    return {name: value for name, value in given.items() if value and "\0" not in value}
