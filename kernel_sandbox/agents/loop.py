"""The loop of one task: ask the model, answer its tool calls, ask again, until it answers without one.

`agent` and `ToolManager.handle_tool_call_sequence` run it. Whatever ends it, every tool call in the conversation has
its result: a server refuses a conversation where one is missing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from kernel_sandbox.agents.chat_messages import ChatMessages, ToolAnswer, ToolCall
from kernel_sandbox.agents.completions import Completion, TokenUsage
from kernel_sandbox.agents.events import ModelAnswered, OnEvent, TextDelta, ToolCallStarted, ToolResult
from kernel_sandbox.agents.models import LanguageModelInterface
from kernel_sandbox.errors import ModelError
from kernel_sandbox.session.outputs import Picture

MAX_TURNS = 25
"""Requests to the model in one task; a question about a file takes 3 to 8."""
INTERRUPTED = "interrupted: this tool call was stopped by the user, or never started. What it did before stands."
GIVEN_UP = "[The user gave this question up before it was answered.]"
"""What the assistant is noted to have said: a question without an answer would be answered with the next one."""

REFUSALS = (400, 404, 413, 415, 422)
"""HTTP statuses of servers that do not take a picture, or any."""

Ending = Literal["answer", "tool_result", "max_turns", "failed"]


class Tools(Protocol):
    """What the loop needs of a ToolManager."""

    def get_tool_definitions(self) -> list[dict[str, Any]]:
        """Return the definitions, as a request has them."""

    async def answer(self, call: ToolCall) -> ToolAnswer:
        """Run one tool call. Failures are text, never exceptions."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How one task is done."""

    model_name: str
    reasoning_effort: str | None = None
    tools_enabled: bool = True
    return_first_result: bool = False
    """The result of the first tool call is the answer; further calls of that message are not run."""
    max_turns: int = MAX_TURNS


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """What one task took."""

    ended: Ending
    turns: int
    """Requests to the model."""
    usage: TokenUsage
    seconds: float
    model_seconds: float
    tool_seconds: float


class TaskLoop:
    """One task. `summary` says what it took, also after a failure."""

    def __init__(
        self,
        model: LanguageModelInterface,
        messages: ChatMessages,
        tools: Tools,
        options: LoopOptions,
        on_event: OnEvent | None = None,
    ) -> None:
        self._model = model
        self._messages = messages
        self._tools = tools
        self._options = options
        self._on_event = on_event
        self._ended: Ending = "failed"
        self._turns = 0
        self._usage = TokenUsage()
        self._started = time.perf_counter()
        self._model_seconds = 0.0
        self._tool_seconds = 0.0

    @property
    def summary(self) -> TaskSummary:
        seconds = time.perf_counter() - self._started
        return TaskSummary(self._ended, self._turns, self._usage, seconds, self._model_seconds, self._tool_seconds)

    async def run(self, first: Completion | None = None) -> str:
        """Return the model's answer. `first` is an answer that has come already. Raises ModelError."""
        try:
            return await self._run(first)
        except asyncio.CancelledError:
            self._messages.add_assistant_message(GIVEN_UP)
            raise

    async def _run(self, first: Completion | None) -> str:
        completion = first or await self._ask()
        while completion.tool_calls and self._options.tools_enabled:
            if self._options.return_first_result:
                return await self._first_result(completion.tool_calls[0])
            self._messages.add_assistant_message(completion.content, completion.tool_calls)
            await self._answer_all(completion.tool_calls)
            if self._turns >= self._options.max_turns:
                return self._end("max_turns", self._out_of_turns(completion.content))
            completion = await self._ask()
        return self._end("answer", _whole(completion))

    async def _ask(self) -> Completion:
        try:
            return await self._request()
        except ModelError as exc:
            # Not every server takes pictures; and a hostile cell can show bytes that only begin like one, which would
            # have every later request refused too.
            if exc.status_code not in REFUSALS or not self._messages.leave_out_pictures():
                raise
        return await self._request()

    async def _request(self) -> Completion:
        self._turns += 1
        on_text = (lambda text: self._emit(TextDelta(text))) if self._on_event else None
        tools = self._tools.get_tool_definitions() if self._options.tools_enabled else []
        name, effort, messages = self._options.model_name, self._options.reasoning_effort, self._messages.get_messages()
        started = time.perf_counter()
        try:
            completion = await self._model.agenerate_completion(name, messages, tools or None, effort, on_text)
        finally:
            self._model_seconds += time.perf_counter() - started
        self._usage += completion.usage
        self._emit(ModelAnswered(completion, self._usage))
        return completion

    async def _answer_all(self, calls: tuple[ToolCall, ...]) -> None:
        pictures: list[tuple[str, Picture]] = []
        try:
            for number, call in enumerate(calls, 1):
                answer = await self._answer(call)
                self._messages.add_tool_result(call.id, answer.text)
                caption = f"Tool call {number} ({call.name[:100]}), picture"
                pictures += [(f"{caption} {place}:", picture) for place, picture in enumerate(answer.pictures, 1)]
        finally:
            self._messages.answer_open_calls(INTERRUPTED)
            self._messages.add_pictures(pictures)

    async def _answer(self, call: ToolCall) -> ToolAnswer:
        self._emit(ToolCallStarted(call))
        started = time.perf_counter()
        try:
            answer = await self._tools.answer(call)
        finally:
            self._tool_seconds += time.perf_counter() - started
        self._emit(ToolResult(call, answer.text))
        return answer

    async def _first_result(self, call: ToolCall) -> str:
        """As in the cookbook: the raw result is what the assistant said, and the call is not in the history."""
        return self._end("tool_result", (await self._answer(call)).text)

    def _end(self, ended: Ending, answer: str) -> str:
        self._ended = ended
        self._messages.add_assistant_message(answer)
        return answer

    def _out_of_turns(self, last_words: str) -> str:
        said = f" The last that the model said: {last_words}" if last_words else ""
        return (
            f"[Stopped without a final answer: the model was asked {self._turns} times (max_turns) and still wanted "
            f"to use tools. Ask it to go on, or raise max_turns.]{said}"
        )

    def _emit(self, event: TextDelta | ModelAnswered | ToolCallStarted | ToolResult) -> None:
        if self._on_event is not None:
            self._on_event(event)


def _whole(completion: Completion) -> str:
    if completion.finish_reason == "length":
        return f"{completion.content}\n[The answer was cut at the model's token limit.]".lstrip()
    return completion.content
