"""The memory of sessions that wait, each with pandas imported.

A session's own memory is what one more of them takes: the proportional sets (PSS) of the processes of all, less those
of one alone, by how many there are more. What all of them share (a template's pages, libraries) stays out of that, and
is a row of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.rows import Row
from tests.benchmarks.sides import LOCAL, Local, Sandboxed, Side, competitor, tell, turns
from tests.benchmarks.starts import SETTLING
from tests.faults.census import containers, processes

COUNT = 5
"""Sessions at the same time."""
MANY = 100


def proportional(pid: int) -> int:
    """Return a process's share of memory (PSS), bytes; 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def available() -> int:
    """Return the bytes of memory that the machine could still give."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def descendants(root: int) -> set[int]:
    """Return the processes below one, as /proc has them now."""
    below = defaultdict(set)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                below[parent].add(int(entry.name))
    found: set[int] = set()
    fresh = {root}
    while fresh := set().union(*(below[pid] for pid in fresh)) - found:
        found |= fresh
    return found


def sandbox_processes(engine: str, ids: Iterable[str]) -> set[int]:
    """Return the processes of these sessions' sandboxes, and of what the engine runs for them in this process's name.

    Docker's are those of the containers, and containerd's shim of each. Bubblewrap's are all below this process, among
    them what its sessions share.
    """
    if engine == "docker":
        return set(processes([container for one in ids for container in containers(one)]))
    return descendants(os.getpid())


def inside(pids: Iterable[int]) -> set[int]:
    """Leave the engine's own processes out, which do not see a sandbox."""
    return {pid for pid in pids if not _is_shim(pid)}


def _is_shim(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("containerd-shim")
    return False


def _processes(side: str, kernels: Iterable[Side]) -> set[int]:
    if side == LOCAL:
        found = [kernel.manager.provisioner for kernel in kernels if isinstance(kernel, Local)]
        return {provisioner.pid for provisioner in found if provisioner is not None}  # type: ignore[attr-defined]
    return sandbox_processes(side, [kernel.session.id for kernel in kernels if isinstance(kernel, Sandboxed)])


async def memory(rounds: int, own: Row, shared: Row, many: Row) -> None:
    """Hold one session and then more of them; what `many` hold is extrapolated, containerd's shims included."""
    for number in range(rounds):
        tell("memory", number, rounds)
        for side in turns(number):
            async with contextlib.AsyncExitStack() as stack:
                kernels: list[Side] = []
                sizes = []
                for count in (1, COUNT):
                    while len(kernels) < count:
                        kernels.append(await stack.enter_async_context(contextlib.aclosing(competitor(side))))
                        await kernels[-1].open()
                        await kernels[-1].execute("import pandas")
                    await asyncio.sleep(SETTLING)
                    pids = _processes(side, kernels)
                    sizes.append([sum(map(proportional, some)) for some in (inside(pids), pids)])
            (first, everything_first), (last, everything) = sizes
            each, each_with_shim = (last - first) / (COUNT - 1), (everything - everything_first) / (COUNT - 1)
            own.add(side, each)
            shared.add(side, first - each)
            many.add(side, everything_first + (MANY - 1) * each_with_shim)
