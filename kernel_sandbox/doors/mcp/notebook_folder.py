"""Where notebooks are saved on the host: names that the operator gave, and never over a file that was there before."""

from __future__ import annotations

import os
from pathlib import Path

from kernel_sandbox.errors import TranscriptError
from kernel_sandbox.session.transcript.writing import replace_file


def reserve(path: Path) -> Path:
    """Make an empty file at a path, or at the next free one beside it: a.ipynb, a-2.ipynb, a-3.ipynb, …

    Two processes never get the same. Raises TranscriptError.
    """
    for number in range(1, 10_000):
        candidate = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        except OSError as exc:
            raise TranscriptError(f"{candidate} cannot be written: {exc.strerror or exc}.") from exc
        return candidate
    raise TranscriptError(f"There are too many files named like {path.name}: move some of them away.")


class NotebookFolder:
    """A directory that the operator named: one notebook in it, written anew with each export."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path: Path | None = None

    def save(self, notebook: bytes) -> Path:
        """Write the notebook, and say where. Raises TranscriptError."""
        if self._path is None:
            self._path = reserve(self._directory.absolute() / "notebook.ipynb")
        replace_file(self._path, [notebook], durable=True)
        return self._path
