"""What the gate and the validator cost, beside a run without them: `python -m tests.benchmarks.guards [--quick]`.

Without them libzmq connects to the kernel's own sockets, and jupyter_client reads the messages, as a program would
that trusts its kernel. Both kinds of session are open at the same time and take turns cell by cell.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyter_client.session import Session as JupyterSession

from kernel_sandbox import AsyncSession, Limits, channels, live
from kernel_sandbox.engines import NAMES
from kernel_sandbox.gate import Gate
from kernel_sandbox.transports import IpcTransport
from kernel_sandbox.validate import Message, read_message

DISPLAY = "from IPython.display import display; display({'image/png': 'A' * 27_000_000, 'text/plain': ''}, raw=True)"
LIMITS = Limits(output_bytes="64m", session_output_bytes="4g")
MOST_MILLISECONDS = 0.6
"""Of a warm trivial cell."""
MOST_SHARE = 0.10
"""Of a display of 27 MB."""


class NoGate(Gate):
    """Names for clients that lead straight to the kernel's sockets."""

    def listen_unix(self, address: str) -> None:
        transport = getattr(self._dial, "__self__", None)
        assert isinstance(transport, IpcTransport)
        for port, descriptor in transport._pinned.items():
            path = Path(f"{address}-{port}")
            path.unlink(missing_ok=True)
            path.symlink_to(f"/proc/self/fd/{descriptor}")
            self._paths.append(path)


def read_trusting(channel: str, frames: Sequence[bytes], key: bytes) -> Message | None:
    """Read a message as jupyter_client does, into the form that the session knows."""
    reader = _readers.setdefault(key, JupyterSession(key=key))
    _, parts = reader.feed_identities(list(frames))
    message: dict[str, Any] = reader.deserialize(parts)
    header, parent = message["header"], message["parent_header"]
    kind = header["msg_type"]
    return {
        "msg_type": kind,
        "parent": parent.get("msg_id", ""),
        "content": message["content"],
        "date": header["date"],
    }


_readers: dict[bytes, JupyterSession] = {}


async def opened(engine: str, *, guarded: bool) -> AsyncSession:
    _choose(guarded)
    session = AsyncSession(engine=engine, image="python", limits=LIMITS)
    await session.open()
    return session


def _choose(guarded: bool) -> None:
    live.Gate = Gate if guarded else NoGate  # type: ignore[attr-defined]
    channels.read_message = read_message if guarded else read_trusting  # type: ignore[attr-defined]


async def timed(session: AsyncSession, source: str, *, guarded: bool) -> float:
    _choose(guarded)
    started = time.perf_counter()
    execution = await session.execute(source)
    seconds = time.perf_counter() - started
    assert execution.status == "ok", execution.error
    return seconds


async def compare(engine: str, source: str, rounds: int) -> tuple[float, float]:
    """Return the medians with and without, in milliseconds."""
    sessions = {guarded: await opened(engine, guarded=guarded) for guarded in (True, False)}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds + 2):
        for guarded in (True, False) if number % 2 else (False, True):
            found = await timed(sessions[guarded], source, guarded=guarded)
            if number > 1:
                seconds[guarded].append(found)
    for guarded, session in sessions.items():
        _choose(guarded)
        await session.aclose()
    return statistics.median(seconds[True]) * 1000, statistics.median(seconds[False]) * 1000


async def main(cells: int, displays: int) -> int:
    missed = 0
    print(f"{'median':<34}{'guarded':>10}{'without':>10}{'cost':>16}")
    for engine in NAMES:
        guarded, bare = await compare(engine, "pass", cells)
        missed += guarded - bare > MOST_MILLISECONDS
        print(_line(f"warm trivial cell, {engine}", guarded, bare, f"{guarded - bare:+.2f} ms", MOST_MILLISECONDS))
        guarded, bare = await compare(engine, DISPLAY, displays)
        missed += guarded / bare - 1 > MOST_SHARE
        print(_line(f"27 MB display, {engine}", guarded, bare, f"{guarded / bare - 1:+.1%}", MOST_SHARE))
    return missed


def _line(name: str, guarded: float, bare: float, cost: str, goal: float) -> str:
    return f"{name:<34}{guarded:>7.2f} ms{bare:>7.2f} ms{cost:>13}   (goal {goal:g})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cells")
    raise SystemExit(asyncio.run(main(*((100, 7) if parser.parse_args().quick else (600, 25)))))
