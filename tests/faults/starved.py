"""A host process that runs out of descriptors: `python -m tests.faults.starved ENGINE`.

While one session runs, others are opened with so many descriptors left, more each time: first with the look for free
ones at a start (as always), then without it, as if others took them right after it: each number runs out at another
step. A JSON object a line tells of each: what was refused how, how long that took, how many descriptors were held.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kernel_sandbox import SandboxError, Session
from kernel_sandbox.host import run_directory
from tests.faults.census import own_descriptors

LEFT = (0, 12, 16, 20, 28, 64)
"""How many descriptors more than are held a process may have."""
LEFT_UNSEEN = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


@contextmanager
def left(count: int) -> Iterator[None]:
    """Leave this process so many descriptors more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    # The limit is on the number of a descriptor, and holes below the highest would be free.
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest - len(os.listdir("/proc/self/fd")))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


def attempt(engine: str, count: int, running: Session) -> dict[str, Any]:
    """Open a session with so many descriptors left; run a cell of one that is open already."""
    session, refusal, answer = Session(engine=engine, image="python"), "", ""
    with left(count):
        started = time.monotonic()
        try:
            session.open()
            session.execute("1")
        except SandboxError as exc:
            refusal = f"{type(exc).__name__}: {exc}"
        seconds = time.monotonic() - started
        answer = running.execute("6 * 7", timeout=10).text
    try:
        session.close()
    except SandboxError as exc:
        refusal += f" (closing: {exc})"
    told = {"left": count, "session": session.id, "refusal": refusal, "seconds": seconds, "running": answer}
    return told | {"descriptors": own_descriptors()}


def main(engine: str) -> None:
    with Session(engine=engine, image="python") as running:
        running.execute("1")
        with Session(engine=engine, image="python") as warm:
            warm.execute("1")
        for count in LEFT:
            print(json.dumps(attempt(engine, count, running)), flush=True)
        run_directory.LEAST_DESCRIPTORS = 0
        for count in LEFT_UNSEEN:
            print(json.dumps(attempt(engine, count, running)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
