"""Idempotency-Key: a retry of a request that has run something gets the first one's answer, and runs nothing again.

As the IETF's draft-ietf-httpapi-idempotency-key-header has it, but that a retry while the first one runs waits for the
same answer. Keys are an owner's and a session's; they are kept in memory, bounded in number, size and age.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.ownership import Address
from kernel_sandbox.service.runs import Run

AGE = 3600.0
"""Seconds for which a key is kept after its answer."""
MOST_OF_ONE = 256
"""Keys of one owner; the oldest is forgotten first."""
LARGEST = 4 * 1024**2
"""Bytes of an answer that is kept. Of a larger one is only kept that it was given."""
MOST_BYTES = 64 * 1024**2
"""Of all answers together; the oldest are let go first, but not that they were given."""


class KeptAnswer(Protocol):
    """What a request was answered."""

    body: bytes | memoryview[int]


A = TypeVar("A", bound=KeptAnswer)


class AnswerNotKept(SandboxError):
    """A retry of what has run, whose answer is not there any more."""


class KeyReused(SandboxError):
    """A key that another request had."""


class TooManyKeys(SandboxError):
    """An owner has as many requests with a key under way as it may have."""

    retry_after = 5


@dataclass(slots=True, eq=False)
class _Entry:
    owner: str
    fingerprint: bytes
    run: Run[Any] | None
    """While it runs: it holds all that its cell has shown."""
    answer: Any = None
    ended: float | None = None
    """When it was answered, by the clock that only goes forward."""


class IdempotentRuns:
    """The keys that were used, and what their requests were answered."""

    def __init__(self) -> None:
        self._entries: collections.OrderedDict[tuple[str, str], _Entry] = collections.OrderedDict()
        self._bytes = 0

    def run(
        self, address: Address, key: str, fingerprint: bytes, begin: Callable[[], Run[A]]
    ) -> tuple[Run[A] | A, bool]:
        """Return the run of a key, or its answer; and whether it is another request's than this one's.

        Raises KeyReused for a key of another request, AnswerNotKept and TooManyKeys.
        """
        self._forget_old()
        place = (address.key, key)
        found = self._entries.get(place)
        if found is not None and found.run is not None and found.run.is_given_up:
            self._forget(place)
            found = None
        if found is None:
            self._make_room(address.owner)
            run = begin()
            run.is_kept = True
            self._entries[place] = _Entry(address.owner, fingerprint, run)
            run.task.add_done_callback(lambda task: self._take(place, run))
            return run, False
        if found.fingerprint != fingerprint:
            raise KeyReused("This Idempotency-Key was used for another request: give each its own.")
        if found.run is not None:
            return found.run, True
        if found.answer is None:
            raise AnswerNotKept("This ran, and its answer is not kept: the session's notebook has it.")
        return found.answer, True

    def _take(self, place: tuple[str, str], run: Run[Any]) -> None:
        """Keep what a run was answered; where nothing ran, a retry is to run it."""
        entry = self._entries.get(place)
        if entry is None or entry.run is not run:
            return
        if not run.has_begun:
            self._forget(place)
            return
        entry.run, entry.ended = None, time.monotonic()
        if not run.task.cancelled() and run.task.exception() is None and len(run.task.result().body) <= LARGEST:
            entry.answer = run.task.result()
            self._bytes += len(entry.answer.body)
        for other in self._entries.values():
            if self._bytes <= MOST_BYTES:
                break
            self._let_answer_go(other)

    def _let_answer_go(self, entry: _Entry) -> None:
        if entry.answer is not None:
            self._bytes -= len(entry.answer.body)
            entry.answer = None

    def _forget(self, place: tuple[str, str]) -> None:
        self._let_answer_go(self._entries.pop(place))

    def forget_session(self, address: Address) -> None:
        """Forget the keys of a session that its owner has ended: another may be made of its name."""
        for place in [place for place in self._entries if place[0] == address.key]:
            self._forget(place)

    def _forget_old(self) -> None:
        oldest = time.monotonic() - AGE
        for place, entry in list(self._entries.items()):
            if entry.ended is not None and entry.ended < oldest:
                self._forget(place)

    def _make_room(self, owner: str) -> None:
        own = [place for place, entry in self._entries.items() if entry.owner == owner]
        if len(own) < MOST_OF_ONE:
            return
        ended = next((place for place in own if self._entries[place].ended is not None), None)
        if ended is None:
            told = f"{MOST_OF_ONE} of your requests with an Idempotency-Key are under way: wait for one of them."
            raise TooManyKeys(told)
        self._forget(ended)


def fingerprint_of(path: str, body: bytes) -> bytes:
    """Digest what a request asks for: its path and its JSON, however that is spaced."""
    with contextlib.suppress(ValueError, RecursionError):  # it is refused as it is, then
        body = json.dumps(json.loads(body), sort_keys=True).encode()
    return hashlib.sha256(path.encode("utf-8", "replace") + b"\0" + body).digest()
