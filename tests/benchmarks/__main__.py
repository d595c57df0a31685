"""Measure a session beside a bare local ipykernel, in one run: `python -m tests.benchmarks [--quick]`.

The reference is what a program without this package would do: jupyter_client's AsyncKernelManager over ipc, its
`wait_for_ready` and its `execute_interactive`, on the python3 kernel of this environment. Both take turns, so that a
machine whose speed drifts treats them alike. Figures are medians; the ratio is ours over the reference.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager

from kernel_sandbox import AsyncSession, Limits
from kernel_sandbox.agents import PythonExecAgent, ScriptedModel
from kernel_sandbox.agents.events import AgentEvent, CellFinished

LINES = "for i in range(200_000): print(i)"
DISPLAY = "from IPython.display import display; display({'image/png': 'A' * 27_000_000, 'text/plain': ''}, raw=True)"
GOALS = {"start to ready": 1.0, "warm trivial cell": 1.05, "restart": 0.4}
TURNS = 20
SETTLING = 4.0
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


class Ours:
    """A session in a Docker container."""

    async def open(self) -> None:
        self.session = AsyncSession(engine="docker", image="datascience", limits=LIMITS)
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
    local: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    def line(self) -> str:
        ours = statistics.median(self.ours) * self.scale
        if not self.local:
            return f"{self.name:<26}{'':>12}{ours:>12.1f} {self.unit:<5}"
        local = statistics.median(self.local) * self.scale
        goal = GOALS.get(self.name)
        verdict = "" if goal is None else f"   goal ≤ {goal:g}: {'met' if ours / local <= goal else 'MISSED'}"
        return f"{self.name:<26}{local:>12.1f}{ours:>12.1f} {self.unit:<5}{ours / local:>8.2f}{verdict}"


async def timed(work: Callable[[], Awaitable[object]], into: list[float]) -> None:
    started = time.perf_counter()
    await work()
    into.append(time.perf_counter() - started)


async def measure(rounds: int, cells: int) -> list[Row]:
    start, cell, restart = Row("start to ready"), Row("warm trivial cell"), Row("restart")
    pandas, again = Row("first import pandas"), Row("import pandas, restarted")
    lines, display = Row("200,000 printed lines"), Row("27 MB display")
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} …", flush=True)
        pairs: list[tuple[Local | Ours, str]] = [(Local(), "local"), (Ours(), "ours")]
        for kernel, side in pairs:
            await timed(kernel.open, getattr(start, side))
            await timed(lambda kernel=kernel: kernel.execute("import pandas"), getattr(pandas, side))  # type: ignore[misc]
        for _ in range(cells):
            for kernel, side in pairs:
                await timed(lambda kernel=kernel: kernel.execute("pass"), getattr(cell, side))  # type: ignore[misc]
        for source, row in ((LINES, lines), (DISPLAY, display)):
            for kernel, side in pairs:
                await timed(lambda kernel=kernel, source=source: kernel.execute(source), getattr(row, side))  # type: ignore[misc]
        for kernel, side in pairs:
            await timed(kernel.restart, getattr(restart, side))
            await timed(lambda kernel=kernel: kernel.execute("import pandas"), getattr(again, side))  # type: ignore[misc]
            await kernel.aclose()
    return [start, cell, restart, pandas, again, lines, display]


async def measure_memory(rounds: int) -> Row:
    """What a session holds when nobody uses it: the kernel, PID 1, and the zygote with its modules imported."""
    memory = Row("memory per idle session", "MB", 1 / 1024**2)
    for _ in range(rounds):
        pairs: list[tuple[Local | Ours, str]] = [(Local(), "local"), (Ours(), "ours")]
        for kernel, side in pairs:
            await kernel.open()
            await asyncio.sleep(SETTLING)
            getattr(memory, side).append(await kernel.memory())
            await kernel.aclose()
    return memory


async def measure_files(rounds: int) -> list[Row]:
    upload, download = Row("upload", "MB/s", 1), Row("download", "MB/s", 1)
    size = 100_000_000
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "in"), Path(directory, "out")
        source.write_bytes(os.urandom(size))
        async with AsyncSession(engine="docker", image="python") as session:
            for _ in range(rounds):
                seconds: list[float] = []
                await timed(lambda: session.files.upload(source, "large"), seconds)
                await timed(lambda: session.files.download("large", target), seconds)
                upload.ours.append(size / 1e6 / seconds[0])
                download.ours.append(size / 1e6 / seconds[1])
    return [upload, download]


async def measure_loop(rounds: int) -> Row:
    """What an agent's turn costs apart from the model and the cell: listings, reading, the conversation."""
    overhead = Row("agent loop, a turn")
    arguments = {"name": "execute_python_code", "arguments": json.dumps({"python_code": "pass"})}
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": arguments}]}
    async with AsyncSession(engine="docker", image="python") as session:
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
            overhead.ours.append((agent.last_task.seconds - agent.last_task.model_seconds - sum(cells)) / TURNS)
    return overhead


async def main(rounds: int, cells: int) -> int:
    rows = await measure(rounds, cells)
    rows += [await measure_memory(min(rounds, 3)), *await measure_files(rounds), await measure_loop(rounds)]
    print(f"\n{'median of ' + str(rounds) + ' rounds':<26}{'bare local':>12}{'sandbox':>12} {'':<5}{'ratio':>8}")
    for row in rows:
        print(row.line())
    return sum("MISSED" in row.line() for row in rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds instead of seven")
    quick = parser.parse_args().quick
    raise SystemExit(asyncio.run(main(*((2, 50) if quick else (7, 200)))))
