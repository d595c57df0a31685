"""What HTTP adds to a cell: `python -m tests.benchmarks.service [--quick]`.

The service runs in a process of its own, as people start it, and is asked over one kept connection; beside it, in the
same run and by turns, a session without it. Both run `1 + 1` in a warm session of the same engine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines import NAMES
from tests.doors.http.running import GEN1, ServerProcess

MOST_ADDED = 5.0
"""Milliseconds."""


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def compare(engine: str, rounds: int) -> dict[str, float]:
    """Return the medians, in milliseconds, without the service, by its own routes, and by the session pools' API."""
    with (
        tempfile.TemporaryDirectory() as directory,
        ServerProcess(Path(directory), engine) as server,
        server.client() as client,
        Session(engine=engine, image="python") as session,
    ):
        client.post("/v1/sessions", json={"identifier": "own"}).raise_for_status()
        query = {"identifier": "pool", "api-version": GEN1}
        inline = {"codeInputType": "inline", "executionType": "synchronous", "code": "1 + 1"}

        def own() -> None:
            answer = client.post("/v1/sessions/own/execute", json={"source": "1 + 1"}).raise_for_status().json()
            assert answer["status"] == "ok"

        def pool() -> None:
            answer = client.post("/code/execute", params=query, json={"properties": inline}).raise_for_status().json()
            assert answer["properties"]["result"] == 2

        def alone() -> None:
            assert session.execute("1 + 1").text == "2"

        kinds = {"a session": alone, "/v1": own, "code/execute": pool}
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(rounds + 5):
            for name, work in kinds.items():
                if number >= 5:
                    found[name].append(timed(work))
                else:
                    work()
        return {name: statistics.median(values) for name, values in found.items()}


def main(rounds: int) -> int:
    missed = 0
    for engine in NAMES:
        medians = compare(engine, rounds)
        bare = medians.pop("a session")
        for name, median in medians.items():
            missed += median - bare > MOST_ADDED
            verdict = "met" if median - bare <= MOST_ADDED else "MISSED"
            figures = f"{median:6.2f} ms, a session alone {bare:5.2f} ms: {median - bare:+.2f} ms"
            print(f"{engine:<11} {name:<13}{figures}   {verdict} (goal {MOST_ADDED:g} ms)")
    return missed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer cells")
    raise SystemExit(main(60 if parser.parse_args().quick else 400))
