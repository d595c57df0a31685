"""Measure a session beside a bare local ipykernel, in one run: `python -m tests.benchmarks [--quick]`.

The reference is what a program without this package would do: jupyter_client's AsyncKernelManager over ipc, its
`wait_for_ready` and its `execute_interactive`, on the python3 kernel of this environment. All take turns, so that a
machine whose speed drifts treats them alike. Figures are medians; a ratio is a sandbox's over the reference.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from jupyter_client.manager import AsyncKernelManager

from kernel_sandbox import AsyncSession, Limits
from kernel_sandbox.agents import PythonExecAgent, ScriptedModel
from kernel_sandbox.agents.events import AgentEvent, CellFinished
from kernel_sandbox.sandbox.engines import NAMES

OURS = f"{os.sep}kernel_sandbox{os.sep}"
LINES = "for i in range(200_000): print(i)"
DISPLAY = "from IPython.display import display; display({'image/png': 'A' * 27_000_000, 'text/plain': ''}, raw=True)"
SIDES = ("local", *NAMES)
GOALS = {
    "start to ready": {"docker": 1.0, "bubblewrap": 0.7},
    "warm trivial cell": {"docker": 0.6, "bubblewrap": 0.6},
    "27 MB display": {"docker": 1.2, "bubblewrap": 1.2},
    "200,000 printed lines": {"docker": 1.05, "bubblewrap": 1.05},
    "restart": {"docker": 0.4, "bubblewrap": 0.4},
    "import pandas, 0.5 s later": {"docker": 1.1, "bubblewrap": 1.1},
    "import pandas, restarted": {"docker": 0.2, "bubblewrap": 0.2},
}
"""The largest ratios."""
MOST = {
    "agent loop, a turn": dict.fromkeys(NAMES, 20.0),
    "warm cell, host's time": dict.fromkeys(NAMES, 1.0),
    "warm cell, our calls": dict.fromkeys(NAMES, 300.0),
}
"""The largest figures of a sandbox: milliseconds, and calls of Python functions of this package."""
TURNS = 20
SETTLING = 3.0
"""Seconds in which a zygote has imported its modules."""
LIMITS = Limits(output_bytes="64m", session_output_bytes="2g")


class Local:
    """The reference: a kernel as a plain process, driven as jupyter_client's documentation shows."""

    async def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.manager = AsyncKernelManager(
            kernel_name="python3", transport="ipc", connection_file=str(Path(self.directory.name, "kernel.json"))
        )
        self.manager.ip = str(Path(self.directory.name, "k"))
        await self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=60)

    async def execute(self, source: str) -> None:
        # The default hook prints; a program collects.
        collected: list[object] = []
        reply = await self.client.execute_interactive(source, output_hook=collected.append, timeout=120)
        assert reply["content"]["status"] == "ok"

    async def restart(self) -> None:
        await self.manager.restart_kernel()
        await self.client.wait_for_ready(timeout=60)

    async def memory(self) -> int:
        (pid,) = (self.manager.provisioner.pid,)  # type: ignore[union-attr]
        status = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("Pss:"))

    async def aclose(self) -> None:
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)
        self.directory.cleanup()


class Sandboxed:
    """A session."""

    def __init__(self, engine: str) -> None:
        self.engine = engine

    async def open(self) -> None:
        self.session = AsyncSession(engine=self.engine, image="datascience", limits=LIMITS)
        await self.session.open()

    async def execute(self, source: str) -> None:
        (await self.session.execute(source)).raise_for_error()

    async def restart(self) -> None:
        await self.session.restart()

    async def memory(self) -> int:
        return (await self.session.usage()).memory or 0

    async def aclose(self) -> None:
        await self.session.aclose()


@dataclass
class Row:
    name: str
    unit: str = "ms"
    scale: float = 1000
    seconds: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})

    def add(self, side: str, value: float) -> None:
        self.seconds[side].append(value)

    def medians(self) -> dict[str, float]:
        return {side: statistics.median(found) * self.scale for side, found in self.seconds.items() if found}

    def spread(self, side: str) -> float:
        """Return how far the middle half of the figures lies apart, as a share of the median."""
        found = self.seconds[side]
        if len(found) < 2:
            return 0.0
        first, middle, third = statistics.quantiles(found, n=4)
        return (third - first) / middle if middle else 0.0

    def misses(self) -> list[str]:
        """Name the engines that miss a goal."""
        found = self.medians()
        local, goals = found.pop("local", None), GOALS.get(self.name, {})
        slow = [side for side, value in found.items() if local and side in goals and value / local > goals[side]]
        most = MOST.get(self.name, {})
        return slow + [side for side, value in found.items() if value > most.get(side, value)]

    def line(self) -> str:
        found = self.medians()
        local = found.get("local")
        figures = "".join(f"{found[side]:>12.1f}" if side in found else " " * 12 for side in SIDES)
        ratios = "".join(f"{found[side] / local:>8.2f}" if local and side in found else " " * 8 for side in NAMES)
        missed = self.misses()
        goal = GOALS.get(self.name) or MOST.get(self.name)
        spread = "".join(f"{self.spread(side):>7.0%}" if side in found else " " * 7 for side in SIDES)
        verdict = f"   MISSED by {', '.join(missed)} (goal {goal})" if missed else "   met" if goal else ""
        return f"{self.name:<26}{figures} {self.unit:<5}{ratios} {spread}{verdict}"


async def timed(work: Callable[[], Awaitable[object]], row: Row, side: str) -> None:
    started = time.perf_counter()
    await work()
    row.add(side, time.perf_counter() - started)


def competitors() -> dict[str, Local | Sandboxed]:
    return {"local": Local(), **{engine: Sandboxed(engine) for engine in NAMES}}


async def measure_host(kernel: Local | Sandboxed, cells: int) -> tuple[float, float]:
    """Return what a warm cell costs this process: seconds of a processor, and calls of this package's functions."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call" and OURS in frame.f_code.co_filename

    used = time.process_time()
    for _ in range(cells):
        await kernel.execute("pass")
    used = time.process_time() - used
    sys.setprofile(count)
    for _ in range(10):
        await kernel.execute("pass")
    sys.setprofile(None)
    return used / cells, calls / 10


async def measure(rounds: int, cells: int) -> list[Row]:
    start, cell, restart = Row("start to ready"), Row("warm trivial cell"), Row("restart")
    pandas, again = Row("import pandas, at once"), Row("import pandas, restarted")
    host, calls = Row("warm cell, host's time"), Row("warm cell, our calls", "", 1)
    lines, display = Row("200,000 printed lines"), Row("27 MB display")
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} …", flush=True)
        kernels = competitors()
        for side, kernel in kernels.items():
            await timed(kernel.open, start, side)
            await timed(partial(kernel.execute, "import pandas"), pandas, side)
            await asyncio.sleep(SETTLING)  # what a zygote imports ahead must not slow the next one's start
        for _ in range(cells):
            for side, kernel in kernels.items():
                await timed(partial(kernel.execute, "pass"), cell, side)
        for side, kernel in kernels.items():
            used, called = await measure_host(kernel, cells)
            host.add(side, used)
            if side != "local":
                calls.add(side, called)
        for source, row in ((LINES, lines), (DISPLAY, display)):
            for side, kernel in kernels.items():
                await timed(partial(kernel.execute, source), row, side)
        for side, kernel in kernels.items():
            await timed(kernel.restart, restart, side)
            await timed(partial(kernel.execute, "import pandas"), again, side)
            await kernel.aclose()
    return [start, cell, host, calls, restart, pandas, again, lines, display]


async def measure_second_thoughts(rounds: int) -> Row:
    """The first import when somebody has thought for half a second about the first cell."""
    row = Row("import pandas, 0.5 s later")
    for _ in range(rounds):
        for side, kernel in competitors().items():
            await kernel.open()
            await asyncio.sleep(0.5)
            await timed(partial(kernel.execute, "import pandas"), row, side)
            await kernel.aclose()
    return row


async def measure_memory(rounds: int) -> Row:
    """What a session holds when nobody uses it: the kernel, PID 1, and the zygote with its modules imported."""
    memory = Row("memory per idle session", "MB", 1 / 1024**2)
    for _ in range(rounds):
        for side, kernel in competitors().items():
            await kernel.open()
            await asyncio.sleep(SETTLING)
            memory.add(side, await kernel.memory())
            await kernel.aclose()
    return memory


async def measure_files(rounds: int) -> list[Row]:
    upload, download = Row("upload", "MB/s", 1), Row("download", "MB/s", 1)
    size = 100_000_000
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "in"), Path(directory, "out")
        source.write_bytes(os.urandom(size))
        for engine in NAMES:
            async with AsyncSession(engine=engine, image="python") as session:
                for _ in range(rounds):
                    started = time.perf_counter()
                    await session.files.upload(source, "large")
                    sent = time.perf_counter()
                    await session.files.download("large", target)
                    upload.add(engine, size / 1e6 / (sent - started))
                    download.add(engine, size / 1e6 / (time.perf_counter() - sent))
    return [upload, download]


async def measure_loop(rounds: int) -> Row:
    """What an agent's turn costs apart from the model and the cell: listings, reading, the conversation."""
    overhead = Row("agent loop, a turn")
    arguments = {"name": "execute_python_code", "arguments": json.dumps({"python_code": "pass"})}
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": arguments}]}
    for engine in NAMES:
        async with AsyncSession(engine=engine, image="python") as session:
            for _ in range(rounds):
                cells: list[float] = []

                def note(event: AgentEvent, cells: list[float] = cells) -> None:
                    if isinstance(event, CellFinished):
                        cells.append(event.execution.duration)

                model = ScriptedModel([*[call] * TURNS, "done"])
                agent = PythonExecAgent(language_model_interface=model, session=session, max_turns=99, on_event=note)
                await agent.atask("go")
                assert agent.last_task is not None
                assert len(cells) == TURNS
                spent = agent.last_task.seconds - agent.last_task.model_seconds - sum(cells)
                overhead.add(engine, spent / TURNS)
    return overhead


async def main(rounds: int, cells: int) -> int:
    rows = await measure(rounds, cells)
    rows.append(await measure_second_thoughts(rounds))
    rows += [await measure_memory(min(rounds, 3)), *await measure_files(rounds), await measure_loop(rounds)]
    title = f"median of {rounds} rounds"
    columns = "".join(f"{side:>12}" for side in SIDES)
    print(f"\n{title:<26}{columns} {'':<5}{'  ratios of both':<16} {'  spreads (quartiles)'}")
    for row in rows:
        print(row.line())
    return sum(bool(row.misses()) for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds instead of seven")
    quick = parser.parse_args().quick
    raise SystemExit(asyncio.run(main(*((2, 50) if quick else (7, 200)))))
