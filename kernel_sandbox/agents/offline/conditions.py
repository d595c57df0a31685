"""Which words of a question had no part in its answer: conditions ("in 2014", "fatal") that no rule applies. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kernel_sandbox.agents.offline.questions import is_frame
from kernel_sandbox.agents.offline.words import COUNT_WORDS, FILLERS, ROW_WORDS, TIME_PARTS, alike, tokens

_LEADING = frozenset({"in", "on", "at", "for", "with", "from", "of", "by", "to", "the", "a", "an"})
"""Words that are told together with the one behind them."""
_ARTICLES = frozenset({"the", "a", "an"})
_BEFORE_CONDITION = re.compile(
    r"\s(?:in|on|at|during|where|when|with|without|for|since|before|after|from|until|between|of|if|while|within|among|"
    r"only|except)\s"
)


def ignored(question: str, used: Iterable[str]) -> list[str]:
    """Return the phrases of a question that are neither part of its frame nor of the names that were used."""
    known = {stem for name in used for stem in tokens(name)}
    phrases: list[list[str]] = []
    gap: list[str] = []  # fillers since the last word that was told of, or that has a part in the answer
    for word in question.split():
        stems = tokens(word)
        if _is_filler(stems):
            gap.append(word)
        elif all(_has_part(stem, known) for stem in stems) or is_frame(word):
            gap = [""]  # what follows begins a new phrase
        else:
            if not phrases or "" in gap:
                phrases.append(_leading(gap))
            else:
                phrases[-1] += gap
            phrases[-1].append(word)
            gap = []
    return [" ".join(phrase).strip(" ,.;:?!'\"") for phrase in phrases][:8]


def without_condition(phrase: str) -> str:
    """Return what stands before the first condition of a phrase."""
    return _BEFORE_CONDITION.split(f"{phrase.strip()} ", maxsplit=1)[0].strip()


def _is_filler(stems: list[str]) -> bool:
    return all(stem in FILLERS or stem in ("s", "t") for stem in stems)


def _has_part(stem: str, known: set[str]) -> bool:
    if stem in FILLERS | COUNT_WORDS | ROW_WORDS | TIME_PARTS.keys():
        return True
    return any(alike(stem, other) for other in known)


def _leading(gap: list[str]) -> list[str]:
    """Return the prepositions and articles right before a word."""
    words: list[str] = []
    for word in reversed(gap):
        if word.lower() not in _LEADING:
            break
        words.insert(0, word)
    while words and words[0].lower() in _ARTICLES:
        del words[0]
    return words
