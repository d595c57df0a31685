"""Idempotency keys are bounded in number, size and age, without a server."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from starlette.responses import Response

from kernel_sandbox.service import idempotency
from kernel_sandbox.service.idempotency import AnswerNotKept, IdempotentRuns
from kernel_sandbox.service.ownership import Address
from kernel_sandbox.service.runs import Runs, Watched

pytestmark = pytest.mark.anyio


class Door:
    """Answers each request that is not a retry with its number, as long as `size` says."""

    def __init__(self, size: int = 10) -> None:
        self.idempotent, self._runs, self._size, self._ran = IdempotentRuns(), Runs(), size, 0
        self.runs: list[weakref.ref[Any]] = []

    async def post(self, key: str, owner: str = "ada", session: str = "s") -> int:
        async def work(watched: Watched) -> Response:
            watched.is_started = True
            self._ran += 1
            return Response(f"{self._ran:0{self._size}}")

        address = Address(owner, session)
        found: Any = self.idempotent.run(address, key, b"", lambda: self._runs.begin(work))[0]
        if not isinstance(found, Response):
            self.runs.append(weakref.ref(found))
        response: Response = found if isinstance(found, Response) else await found.task
        await asyncio.sleep(0)
        return int(bytes(response.body))


async def test_each_owner_has_the_newest_keys() -> None:
    door = Door()
    first = [await door.post(str(number), session=str(number % 3)) for number in range(idempotency.MOST_OF_ONE)]
    assert await door.post("0", session="0") == first[0]
    await door.post("0", owner="bob")
    assert await door.post("0", session="0") == first[0]
    await door.post("one more")
    assert await door.post("2", session="2") == first[2]
    assert await door.post("0", session="0") > first[-1]  # forgotten, and so run again


async def test_answers_that_are_let_go_are_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MOST_BYTES", 25)
    door = Door(size=10)
    assert [await door.post(key) for key in ("a", "b", "c", "b", "c")] == [1, 2, 3, 2, 3]
    with pytest.raises(AnswerNotKept):
        await door.post("a")


async def test_what_a_cell_showed_is_not_held_beside_its_answer() -> None:
    door = Door()
    assert [await door.post("a"), await door.post("a")] == [1, 1]
    gc.collect()
    assert [run() for run in door.runs] == [None]


async def test_retry_joins_no_run_that_was_given_up_before_its_session_came() -> None:
    idempotent, runs = IdempotentRuns(), Runs()

    async def wait_for_a_session(watched: Watched) -> Response:
        await asyncio.Event().wait()
        return Response()

    def ask() -> Any:
        return idempotent.run(Address("ada", "s"), "key", b"", lambda: runs.begin(wait_for_a_session))[0]

    first = ask()
    first.join()
    assert ask() is first
    assert await first.leave()
    assert ask() is not first
    await runs.aclose()


async def test_keys_are_forgotten_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    assert [await door.post("a"), await door.post("a")] == [1, 1]
    monkeypatch.setattr(idempotency, "AGE", 0.0)
    assert await door.post("a") == 2
