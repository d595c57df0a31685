"""What a model answered: Completion, read from whole responses and from streamed chunks. Pure.

`models` makes these, the loop reads them. Servers that call themselves compatible leave fields out, so every field is
read with care and from dicts and SDK objects alike.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kernel_sandbox.agents.chat_messages import ToolCall
from kernel_sandbox.errors import ModelError


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens that a server says it counted; zeros where it does not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    """A part of `completion_tokens`."""

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model: text, tool calls, or both."""

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: TokenUsage = field(default_factory=TokenUsage)
    finish_reason: str = "stop"
    """As in Chat Completions: "stop", "tool_calls", "length" (cut at the token limit), "content_filter"."""


def as_completion(value: Any) -> Completion:
    """Read a Completion from a chat completion or one of its messages, as a dict or as an SDK's object.

    Raises ModelError for anything else.
    """
    if isinstance(value, Completion):
        return value
    choices = _get(value, "choices")
    choice = choices[0] if isinstance(choices, list | tuple) and choices else None
    message = value if choices is None and _is_message(value) else _get(choice, "message")
    if message is None:
        raise ModelError(
            f"The server's answer is not a chat completion: {str(value)[:200]!r}. Does the base URL end in the "
            "server's API path (/v1, mostly)?"
        )
    return Completion(
        content=str(_get(message, "content") or _get(message, "refusal") or ""),
        tool_calls=_with_own_ids(_tool_call(call) for call in _get(message, "tool_calls") or ()),
        usage=_usage(_get(value, "usage")),
        finish_reason=str(_get(choice, "finish_reason") or "stop"),
    )


class CompletionBuilder:
    """Puts a Completion together from streamed chunks."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._calls: dict[int, dict[str, str]] = {}
        self._usage = TokenUsage()
        self._finish_reason = ""

    def feed(self, chunk: Any) -> str:
        """Take one chunk, and return the text that it adds."""
        if _get(chunk, "usage") is not None:
            self._usage = _usage(_get(chunk, "usage"))
        choices = _get(chunk, "choices")
        if not isinstance(choices, list) or not choices:
            return ""
        self._finish_reason = str(_get(choices[0], "finish_reason") or self._finish_reason)
        delta = _get(choices[0], "delta")
        for piece in _get(delta, "tool_calls") or ():
            self._take_call(piece)
        text = str(_get(delta, "content") or _get(delta, "refusal") or "")
        self._content.append(text)
        return text

    def _take_call(self, piece: Any) -> None:
        index = _get(piece, "index")
        if not isinstance(index, int):  # some servers send whole calls, without an index
            index = len(self._calls)
        call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = _get(piece, "function")
        call["id"] = call["id"] or str(_get(piece, "id") or "")
        call["name"] += str(_get(function, "name") or "")
        call["arguments"] += str(_get(function, "arguments") or "")

    def finish(self) -> Completion:
        """Return the whole. Raises ModelError where the stream ended before the model had finished."""
        if not self._finish_reason:
            raise ModelError(
                "The model's stream was cut before its end; nothing of that answer was executed. Ask again."
            )
        calls = (ToolCall(**self._calls[index]) for index in sorted(self._calls))
        return Completion("".join(self._content), _with_own_ids(calls), self._usage, self._finish_reason)


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _is_message(value: Any) -> bool:
    return _get(value, "role") == "assistant" or (
        isinstance(value, Mapping) and bool({"content", "tool_calls"} & value.keys())
    )


def _tool_call(call: Any) -> ToolCall:
    function = _get(call, "function")
    return ToolCall(
        str(_get(call, "id") or ""), str(_get(function, "name") or ""), str(_get(function, "arguments") or "")
    )


def _with_own_ids(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """Give a new id to a call that came without one, or with another's: results could not be told apart."""
    seen: dict[str, ToolCall] = {}
    for call in calls:
        identifier = call.id if call.id and call.id not in seen else f"call_{uuid.uuid4().hex[:24]}"
        seen[identifier] = ToolCall(identifier, call.name, call.arguments)
    return tuple(seen.values())


def _usage(usage: Any) -> TokenUsage:
    details = _get(usage, "completion_tokens_details")
    counts = (_get(usage, "prompt_tokens"), _get(usage, "completion_tokens"), _get(details, "reasoning_tokens"))
    return TokenUsage(*(count if isinstance(count, int) else 0 for count in counts))
