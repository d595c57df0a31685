"""Honest and hostile cells by turns, in sessions that come and go, for as long as you like; what grows meanwhile?

    python -m tests.faults.soak [--minutes 60] [--engine docker|bubblewrap|both] [--image python] [--json FILE]

Prints a table: of each measure its first and last value, its slope per hour after a warm-up, what it is at rest before
and after, and whether that is a leak.
Ctrl-C ends it early, and still prints. Exit status 1: something grew or was left, or a cell did not end as it should.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kernel_sandbox import AsyncSession, Limits
from kernel_sandbox.host.reactor import portal
from tests.faults.holdings import holdings, private_place
from tests.faults.slopes import Line, judged, line, table

LIMITS = Limits(memory="1g", interrupt_grace=0.5, output_bytes="1m", session_output_bytes="4m")
CELLS_A_SESSION = (4, 16)
AT_ONCE = 3
"""Sessions of each engine; one of them goes, and another comes, all the time."""
SAMPLE_EVERY = 2.0
"""Seconds."""
PAUSE = 0.2
"""Seconds between the cells of a session that stays."""
TOLERANCES = {
    "memory MB": (24, 24),
    "descriptors": (0, 20),
    "threads": (0, 4),
    "children": (0, 4),
    "tasks": (0, 40),
    "containers": (0, 3),
    "control groups": (0, 9),
    "mounts left": (0, 3),
    "run directories": (0, 4),
    "session MB": (0, 24),
}
"""For each measure: what may stay at rest, and by how much the line may rise while sessions come and go.

Three open sessions hold up to 4 MB of outputs each, twice (as outputs, and as the notebook's bytes): 24 MB.
"session MB" is what the sessions that stay for the whole run use, one of each engine; IPython keeps what each of their
cells was."""

Act = Callable[[AsyncSession, random.Random], Awaitable[str]]


def cell(source: str, *expected: str, timeout: float = 60) -> Act:
    """A cell that must end with one of these statuses."""

    async def act(session: AsyncSession, chance: random.Random) -> str:
        execution = await session.execute(source, timeout=timeout)
        if execution.status in ("dead", "timeout"):
            await session.restart()
        return "" if execution.status in expected else f"{execution.status} instead of {expected}: {execution.cause}"

    return act


async def interrupt(session: AsyncSession, chance: random.Random) -> str:
    stream = session.stream("import time\nprint('on', flush=True)\ntime.sleep(600)")
    await anext(stream)
    await session.interrupt()
    async for _ in stream:
        pass
    ended = stream.execution
    return "" if ended is not None and ended.error is not None else f"not interrupted: {ended}"


async def cancel(session: AsyncSession, chance: random.Random) -> str:
    task = asyncio.ensure_future(session.execute("import time; time.sleep(600)"))
    await asyncio.wait([task], timeout=chance.uniform(0, 0.2))
    task.cancel()
    await asyncio.wait([task])
    return "" if (await session.execute("6 * 7")).text == "42" else "a cancelled cell is in the way"


async def move_files(session: AsyncSession, chance: random.Random) -> str:
    data = chance.randbytes(chance.randrange(2_000_000))
    await session.files.write("soak.bin", data)
    there = await session.files.read("soak.bin")
    await session.files.list()
    await session.files.delete("soak.bin")
    return "" if there == data else "a file came back as another"


async def restart(session: AsyncSession, chance: random.Random) -> str:
    await session.restart()
    return "" if (await session.execute("6 * 7")).text == "42" else "no answer after a restart"


HONEST: dict[str, Act] = {
    "variables": cell("kept = list(range(1000)); sum(kept)", "ok"),
    "output": cell("for number in range(200): print(number, 'x' * 100)", "ok"),
    "large output": cell("print('x' * 900_000)", "ok"),
    "pictures": cell("from IPython.display import *\ndisplay(Image(b'\\x89PNG' + bytes(100_000), format='png'))", "ok"),
    "updates": cell("h = display(0, display_id=True)\nfor n in range(200): h.update(n)", "ok"),
    "error": cell("1 / 0", "error"),
    "subprocess": cell("import subprocess; subprocess.run(['true'], check=True)", "ok"),
    "threads": cell("import threading; [threading.Thread(target=print, args=('t',)).start() for _ in range(5)];", "ok"),
    "files": move_files,
    "interrupt": interrupt,
    "cancel": cancel,
    "restart": restart,
}
SCIENCE: dict[str, Act] = {
    "frames": cell("import pandas as pd; pd.DataFrame({'a': range(1000), 'b': 'x'}).groupby('b').sum()", "ok"),
    "figure": cell("import matplotlib.pyplot as plt; plt.plot(range(100)); plt.show()", "ok"),
}
STAYING = {"variables", "updates", "error", "subprocess", "threads", "files", "interrupt", "cancel", "frames"}
"""What a session that stays does: it shows little, for a session's outputs are kept, up to a limit; and it does not
restart, which would give its memory back."""
DEAF = "import signal, time\nsignal.signal(2, signal.SIG_IGN)\nwhile True: time.sleep(1)"
FORKS = "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        time.sleep(300); os._exit(0)"
HOSTILE: dict[str, Act] = {
    "flood": cell("for _ in range(100): print('y' * 100_000)", "ok"),
    "many displays": cell("from IPython.display import *\nfor n in range(5000): display(n)", "ok"),
    "endless": cell("while True: pass", "timeout", timeout=0.5),
    "deaf": cell(DEAF, "timeout", timeout=0.5),
    "kernel death": cell("import os; os._exit(3)", "dead"),
    "memory": cell("x = bytearray(4 << 30)", "error", "dead"),
    "forks": cell(FORKS, "ok"),
    "full disk": cell("open('/tmp/full', 'wb').write(bytes(200 << 20))", "error"),
    "broken frames": cell(
        "import socket\n"
        "for _ in range(50): get_ipython().kernel.iopub_socket.send_multipart([b'junk' * 40, b'<IDS|MSG>', b'no'])",
        "ok",
        "dead",
    ),
}


@dataclass
class Soak:
    """One run: its sessions, what they did, and what was measured."""

    engines: tuple[str, ...]
    image: str
    seconds: float
    place: Path
    """Where its run directories go."""
    tell: Callable[[Soak], None] | None = None
    """Called after each sample."""
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    samples: list[dict[str, float]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    staying: list[AsyncSession] = field(default_factory=list)
    """Those that are open for the whole run, and what they use is measured."""
    stopped: bool = False

    def run(self) -> tuple[dict[str, float], dict[str, float]]:
        """Warm up, run, and give what this process held at rest before and after. Ctrl-C ends it early."""
        everything = [*self.acts(0).values(), *self.acts(1).values()]
        warming = [portal().start_task_soon(self.one_session, engine, everything) for engine in self.engines]
        for one in warming:
            one.result()
        before, started = self.measure(0), time.monotonic()
        self.done.clear()
        lanes = [portal().start_task_soon(self.lane, engine) for engine in self.engines for _ in range(AT_ONCE)]
        lanes += [portal().start_task_soon(self.stay, engine) for engine in self.engines]
        while any(not lane.done() for lane in lanes):
            try:
                self.watch(time.monotonic() - started)
                concurrent.futures.wait(lanes, timeout=SAMPLE_EVERY)
            except KeyboardInterrupt:
                self.stopped = True
        for lane in lanes:
            lane.result()
        return before, self.measure(time.monotonic() - started)

    def watch(self, seconds: float) -> None:
        """Take a sample, once the sessions that stay are open, and until they end."""
        self.stopped = self.stopped or seconds > self.seconds
        if not self.stopped and len(self.staying) == len(self.engines):
            self.samples.append(self.measure(seconds))
            if self.tell is not None:
                self.tell(self)

    def acts(self, number: int) -> dict[str, Act]:
        """What the cell of this number may be: honest and hostile by turns."""
        honest = HONEST | (SCIENCE if self.image == "datascience" else {})
        return honest if number % 2 == 0 else HOSTILE

    async def stay(self, engine: str) -> None:
        """Run honest cells in one session for the whole run, those of STAYING."""
        acts = [act for name, act in self.acts(0).items() if name in STAYING]
        async with AsyncSession(engine=engine, image=self.image, limits=LIMITS) as session:
            self.sessions.append(session.id)
            for act in acts:
                await act(session, self.chance)
            self.staying.append(session)
            try:
                while not self.stopped:
                    if found := await self.chance.choice(acts)(session, self.chance):
                        self.wrong.append(f"{engine}, the session that stays: {found}")
                    self.done[f"{engine}: cells of the session that stays"] += 1
                    await asyncio.sleep(PAUSE)
            finally:
                self.staying.remove(session)

    async def lane(self, engine: str) -> None:
        """One session after the other."""
        while not self.stopped:
            count = self.chance.randrange(*CELLS_A_SESSION)
            await self.one_session(engine, [self.draw(number) for number in range(count)])
            self.done[f"{engine}: sessions"] += 1

    def draw(self, number: int) -> Act:
        acts = self.acts(number)
        return acts[self.chance.choice(list(acts))]

    async def one_session(self, engine: str, acts: list[Act]) -> None:
        async with AsyncSession(engine=engine, image=self.image, limits=LIMITS) as session:
            self.sessions.append(session.id)
            for act in acts:
                if self.stopped:
                    return
                if found := await act(session, self.chance):
                    self.wrong.append(f"{engine}: {found}")
                self.done[f"{engine}: cells"] += 1

    def measure(self, seconds: float) -> dict[str, float]:
        """Look at this process, at what its sessions, open and closed, have, and at those that stay."""
        found = {"seconds": seconds, **holdings(set(self.sessions), self.place, docker="docker" in self.engines)}
        found["session MB"] = sum(portal().call(self.used, session) for session in self.staying) / 1024**2
        return found

    async def used(self, session: AsyncSession) -> float:
        return (await session.usage()).memory or 0


def judge(soak: Soak, before: dict[str, float], after: dict[str, float]) -> list[Line]:
    lines = [line(name, soak.samples, before[name], after[name]) for name in TOLERANCES]
    return [judged(one, *TOLERANCES[one.name]) for one in lines]


def report(soak: Soak, lines: list[Line]) -> str:
    done = ", ".join(f"{name} {count}" for name, count in sorted(soak.done.items()))
    told = [f"{soak.samples[-1]['seconds']:.0f} s, image {soak.image}; {done}", table(lines)]
    wrong = Counter(soak.wrong)
    return "\n".join([*told, *(f"WRONG, {count} times: {what}" for what, count in wrong.items())])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run honest and hostile cells for long, and look at what grows.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--engine", choices=["docker", "bubblewrap", "both"], default="both")
    parser.add_argument("--image", choices=["python", "datascience"], default="python")
    parser.add_argument("--json", type=Path, help="a file for the samples and the verdicts")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    engines = ("docker", "bubblewrap") if given.engine == "both" else (given.engine,)
    with private_place() as place:
        soak = Soak(engines, given.image, given.minutes * 60, place)
        lines = judge(soak, *soak.run())
    print(report(soak, lines))
    if given.json:
        told = {"done": soak.done, "wrong": soak.wrong, "lines": list(map(asdict, lines)), "samples": soak.samples}
        given.json.write_text(json.dumps(told))
    return 1 if soak.wrong or any(one.verdict != "ok" for one in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
