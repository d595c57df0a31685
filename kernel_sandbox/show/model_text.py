"""What a model reads of a cell, by an agent or over MCP. Not what is stored: the transcript keeps every output.

Pure. The outputs are the sandbox's: they may be huge, and may try to look like something else. So text is capped per
line and in total, what has no shape on paper is spelled out, and each cut says how to see the rest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kernel_sandbox.session.outputs import (
    ErrorOutput,
    Execution,
    Output,
    StreamOutput,
    bundle_text,
    is_unspoken,
    picture_of,
)
from kernel_sandbox.text.ansi import plain_text, remove_ansi
from kernel_sandbox.text.characters import escaped, visible
from kernel_sandbox.text.clipping import clip_lines

_USER_FRAME = re.compile(r"\s*(?:Cell\b|File (?:/mnt/|/tmp/|/home/sandbox/|~|\.|<))")
_FRAME = re.compile(r"\s*File \S+")
_HEADER = re.compile(r"-{20,}|\S+ +Traceback \(most recent call last\)")
UNSEEN = ". It is shown to the user; you cannot see it."
SEE_THE_REST = "print less at a time (a slice, .head(), .describe()), or write it to a file and print parts of it"


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """How much of one cell a model reads, in characters."""

    line: int = 2_000
    total: int = 20_000


DEFAULT_LIMITS = ReadingLimits()


def read_execution(
    execution: Execution,
    limits: ReadingLimits = DEFAULT_LIMITS,
    notes: Sequence[str] = (),
    pictures: Mapping[int, str] = MappingProxyType({}),
) -> str:
    """Write down one cell for the model: its outputs in order, then `notes`, which are never cut.

    `pictures` says what became of each output's picture, by the output's place.
    """
    read = (read_output(output, pictures.get(place, UNSEEN)) for place, output in enumerate(execution.outputs))
    text = clip("\n".join(part for text in read if (part := text.rstrip("\n"))), limits)
    if not text:
        text = "[The cell ran and showed nothing.]" if execution.status == "ok" else _failure(execution)
    return "\n".join([text, *(note for note in notes if note)])


def _failure(execution: Execution) -> str:
    error = execution.error
    return f"[The cell ended as {execution.status!r}.]" if error is None else read_traceback(error)


def read_output(output: Output, picture: str = UNSEEN) -> str:
    """Write one output as text, without caps; `picture` says what became of its picture, if it has one."""
    if isinstance(output, StreamOutput):
        text = plain_text(output.text, escaped)
        return f"[stderr]\n{text}" if output.name == "stderr" and text.strip() else text
    if isinstance(output, ErrorOutput):
        return read_traceback(output)
    return read_bundle(output.data, picture)


def read_bundle(data: Mapping[str, Any], picture: str = UNSEEN) -> str:
    """Write a MIME bundle as text: a picture as one line that describes it, a table as pandas prints it."""
    text = bundle_text(data)
    kind = next((kind for kind in data if kind.startswith("image/")), None)
    if kind is None:
        return visible(remove_ansi(text))
    name = "" if is_unspoken(text) else visible(text).removeprefix("<").removesuffix(">")
    found = picture_of(data)
    what = f"{kind} that cannot be read." if found is None else f"{found}{picture}"
    return f"[{name or 'picture'}: {what}]"


def read_traceback(error: ErrorOutput) -> str:
    """Write an error with the user's own frames; of the library's, only the place where it was raised."""
    parts = [visible(remove_ansi(part)).strip("\n") for part in error.traceback]
    kept = list(_without_library([part for part in parts if not _HEADER.fullmatch(part)]))
    if not kept:
        return visible(f"{error.ename}: {error.evalue}")
    return "\n".join(["Traceback (most recent call last):", *kept] if len(kept) > 1 else kept)


def _without_library(parts: list[str]) -> Iterator[str]:
    """Leave out runs of library frames, and repeats of the user's: a recursion has thousands."""
    for kind, run in itertools.groupby(parts, _kind_of_part):
        frames = list(run)
        if kind == "library" and len(frames) > 1:
            yield f"[… {_count(len(frames) - 1, 'frame')} inside libraries …]"
        if kind == "library":
            yield frames[-1].split("\n", 1)[0]
        else:
            yield from _without_repeats(frames)


def _kind_of_part(part: str) -> str:
    if _USER_FRAME.match(part):
        return "user"
    return "library" if _FRAME.match(part) else "other"


def _without_repeats(parts: list[str]) -> Iterator[str]:
    for part, repeats in itertools.groupby(parts):
        count = len(list(repeats))
        yield part
        if count > 1:
            yield f"[… the same {_count(count - 1, 'more time')} …]"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def clip(text: str, limits: ReadingLimits = DEFAULT_LIMITS, rest: str = SEE_THE_REST) -> str:
    """Cap every line and the whole, keeping head and tail; markers say how much was cut, and how to see the rest."""
    return clip_lines(text, limits.line, limits.total, rest)
