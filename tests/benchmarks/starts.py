"""What a user waits for: opening, the first import, the whole `kernel-sandbox run`, a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from kernel_sandbox.sandbox.engines import NAMES
from tests.benchmarks.rows import Row
from tests.benchmarks.sides import IMAGE, LOCAL, SIDES, Sandboxed, competitor, tell, timed, turns

IMPORTS = "import numpy, pandas, matplotlib.pyplot"
QUIET = 5.0
"""Seconds that the first session of a process is open and idle before a second one is opened."""
SETTLING = 4.0
"""Seconds in which a session has done in the background what it does after its first cell."""
BETWEEN = 1.0
"""Seconds after a session's end."""
CELLS = (
    "import pandas as pd\nsales = pd.DataFrame({'city': ['Oslo', 'Rome'] * 500, 'sold': range(1000)})",
    "totals = sales.groupby('city')['sold'].agg(['sum', 'mean', 'max'])",
    "print(totals.to_string())",
)
PROGRAMS = Path(sys.executable).parent


async def openings(rounds: int, opened: Row, imported: Row) -> None:
    """Open a second session, a first one being idle; then import in its first cell. `imported` counts both."""
    async with contextlib.AsyncExitStack() as stack:
        for engine in NAMES:
            first = Sandboxed(engine)
            await stack.enter_async_context(contextlib.aclosing(first))
            await first.open()
        await asyncio.sleep(QUIET)
        for number in range(rounds):
            tell("open", number, rounds)
            for side in turns(number):
                async with contextlib.aclosing(competitor(side)) as kernel:
                    opening = await timed(kernel.open)
                    importing = await timed(partial(kernel.execute, IMPORTS))
                opened.add(side, opening)
                imported.add(side, opening + importing)
                await asyncio.sleep(BETWEEN)


async def restarts(rounds: int, restart: Row, pandas: Row) -> None:
    """Restart a kernel that has imported pandas, and import it again."""
    for number in range(rounds):
        tell("restart", number, rounds)
        for side in turns(number):
            async with contextlib.aclosing(competitor(side)) as kernel:
                await kernel.open()
                await kernel.execute("import pandas")
                await asyncio.sleep(SETTLING)
                restart.add(side, await timed(kernel.restart))
                pandas.add(side, await timed(partial(kernel.execute, "import pandas")))


async def second_thoughts(rounds: int, row: Row) -> None:
    """Import when somebody has thought for half a second about the first cell."""
    for number in range(rounds):
        tell("import, 0.5 s later", number, rounds)
        for side in turns(number):
            async with contextlib.aclosing(competitor(side)) as kernel:
                await kernel.open()
                await asyncio.sleep(0.5)
                row.add(side, await timed(partial(kernel.execute, "import pandas")))


async def commands(rounds: int, row: Row) -> None:
    """Run three cells with pandas as a script in a sandbox, and as a notebook by `jupyter execute`: whole processes."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        (directory / "cells.py").write_text("\n# %%\n".join(CELLS))
        (directory / "cells.ipynb").write_text(json.dumps(_notebook()))
        for side in SIDES:  # their programs are read from the disk once
            await _run(side, directory)
        for number in range(rounds):
            tell("kernel-sandbox run", number, rounds)
            for side in turns(number):
                row.add(side, await timed(partial(_run, side, directory)))


def _notebook() -> dict[str, object]:
    cells: list[dict[str, object]] = [
        {"id": f"cell-{n}", "cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
        for n, cell in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


async def _run(side: str, directory: Path) -> None:
    ours = ["kernel-sandbox", "run", "cells.py", "--engine", side, "--image", IMAGE]
    program, *rest = ["jupyter", "execute", "cells.ipynb"] if side == LOCAL else ours
    process = await asyncio.create_subprocess_exec(
        PROGRAMS / program,
        *rest,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{side}: exit status {process.returncode}: {said.decode(errors='replace')[-2000:]}")
