"""ScriptedModel: a language model for tests and demonstrations, which says what it was told to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kernel_sandbox.agents.chat_messages import Message
from kernel_sandbox.agents.completions import Completion, as_completion
from kernel_sandbox.agents.models import LanguageModelInterface, OnText
from kernel_sandbox.errors import ModelError

Line = Completion | Mapping[str, Any] | str | Exception
"""An answer: text, a Completion, a message or chat completion as a dict, or an exception to raise."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request that a ScriptedModel got."""

    model: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None
    reasoning_effort: str | None


class ScriptedModel(LanguageModelInterface):
    """Answers from a list, one line after the other, or from a function of the messages.

    `requests` holds what it was asked. Raises ModelError when it is asked more often than the list is long.
    """

    def __init__(self, script: Iterable[Line] | Callable[[list[Message]], Line]) -> None:
        self._answer = script if callable(script) else None
        self._lines = iter(()) if callable(script) else iter(tuple(script))
        self.requests: list[ModelRequest] = []

    def generate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
    ) -> Completion:
        """Return the next line."""
        self.requests.append(ModelRequest(model, messages, tools, reasoning_effort))
        line = self._answer(messages) if self._answer else next(self._lines, None)
        if line is None:
            raise ModelError(f"The script has no line for request {len(self.requests)}: make it longer.")
        if isinstance(line, Exception):
            raise line
        return Completion(line) if isinstance(line, str) else as_completion(line)

    async def agenerate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
        on_text: OnText | None = None,
    ) -> Completion:
        """Return the next line, without a thread."""
        completion = self.generate_completion(model, messages, tools, reasoning_effort)
        if on_text is not None and completion.content:
            on_text(completion.content)
        return completion
