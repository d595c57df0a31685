"""What the analyst needs of a conversation: the question, the files named, the results so far. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernel_sandbox.agents.messages import Message, shows_pictures

_SUFFIX = r"\.(?:csv|tsv|txt|parquet|xlsx|xlsm|jsonl|ndjson|json)\b"
_IN_DATA = re.compile(rf"/mnt/data/([^\n\"'`<>|*?]{{1,200}}?{_SUFFIX})", re.IGNORECASE)
_BARE = re.compile(rf"(?<![\w/.-])([\w.-]{{1,200}}?{_SUFFIX})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation, taken apart."""

    question: str
    context: str
    """What the user said before, the files' previews among it."""
    files: tuple[str, ...]
    """Names of files under /mnt/data: the question's first, then those named last."""
    earlier: tuple[str, ...]
    """Tool results from before the question."""
    results: tuple[str, ...]
    """Tool results since then."""
    calls: int
    """Tool calls in all."""


def read_conversation(messages: Sequence[Message]) -> Conversation:
    """Take a conversation apart."""
    asked = [
        number
        for number, message in enumerate(messages)
        if message.get("role") == "user" and not shows_pictures(message)
    ]
    last = asked[-1] if asked else len(messages)
    question = _text(messages[last]) if asked else ""
    # What an assistant answered at once was an earlier question, and tells nothing about the data.
    context = [_text(messages[n]) for n in asked[:-1] if messages[n + 1].get("role") != "assistant"]
    return Conversation(
        question=question,
        context="\n".join(context),
        files=tuple(dict.fromkeys(name for text in (question, *reversed(context)) for name in _files(text)))[:5],
        earlier=tuple(_results(messages[:last])),
        results=tuple(_results(messages[last:])),
        calls=sum(len(_calls(message)) for message in messages),
    )


def _results(messages: Sequence[Message]) -> Iterator[str]:
    return (_text(message) for message in messages if message.get("role") == "tool")


def _calls(message: Message) -> Sequence[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else ()


def _files(text: str) -> list[str]:
    return [*_IN_DATA.findall(text), *_BARE.findall(text)]


def _text(message: Message) -> str:
    """Return a message's text, which may come in parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
