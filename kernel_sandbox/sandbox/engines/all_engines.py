"""One question to every engine, for what is about all of them: ps, gc, the list of images, doctor.

An engine that does not answer in time is no error there, since the other one may serve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kernel_sandbox.errors import EngineError, EngineUnavailable
from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.sandbox.engines import NAMES, get_engine
from kernel_sandbox.sandbox.engines.base import Engine, SandboxInfo
from kernel_sandbox.sandbox.engines.choice import PATIENCE

T = TypeVar("T")
Question = Callable[[Engine], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What came of a question, by the engines' names."""

    given: dict[str, T]
    refused: dict[str, EngineError]


def ask_engines(question: Question[T], only: str | None = None) -> Answers[T]:
    """Ask every engine, each for at most PATIENCE seconds; or `only` the one of this name, for as long as it takes.

    What an engine raises is in `refused`; the one that was named raises it, and EngineError where it is unknown.
    """
    return call_reactor(_ask_one, question, only) if only else call_reactor(_ask_all, question)


def answering() -> list[str]:
    """Name the engines that answer, in the order in which a session would take them."""
    return list(ask_engines(sandboxes).given)


async def sandboxes(engine: Engine) -> list[SandboxInfo]:
    """Ask an engine for its sandboxes; a question for `ask_engines`."""
    return await engine.sandboxes()


async def _ask_one(question: Question[T], name: str) -> Answers[T]:
    return Answers({name: await question(get_engine(name))}, {})


async def _ask_all(question: Question[T]) -> Answers[T]:
    async def ask(name: str) -> T:
        try:
            async with asyncio.timeout(PATIENCE):
                return await question(get_engine(name))
        except TimeoutError:
            raise EngineUnavailable(f"The engine {name} did not answer within {PATIENCE:g} s.") from None

    answers: Answers[T] = Answers({}, {})
    for name, answer in zip(NAMES, await asyncio.gather(*map(ask, NAMES), return_exceptions=True), strict=True):
        if isinstance(answer, EngineError):
            answers.refused[name] = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            answers.given[name] = answer
    return answers
