"""Which sandboxes of this user there are, for an engine without a daemon that could be asked: a file for each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host.run_directory import Owner, base_directory

FIELDS = ("id", "session", "image", "environment", "created", "owner", "process", "first_pid", "groups")


def _directory() -> Path:
    directory = base_directory() / "bubblewrap"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise EngineError(f"{directory} cannot be made ({exc.strerror}): make room there, or mend its mode.") from exc
    return directory


def add(record: dict[str, Any]) -> None:
    """Keep a record with FIELDS; written whole or not at all."""
    path = _directory() / f"{record['id']}.json"
    scratch = path.with_suffix(".part")
    try:
        scratch.write_text(json.dumps(record))
        scratch.rename(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def remove(identifier: str) -> None:
    with contextlib.suppress(OSError):
        (_directory() / f"{identifier}.json").unlink()


def records() -> Iterator[dict[str, Any]]:
    """Yield the records that can be read."""
    for path in sorted(_directory().glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(path.read_text())
            if isinstance(record, dict) and set(FIELDS) <= record.keys():
                yield record


def is_running(record: dict[str, Any]) -> bool:
    """Whether a sandbox's bubblewrap process is there."""
    return record["process"] is not None and not Owner(**record["process"]).is_gone


def owner_is_gone(record: dict[str, Any]) -> bool:
    return Owner(**record["owner"]).is_gone


def kill(record: dict[str, Any]) -> None:
    """End a sandbox that outlived its owner; the kernel ends what is below its bubblewrap process."""
    if is_running(record):
        for pid in (record["first_pid"], record["process"]["pid"]):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
