"""A host process whose wall clock jumps: `LD_PRELOAD=… CLOCK_SHIFT=FILE python -m tests.faults.shifted ENGINE FILE`.

Prints what it saw as JSON, and then dies with its session open.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

from kernel_sandbox import Session
from tests.faults.census import collect

STEPS = {"ten hours ahead": 10 * 3600, "fifty years back": -50 * 365 * 86400}
"""By how many seconds the clock is off after each jump."""


def watched(session: Session, source: str, timeout: float, jump: Any) -> dict[str, Any]:
    """Run a cell, and have the clock jump when it shows something."""
    started = time.monotonic()
    stream = session.stream(f"import time\nprint('on', flush=True)\n{source}", timeout=timeout)
    next(stream)
    jump()
    for _ in stream:
        pass
    assert stream.execution is not None
    seconds, execution = time.monotonic() - started, stream.execution
    return {"status": execution.status, "seconds": seconds, "duration": execution.duration}


def main(engine: str, path: str) -> None:
    told: dict[str, Any] = {}

    def jump(shift: int) -> None:
        before = time.time()
        Path(path).write_bytes(struct.pack("q", shift))
        told.setdefault("jumps", []).append(time.time() - before)

    session = Session(engine=engine, image="python")
    session.open()
    print(session.id, flush=True)
    for name, shift in STEPS.items():
        told[name] = {
            "short": watched(session, "time.sleep(0.3)", 30, lambda shift=shift: jump(shift)),
            "endless": watched(session, "while True: pass", 1, lambda: jump(0)),
        }
        jump(shift)
        collect(engine)
        session.restart()
        session.files.write("a.txt", name)
        told[name]["file"] = session.files.read("a.txt").decode()
        with Session(engine=engine, image="python") as another:
            told[name]["another"] = another.execute("6 * 7").text
    session.transcript.save(Path(path).with_suffix(".ipynb"), validate=True)
    print(json.dumps(told), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
