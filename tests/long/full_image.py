"""The image `full` is built in each engine, and each of its packages does a small piece of its real work."""

from __future__ import annotations

import re
import time

from kernel_sandbox import Session
from kernel_sandbox.sandbox.engines.image_names import folder
from kernel_sandbox.setup.engine_images import build
from kernel_sandbox.setup.progress import Progress
from kernel_sandbox.spec.values import Limits
from kernel_sandbox.text.amounts import format_size
from tests.long._asked import Asked
from tests.long._full_cells import CELLS

NAME = "full"
LIMITS = Limits(memory="4g")


def run(asked: Asked) -> list[str]:
    """Build it, run the cells, and hold that there is one for each package that was asked for."""
    without = sorted(wanted() ^ set(CELLS))
    wrong = [f"{name} has no cell, or is not in requirements.in" for name in without]
    return wrong + [f"{engine}: {one}" for engine in asked.engines for one in proven(engine)]


def wanted() -> set[str]:
    """Name the packages that the image adds."""
    lines = (folder(NAME) / "requirements.in").read_text().splitlines()
    return {re.split("[<>=]", line)[0] for line in lines if line[:1].isalnum()}


def proven(engine: str) -> list[str]:
    """Build the image in an engine and run every cell in one session; return what failed."""
    built = build(engine, NAME, ignore)
    print(f"{engine}: {format_size(built.size)}, {'there' if built.up_to_date else f'made in {built.seconds:.0f} s'}")
    wrong = []
    with Session(engine=engine, image=NAME, limits=LIMITS) as session:
        for name, cell in CELLS.items():
            started = time.monotonic()
            done = session.execute(cell, timeout=240)
            print(f"  {engine} {name}: {done.status} in {time.monotonic() - started:.1f} s", flush=True)
            if done.status != "ok":
                error = done.error
                wrong.append(f"{name}: {done.status} {f'{error.ename}: {error.evalue[:300]}' if error else ''}")
    return wrong


def ignore(moment: Progress) -> None:
    """Take a build's progress and show nobody."""
