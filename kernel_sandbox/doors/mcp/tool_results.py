"""What a tool call answers: parts to read and to see, and the same as data. Pure.

What a sandbox wrote stands between two marks that it could not foresee, so that whoever reads it, a model for one,
can tell it from what the tools say themselves.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text to read."""

    text: str


@dataclass(frozen=True, slots=True)
class PicturePart:
    """A picture to see."""

    kind: str
    """The media type: png, jpeg, gif or webp."""
    data: bytes


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file as it is, whose text or bytes a client may keep."""

    name: str
    """Its path in the sandbox, from the root."""
    kind: str
    """The media type."""
    content: str | bytes


Part = TextPart | PicturePart | FilePart


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of a tool call."""

    parts: tuple[Part, ...]
    data: dict[str, Any] | None = None
    """The same as data; JSON, in the shape that the tool's definition gives."""
    failed: bool = False


def quoted(text: str) -> str:
    """Put what a sandbox wrote between marks that it could not foresee."""
    mark = secrets.token_hex(4)
    return f"<output {mark}>\n{text.rstrip()}\n</output {mark}>"


def failure(text: str) -> CallResult:
    """Answer that the call failed. Fits every tool's schema of its data."""
    return CallResult((TextPart(text),), {"status": "failed", "problem": text}, failed=True)
