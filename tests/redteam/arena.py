"""Attacks on a session in a host process of its own, beside a neighbour there that must go on answering.

`python -m tests.redteam.arena ENGINE` reads a Bout a line as JSON and writes a Verdict for each; the
process measures itself: the kernel keeps the highest resident
size for it (proc(5), VmHWM), so that no peak falls between two looks, and what earlier bouts had freed is given back.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import math
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel_sandbox import Limits, SandboxError, SandboxSpec, Session
from tests.redteam.cells import arm, host_processes

WARM_UP = 10
QUIET = 50
MEGABYTE = 1024**2


@dataclass(frozen=True, kw_only=True)
class Bout:
    """An attack on one session."""

    source: str
    """The cell; the attacker's names are there."""
    transport: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    timeout: float = 60.0
    after: float = 10.0
    """Seconds that the cell after it may take."""
    consumer: str = ""
    """"idle": nobody takes the live events. "input": prompts are answered, slowly."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of it, as the host saw it."""

    status: str
    cause: str
    """The class of what ended the cell, and what it says."""
    text: str
    outputs: int
    growth: float
    """Megabytes that the process grew to at the highest, over what it had before the attack."""
    seconds: float
    after: str
    """The status of the cell after it."""
    latencies: list[float]
    """Seconds of each of the neighbour's cells during the attack."""
    quiet: list[float]
    """The same before it."""
    left: dict[str, int]
    """What there was more of after its end than before: descriptors, threads, children."""
    asked: int = 0
    """How many prompts the host was shown."""

    def latency(self, share: float) -> float:
        """Return a quantile of the neighbour's latencies, in milliseconds."""
        return _quantile(self.latencies, share)

    def bearable(self, most: float) -> float:
        """Return `most` milliseconds, or more where the machine is so busy that cells take long without an attack."""
        return max(most, 4 * _quantile(self.quiet, 0.95))


def _quantile(seconds: list[float], share: float) -> float:
    ranked = sorted(seconds)
    return ranked[min(len(ranked) - 1, math.ceil(share * len(ranked)) - 1)] * 1000


class Arena:
    """The host process; it is started at the first bout, and again where a bout ended it."""

    def __init__(self, engine: str, without: tuple[str, ...] = ()) -> None:
        self._arguments = [engine, *without]
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115

    def fight(self, bout: Bout, patience: float = 150.0) -> Verdict:
        """Run a bout. Fails where the host process ends, or answers too late."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.redteam.arena", *self._arguments]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
            host_processes.add(self._process.pid)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(bout)).encode() + b"\n")
        self._process.stdin.flush()
        told = b""
        while not told.endswith(b"\n") and select.select([self._process.stdout], [], [], patience)[0]:
            if not (chunk := os.read(self._process.stdout.fileno(), MEGABYTE)):
                break
            told += chunk
        if not told.endswith(b"\n"):
            state = f"ended with {code}" if (code := self._process.poll()) is not None else "does not answer"
            self.close()
            raise AssertionError(f"the host process {state}: {self._said()}")
        return Verdict(**json.loads(told))

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4000:].decode("utf-8", "replace")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and process.stdout is not None:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


@contextlib.contextmanager
def arena(engine: str, *without: str) -> Iterator[Arena]:
    made = Arena(engine, without)
    try:
        yield made
    finally:
        made.close()
        made._errors.close()


# In the host process


def main() -> None:
    (engine,) = sys.argv[1:]
    with contextlib.ExitStack() as stack:
        neighbour = stack.enter_context(Session(engine=engine, image="python"))
        # The first sandboxes fill what a process keeps for good: its event loop, its connections to the engine.
        with Session(engine=engine, image="python") as other, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda session: session.usage(), [neighbour, other] * 4))
        for line in sys.stdin:
            before = possessions()
            found = _fight(engine, Bout(**json.loads(line)), neighbour)
            after = possessions()
            found["left"] = {name: after[name] - count for name, count in before.items() if after[name] > count}
            print(json.dumps(found), flush=True)


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def possessions() -> dict[str, int]:
    """Count what this process holds; not what it keeps for reuse: docker-py's connections to the engine, workers."""
    time.sleep(0.1)  # what was closed is let go of by libzmq's own thread
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    descriptors = [name for name in os.listdir("/proc/self/fd") if not _leads_to_engine(int(name))]
    threads = sum("worker thread" not in thread.name for thread in threading.enumerate())
    return {"descriptors": len(descriptors), "threads": threads, "children": len(children)}


def _leads_to_engine(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith("socket:"):
            with socket.socket(fileno=os.dup(descriptor)) as probe:
                return str(probe.getpeername()).endswith("docker.sock")
    return False


def _fight(engine: str, bout: Bout, neighbour: Session) -> dict[str, Any]:
    spec = SandboxSpec(image="python", limits=Limits(**bout.limits), transport=bout.transport)  # type: ignore[arg-type]
    found: dict[str, Any] = {"asked": 0}

    def answer(prompt: str, password: bool) -> str:
        found["asked"] += 1
        time.sleep(0.05)
        return "answer"

    with Session(engine=engine, spec=spec, input_handler=answer if bout.consumer == "input" else None) as target:
        arm(target)
        for _ in range(WARM_UP):
            target.execute("print(1)")
        found["quiet"] = [_time_of_cell(neighbour) for _ in range(QUIET)]
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        start = resident("VmRSS")
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        attack = threading.Thread(target=_attack, args=(target, bout, found))
        attack.start()
        latencies: list[float] = []
        while attack.is_alive() or not latencies:
            latencies.append(_time_of_cell(neighbour))
        found["growth"] = (resident("VmHWM") - start) / MEGABYTE
        found["after"] = _next_status(target, bout.after)
    return found | {"latencies": latencies}


def _time_of_cell(neighbour: Session) -> float:
    clock = time.perf_counter()
    answered = neighbour.execute("print(2)")
    assert answered.text == "2\n", (answered, answered.cause)
    return time.perf_counter() - clock


def _attack(target: Session, bout: Bout, found: dict[str, Any]) -> None:
    clock = time.perf_counter()
    if bout.consumer == "idle":
        stream = target.stream(bout.source, timeout=bout.timeout)
        while stream.execution is None:
            time.sleep(0.02)
        execution = stream.execution
    else:
        execution = target.execute(bout.source, timeout=bout.timeout)
    found["seconds"] = time.perf_counter() - clock
    found["status"] = execution.status
    found["cause"] = f"{type(execution.cause).__name__}: {execution.cause}"
    found["outputs"] = len(execution.outputs)
    text = execution.text
    found["text"] = text if len(text) < 4000 else f"{text[:1000]}…{text[-3000:]}"


def _next_status(target: Session, timeout: float) -> str:
    try:
        return target.execute("'still here'", timeout=timeout).status
    except SandboxError as exc:
        return type(exc).__name__


if __name__ == "__main__":
    main()
