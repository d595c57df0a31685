"""Which column of the table a phrase of the question means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kernel_sandbox.agents.offline.conditions import without_condition
from kernel_sandbox.agents.offline.facts import Column
from kernel_sandbox.agents.offline.words import COUNT_WORDS, ROW_WORDS, alike, content, plain, tokens

_WEAK = frozenset({"id", "key", "code", "name", "type", "category"})
"""Endings of column names that people leave out."""


@dataclass(frozen=True, slots=True)
class Match:
    """The column that a phrase means best."""

    column: Column
    rivals: tuple[str, ...] = ()
    """Others that fit as well; the answer names them."""


def find_column(phrase: str, columns: Iterable[Column], prefer: Sequence[str] = ()) -> Match | None:
    """Find the column that a phrase means; between equals, one of the preferred kinds, then the first."""
    scored = [(_score(phrase, column), column) for column in columns]
    fitting = [(score, column.kind in prefer, column) for score, column in scored if score > 0]
    if not fitting:
        return None
    best = max(fitting, key=lambda entry: entry[0] + 0.2 * entry[1])
    rivals = (entry[2].name for entry in fitting if entry[0] == best[0] and entry[1] == best[1])
    return Match(best[2], tuple(name for name in rivals if name != best[2].name)[:3])


def _score(phrase: str, column: Column) -> float:
    if _is_named(phrase, column.name):
        return 3.0 + len(column.name) / 1000  # of two names within each other, the longer one is meant
    asked = content(tokens(phrase))
    fewer = [word for word in asked if word not in COUNT_WORDS]
    penalty = 0.5 if column.kind in ("identifier", "text", "empty") else 0.0
    return max(0.0, max(_overlap(asked, column.name), _overlap(fewer, column.name)) - penalty)


def _is_named(phrase: str, name: str) -> bool:
    """Return whether the name stands in the phrase as it is. Scripts without spaces have no word boundaries."""
    wanted, text = plain(name), plain(phrase)
    if not wanted.isascii():
        return wanted in text
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text) is not None


def _overlap(asked: list[str], name: str) -> float:
    """Add the share of the phrase that the name covers to the share of the name that the phrase covers."""
    named = tokens(name)
    named = [word for word in named if word not in _WEAK] or named
    if not asked or not named:
        return 0.0
    covered = sum(any(alike(word, other) for other in named) for word in asked)
    covering = sum(any(alike(word, other) for other in asked) for word in named)
    return covered / len(asked) + covering / len(named) if covered else 0.0


def means_rows(phrase: str, context: str) -> bool:
    """Return whether a phrase that names no column means the rows: "rows", or what the file is said to be about."""
    asked = [word for word in content(tokens(without_condition(phrase))) if word not in COUNT_WORDS | ROW_WORDS]
    known = set(tokens(context))
    return all(any(alike(word, other) for other in known) for word in asked)
