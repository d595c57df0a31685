"""The cell that a kernel runs for itself where nobody waits for its start: what it saves, and that it is unnoticed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import PoolSettings, SandboxSpec, Session, SessionPool
from tests.benchmarks.ready import filled
from tests.faults.census import all_inside

STATE = """import builtins, json, linecache
def told():
    shell = get_ipython()
    history, hook, manager = shell.history_manager, shell.displayhook, shell.kernel.session
    return dict(
        names=sorted(shell.user_ns), hidden=sorted(shell.user_ns_hidden), shown=[_, __, ___, _i, _ii, _iii],
        out=Out, cells=len(In), count=shell.execution_count, session=history.session_number,
        outputs=[dict(history.outputs), dict(history.output_hist_reprs)],
        hook=[hook._, hook.__, hook.___, sorted(vars(hook)), sorted(hook._trait_values)],
        socket=type(hook.pub_socket).__name__, hooks={name: len(some) for name, some in shell.events.callbacks.items()},
        texts=[name for name in linecache.cache if 'ipykernel' in name], files=[*shell.compile._filename_map.values()],
        payload=shell.payload_manager.read_payload(), builtin=hasattr(builtins, '_'),
    )
print(json.dumps(told()))"""
RESULT = "[get_ipython().last_execution_result is None, get_ipython().kernel.session.message_count]"


def told(text: str) -> dict[str, Any]:
    state = dict(json.loads(text))
    state["texts"] = len(state["texts"])  # they have the kernel's process id in their names
    return state


def opened(engine: str, preload: tuple[str, ...] | None) -> Session:
    return Session(engine=engine, spec=SandboxSpec(image="python", preload=preload))


def test_rehearsed_kernel_is_like_one_that_has_run_nothing(engine: str) -> None:
    with opened(engine, None) as plain, opened(engine, ()) as rehearsed:
        assert plain.execute(RESULT).text == rehearsed.execute(RESULT).text
        assert told(plain.execute(STATE).text) == told(rehearsed.execute(STATE).text)


def test_session_of_a_pool_is_like_one_that_has_run_nothing(engine: str) -> None:
    async def pooled() -> str:
        settings = PoolSettings(ready=1, sessions=1)
        async with SessionPool(settings, spec=SandboxSpec(image="python"), engine=engine) as pool:
            await filled(pool, 1)
            async with pool.acquire("somebody") as session:
                return (await session.execute(STATE)).text

    with opened(engine, None) as plain:
        assert told(asyncio.run(pooled())) == told(plain.execute(STATE).text)


def faults(engine: str, session: Session) -> int:
    """Return how many pages the processes of a sandbox have been given so far."""
    stats = [Path(f"/proc/{pid}/stat").read_text() for pid in all_inside(engine, session.id)]
    return sum(int(stat.rpartition(")")[2].split()[7]) for stat in stats)


@pytest.mark.parametrize("cell", ["1 + 1", "'text'"])
def test_rehearsed_kernel_copies_few_pages_in_its_first_cell(engine: str, cell: str) -> None:
    copied = []
    for preload in (None, ()):
        with opened(engine, preload) as session:
            before = faults(engine, session)
            session.execute(cell).raise_for_error()
            copied.append(faults(engine, session) - before)
    assert copied[1] < copied[0] / 2, copied
