"""The limits of one session, judged from outside and inside: `python -m tests.guest.inside.limits ENGINE`."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from kernel_sandbox import Limits, Session
from tests.guest.inside.judging import comes, expect, figure
from tests.redteam.kernel_side import first_process, group

MEMORY, PIDS, CPUS = 256 * 1024**2, 64, 0.5
WANTED = {
    "memory.max": {str(MEMORY)},
    "memory.swap.max": {"0", str(resource.getpagesize())},
    "pids.max": {str(PIDS)},
    "cpu.max": {f"{CPUS * 100_000:.0f} 100000"},
}
"""What the group's files may say (cgroup-v2.rst of the kernel); Docker can keep no less swap than a page."""
BURN = """
import multiprocessing, time
def burn(_):
    end = time.monotonic() + 6
    while time.monotonic() < end: pass
with multiprocessing.Pool(2) as pool: pool.map(burn, [1, 2])
"""
FORKS = """
import os, time
children = []
try:
    while len(children) < 400:
        child = os.fork()
        if child == 0: time.sleep(60); os._exit(0)
        children.append(child)
except OSError: pass
print(len(children))
for child in children: os.kill(child, 9); os.waitpid(child, 0)
"""
BOMB = "held = []\nwhile True: held.append(bytearray(1 << 22))"
WITHOUT_ROOT = {
    "sandboxes run as their owner's user id, so that they share its per-user limits",
    "one sandbox can take all pseudo-terminals of the machine",
    "this user makes no devices: a cell sees when the host opens its /dev/null, and its locks hold there",
}
"""What only root can hold: in bubblewrap, and in Docker."""
MENDED = 20.0
"""Seconds in which a limit that somebody loosened is put back."""


class Heard(logging.Handler):
    """The warnings of the package."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def main() -> None:
    (engine,) = sys.argv[1:]
    heard = Heard()
    logging.getLogger("kernel_sandbox").addHandler(heard)
    started = time.monotonic()
    limits = Limits(memory=MEMORY, pids=PIDS, cpus=CPUS)
    with Session(engine=engine, image="python", limits=limits) as session:
        figure(f"opened in {time.monotonic() - started:.0f} s")
        weakened = set(session.weakened) - (set() if os.getuid() == 0 else WITHOUT_ROOT)
        expect(not weakened, f"weakened: {'; '.join(weakened)}")
        try:
            place = group(first_process(session), "memory")
        except AssertionError as exc:
            expect(False, str(exc))
            return
        figure(f"group {place}")
        judge_values(place, "at the start")
        judge_processor(session, place)
        judge_forks(session, place)
        reload_managers()
        judge_values(place, "after daemon-reload")
        if engine == "bubblewrap":  # the groups of Docker are the engine's to guard
            judge_loosened(place, heard)
        judge_memory(session, place)
    judge_end(place)


def judge_values(place: Path, when: str) -> None:
    for name, wanted in WANTED.items():
        file = place / name
        found = file.read_text().strip() if file.exists() else "not there"
        expect(found in wanted, f"{when} {name} is {found}, not {' or '.join(wanted)}")


def judge_processor(session: Session, place: Path) -> None:
    """Let two processes burn, and see how much processor time the group got."""
    before, started = _used(place), time.monotonic()
    session.execute(BURN, timeout=120).raise_for_error()
    share = (_used(place) - before) / (time.monotonic() - started)
    figure(f"{share:.2f} of {CPUS} processors used")
    expect(0.3 < share < CPUS * 1.15, f"a session of {CPUS} processors used {share:.2f}")


def _used(place: Path) -> float:
    return int((place / "cpu.stat").read_text().split()[1]) / 1e6


def judge_forks(session: Session, place: Path) -> None:
    made = int(session.execute(FORKS, timeout=120).raise_for_error().text.splitlines()[-1])
    refused = int(dict(line.split() for line in (place / "pids.events").read_text().splitlines())["max"])
    figure(f"forks stopped at {made}, the kernel refused {refused}")
    expect(10 < made < PIDS and refused > 0, f"{made} processes were made where {PIDS} are allowed, {refused} refused")


def reload_managers() -> None:
    """Have systemd read its units again, and start and stop a scope, which makes it write its groups anew."""
    manager = [] if os.getuid() == 0 else ["--user"]
    subprocess.run(["systemctl", *manager, "daemon-reload"], check=True)
    subprocess.run(["systemd-run", *manager, "--scope", "--quiet", "true"], check=True)


def judge_loosened(place: Path, heard: Heard) -> None:
    """Loosen a limit from outside, as anybody may who owns the group."""
    limit = place / "cpu.max"
    heard.said.clear()
    limit.write_text("max")
    mended = comes(lambda: limit.read_text().strip() in WANTED["cpu.max"], MENDED)
    expect(mended, f"cpu.max was loosened and is {limit.read_text().strip()} {MENDED:.0f} s later")
    expect(bool(heard.said), "nothing was said of a limit that was loosened")
    figure(f"said of it: {' | '.join(heard.said)}")


def judge_memory(session: Session, place: Path) -> None:
    bomb = session.execute(BOMB, timeout=120)
    told = str(bomb.cause)
    figure(f"a memory bomb: {bomb.status}: {told}")
    expect(bomb.status == "dead" and "memory" in told, f"a memory bomb ended as {bomb.status}: {told}")
    session.restart()
    expect(session.execute("6 * 7").text.strip() == "42", "after a memory bomb and a restart it does not compute")
    judge_values(place, "after a restart")


def judge_end(place: Path) -> None:
    expect(comes(lambda: not place.exists(), 5), f"the group is left: {place}")
    left = [path for path in Path("/sys/fs/cgroup").rglob("*kernel-sandbox*") if path.is_dir()]
    expect(not left, f"groups are left: {left}")
    for manager in ([], ["--user"]) if os.getuid() else ([],):
        command = ["systemctl", *manager, "list-units", "--all", "--plain", "--no-legend", "kernel-sandbox*"]
        units = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        expect(not units, f"units are left: {units}")


if __name__ == "__main__":
    main()
