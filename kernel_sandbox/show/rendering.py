"""Starts `page` in a process of its own, with a deadline, and says why where it gives none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from kernel_sandbox.errors import TranscriptError
from kernel_sandbox.host import programs
from kernel_sandbox.session.transcript import Transcript

DEADLINE = 60.0
"""Seconds; a notebook of a hundred cells takes two."""
_SIMPLER = "clear some of its outputs, or use --to md"


def render(scrubbed: Transcript, *, deadline: float = DEADLINE) -> str:
    """Make the page of a scrubbed transcript. Raises TranscriptError past `deadline` seconds or 4 GB of memory."""
    if not all(map(importlib.util.find_spec, ("nbconvert", "nh3"))):
        raise TranscriptError("HTML needs nbconvert and nh3: pip install 'kernel-sandbox[export]'.")
    # -P: a module of the working directory is none of ours.
    command = [sys.executable, "-P", "-m", "kernel_sandbox.show.page"]
    try:
        notebook, environment = scrubbed.to_bytes(), programs.environment()
        done = subprocess.run(
            command, input=notebook, capture_output=True, timeout=deadline, check=False, env=environment
        )
    except subprocess.TimeoutExpired as exc:
        raise TranscriptError(f"The page was not made within {deadline:g} s: {_SIMPLER}.") from exc
    if done.returncode or not done.stdout:
        raise TranscriptError(f"The page could not be made ({_last_line(done.stderr)}): {_SIMPLER}.")
    return done.stdout.decode()


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "it ended without a word")
    return "too much memory was needed" if last.startswith("MemoryError") else last[:200]
