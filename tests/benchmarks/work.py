"""What an open session costs: its cells, its files, an agent's turn."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import FrameType

from kernel_sandbox import AsyncSession
from kernel_sandbox.agents import PythonExecAgent, ScriptedModel
from kernel_sandbox.agents.events import AgentEvent, CellFinished
from kernel_sandbox.sandbox.engines import NAMES
from tests.benchmarks.rows import Row
from tests.benchmarks.sides import LOCAL, Side, competitors, tell, timed

OURS = f"{os.sep}kernel_sandbox{os.sep}"
LINES = "for i in range(200_000): print(i)"
DISPLAY = "from IPython.display import display; display({'image/png': 'A' * 27_000_000, 'text/plain': ''}, raw=True)"
CELLS = 200
"""Warm cells a round."""
TURNS = 20
SIZE = 100_000_000
"""Bytes of a file."""


async def cells(rounds: int, cell: Row, host: Row, calls: Row, lines: Row, display: Row) -> None:
    """Run small and large cells in sessions that stand beside each other."""
    for number in range(rounds):
        tell("cells", number, rounds)
        async with contextlib.AsyncExitStack() as stack:
            kernels = competitors()
            for kernel in kernels.values():
                await stack.enter_async_context(contextlib.aclosing(kernel))
                await kernel.open()
                await kernel.execute("import pandas")
            for _ in range(CELLS):
                for side, kernel in kernels.items():
                    cell.add(side, await timed(partial(kernel.execute, "pass")))
            for side, kernel in kernels.items():
                host.add(side, await _own_time(kernel))
                if side != LOCAL:
                    calls.add(side, await _own_calls(kernel))
            for source, row in ((LINES, lines), (DISPLAY, display)):
                for side, kernel in kernels.items():
                    row.add(side, await timed(partial(kernel.execute, source)))


async def _own_time(kernel: Side) -> float:
    """Return the seconds of a processor that a warm cell costs this process."""
    used = time.process_time()
    for _ in range(CELLS):
        await kernel.execute("pass")
    return (time.process_time() - used) / CELLS


async def _own_calls(kernel: Side) -> float:
    """Return how many calls of this package's functions a warm cell costs."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call" and OURS in frame.f_code.co_filename

    sys.setprofile(count)
    for _ in range(10):
        await kernel.execute("pass")
    sys.setprofile(None)
    return calls / 10


async def files(rounds: int, upload: Row, download: Row) -> None:
    """Carry a large file in and out; megabytes a second."""
    with tempfile.TemporaryDirectory() as directory:
        source, target = Path(directory, "in"), Path(directory, "out")
        source.write_bytes(os.urandom(SIZE))
        for number in range(rounds):
            tell("files", number, rounds)
            for engine in NAMES:
                async with AsyncSession(engine=engine, image="python") as session:
                    sent = await timed(partial(session.files.upload, source, "large"))
                    upload.add(engine, SIZE / 1e6 / sent)
                    download.add(engine, SIZE / 1e6 / await timed(partial(session.files.download, "large", target)))


async def agent_turns(rounds: int, overhead: Row) -> None:
    """What an agent's turn costs apart from the model and the cell: listings, reading, the conversation."""
    arguments = {"name": "execute_python_code", "arguments": json.dumps({"python_code": "pass"})}
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": arguments}]}
    for engine in NAMES:
        async with AsyncSession(engine=engine, image="python") as session:
            for number in range(rounds):
                tell(f"agent's turns, {engine}", number, rounds)
                spent: list[float] = []

                def note(event: AgentEvent, spent: list[float] = spent) -> None:
                    if isinstance(event, CellFinished):
                        spent.append(event.execution.duration)

                model = ScriptedModel([*[call] * TURNS, "done"])
                agent = PythonExecAgent(language_model_interface=model, session=session, max_turns=99, on_event=note)
                await agent.atask("go")
                assert agent.last_task is not None
                assert len(spent) == TURNS
                overhead.add(engine, (agent.last_task.seconds - agent.last_task.model_seconds - sum(spent)) / TURNS)
