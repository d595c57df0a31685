"""Attacks of a session on the template that it was forked from, and by it on the sessions beside."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import Session
from tests.redteam.cells import arm, ask, attack, is_well, opened_sessions, strike
from tests.sandbox.engines.forked import children, is_forked, of_group, opened, templates, until

pytestmark = pytest.mark.usefixtures("from_templates")

SEARCH = """
found = []
with open("/proc/self/maps") as file:
    spans = [line.split()[0].split("-") for line in file if line.split()[1].startswith("r")]
memory = os.open("/proc/self/mem", os.O_RDONLY)
for low, high in ((int(low, 16), int(high, 16)) for low, high in spans):
    for at in range(low, high, 1 << 24):
        with contextlib.suppress(OSError, OverflowError):
            data = os.pread(memory, min(1 << 24, high - at), at)
            place = -1
            while (place := data.find(HALF, place + 1)) >= 0:
                if data[place + len(HALF) : place + 2 * len(HALF)] == OTHER: found.append(hex(at + place))
answer(len(found))
"""
LAYOUT = """
with open("/proc/self/maps") as file:
    answer(next(line.split("-")[0] for line in file if line.rstrip().endswith("libc.so.6")))
"""
STAY = """
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            libc.prctl(1, 0, 0, 0, 0)
            while True: time.sleep(600)
        os._exit(0)
"""
SIGNAL_ALL = """
seen = [number for number in range(1, 70_000) if error(os.kill, number, 0) == 0]
told = set(map(int, filter(str.isdigit, os.listdir("/proc"))))
threads = {int(thread) for pid in told for thread in os.listdir(f"/proc/{pid}/task")}
answer([sorted(set(seen) - threads), os.getppid() in told, error(os.kill, 1, signal.SIGKILL)])
"""


@contextlib.contextmanager
def attacker(**spec: Any) -> Iterator[Session]:
    with opened(**spec) as session:
        opened_sessions.add(session.id)
        arm(session)
        yield session


def search_memory(session: Session, secret: str) -> int:
    """Return how often a kernel finds a secret in all that it can read of its own memory."""
    half, other = secret[:16].encode(), secret[16:].encode()
    return int(ask(session, SEARCH, HALF=half, OTHER=other))


@attack("Lateral")
def test_session_finds_in_its_templates_memory_nothing_of_an_earlier_one() -> None:
    make = "kept = os.urandom(16).hex(); open('kept.txt', 'w').write(kept); answer(kept)"
    with attacker(env={"A": "1"}) as earlier, attacker(env={"A": "1"}) as later:
        assert is_forked(later)
        secret, own = ask(earlier, make), ask(later, make)
        assert search_memory(later, secret) == 0
        assert search_memory(later, own) > 0, "it does not find its own either"
        with attacker(env={"A": "1"}) as last:
            assert search_memory(last, secret) == 0


@attack("HostDoS")
def test_session_does_not_outlive_its_template() -> None:
    with attacker() as session:
        assert is_forked(session)
        strike(session, STAY).raise_for_error()
        [template] = templates()
        below = of_group(template)[1:]
        assert len(below) >= 5
        os.kill(template, signal.SIGKILL)
        assert until(lambda: not any(Path(f"/proc/{process}").exists() for process in below), 2)


@attack("PeerDoS")
def test_session_does_not_reach_its_monitor() -> None:
    with attacker() as session, attacker() as sibling:
        assert is_forked(session)
        [template] = templates()
        monitors = children(template)
        strays, parent_is_seen, refused = ask(session, SIGNAL_ALL)
        assert (strays, parent_is_seen) == ([], True)  # its own PID 1
        assert refused or children(template) == monitors
        strike(session, "os.kill(-1, signal.SIGKILL)")
        assert until(lambda: children(template) == monitors)
        assert is_well(sibling)
        session.restart()
        assert is_well(session)


@attack("Lateral")
def test_layout_that_a_session_learns_is_no_strict_ones_and_no_other_templates() -> None:
    """Those of one template have it in common, and it is said; a leak in one is worth nothing for these."""
    with attacker() as one, attacker() as other, attacker(strict=True) as strict, attacker(env={"B": "2"}) as apart:
        assert [is_forked(session) for session in (one, other, strict, apart)] == [True, True, False, True]
        common, same, exact, another = (ask(session, LAYOUT) for session in (one, other, strict, apart))
    assert common == same
    assert len({common, exact, another}) == 3
