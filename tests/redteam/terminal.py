"""The command line as a person has it: on a terminal of its own, whose bytes are kept as they came."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.redteam.cells import SLOWNESS, host_processes

COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
ENVIRONMENT = {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40", "NO_COLOR": ""}


def on_terminal(
    *arguments: str,
    typed: Sequence[tuple[bytes, bytes]] = (),
    timeout: float = 40,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run the command on a terminal and return what it was shown; of `typed`, each is a sign to wait for, and keys."""
    primary, secondary = pty.openpty()
    try:
        process = subprocess.Popen(
            [COMMAND, *arguments],
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            cwd=directory,
            env=(os.environ if environment is None else dict(environment)) | ENVIRONMENT,
            start_new_session=True,
        )
    finally:
        os.close(secondary)
    host_processes.add(process.pid)
    waiting, seen, shown, deadline = list(typed), 0, b"", time.monotonic() + timeout * SLOWNESS
    with process, contextlib.suppress(OSError):  # EIO, when the other end is closed
        while time.monotonic() < deadline:
            if select.select([primary], [], [], 0.5)[0]:
                shown += os.read(primary, 65536)
            elif process.poll() is not None:
                break
            if waiting and (place := shown.find(waiting[0][0], seen)) >= 0:
                seen = place + len(waiting[0][0])
                os.write(primary, waiting.pop(0)[1])
        process.kill()
    os.close(primary)
    return shown


def through_pipes(
    *arguments: str, typed: bytes = b"", directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> bytes:
    """Run the command without any terminal, and return what it wrote to both streams."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [COMMAND, *arguments],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=None if environment is None else dict(environment),
    ) as process:
        host_processes.add(process.pid)
        return process.communicate(typed, timeout=60 * SLOWNESS)[0]
