"""What kind of question it is, and which of its phrases name columns. Pure; it knows no table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

QuestionKind = Literal["factors", "relation", "groups", "plot", "describe"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question that the analyst can answer."""

    kind: QuestionKind
    target: str = ""
    """The phrase that names what is explained, compared or plotted."""
    by: str = ""
    """The phrase that names what influences it, or what it is grouped by."""
    ascending: bool = False
    """Whether the lowest come first."""
    order: Literal["", "mean", "sum"] = ""
    number: int = 5
    """How many groups are named."""
    asked_number: str = ""
    """The same, where the question says it."""


# Pieces of the patterns: what they are made of more than once, or what would make a line too long.
_MOST = (
    r"(?:most|highest|largest|biggest|greatest|top|best|maximum|fewest|least|lowest|smallest|worst|minimum|many|more)"
)
_ACT = (
    r"(?:influenc|affect|impact|chang|contribut|driv|determin|explain|predict|matter|correlat|relat|caus|associat)\w*"
)
_LINK = r"(?:influence|effect|impact|relation|relationship|correlation|association|link|connection|dependence)"
_WHAT = r"(?:factor|variable|column|feature|predictor|driver|cause|determinant|influence|parameter|thing|attribute)s?"
_TAIL = r"(?:\s+(?:the\s+)?(?:most|strongly|much|more))*(?:\s+(?:to|for|with|on|in|of))?(?:\s+the)?\s+"
_HAVE = r"(?:have|has|had|are|is|was|were|with|shows?|sees?|saw|gets?|records?|reports?|do|does)"
_DRAW = r"^(?:plot|draw|chart|graph|visuali[sz]e)\s+"
_DATA = r"(?:(?:the |this |my )?(?:data|dataset|data set|table|file)|\S+\.\w+)"
_VARY = r"(?:depend\w*|var(?:y|ies)|differ\w*|change[sd]?)\s+(?:up)?(?:on|by|with|across|over|between|along)"
_EACH = r"(?:by|per|for each|in each|across)"
_AMOUNT = r"(?P<most>average|mean|median|total|number of|count of|sum of)"

_OTHER = (
    r"(?:strong|strongly|import\w*|rank|sort|order|list|give|compare\w*|depend\w*|var(?:y|ies)|differ|between|against|vs\.?|"
    r"versus|over|per|across|up|histogram|distribution|plot|draw|chart|graph|visuali[sz]e|diagram|scatter|line|bar|"
    r"showing|(?:cor)?related|connected|linked|far|using|use|used|based|according|(?:group|segment|kind|date|time)s?|"
    r"categor(?:y|ies)|class(?:es)?|median|average|mean|describe|summari[sz]e|profile|explore|overview|summary|about|"
    r"description|contains?|holds?|say|can|could|would|want|know|tell|make|create|now|also|then)"
)
_FRAME = re.compile(rf"(?:{_MOST}|{_ACT}|{_LINK}s?|{_WHAT}|{_HAVE}|{_OTHER}|it's|what's)", re.IGNORECASE)

# The first that matches is taken, so what is more special stands first.
_PATTERNS: tuple[tuple[QuestionKind, str], ...] = (
    ("plot", r"^(?:histogram|distribution) of (?P<target>.+)$"),
    ("plot", rf"{_DRAW}(?P<target>.+?)\s+(?:by|against|vs\.?|versus|over|per)\s+(?P<by>.+)$"),
    ("plot", rf"{_DRAW}(?P<target>.+)$"),
    ("describe", rf"^(?:describe|summari[sz]e|profile|explore)(?: me)?(?:\s+{_DATA})?$"),
    ("describe", rf"^what(?:'s| is| does)?\s+(?:in\s+)?{_DATA}(?:\s+(?:contain|hold|about|show))*$"),
    ("describe", rf"^(?:an? )?(?:overview|summary|description) of {_DATA}$"),
    ("describe", rf"^(?:what can you (?:say|tell me) )?about {_DATA}$"),
    (
        "describe",
        r"^(?:what|which|how many) (?:columns|variables|rows)(?: and (?:columns|rows))?(?: (?:are|does|do)\b.*)?$",
    ),
    ("factors", rf"\b{_WHAT}\b.*?\b{_ACT}{_TAIL}(?P<target>.+)$"),
    ("factors", rf"\b{_WHAT}\s+(?:for|of|behind)\s+(?P<target>.+)$"),
    ("factors", rf"^(?:what|which)\b.*\bimportant\b.*?\b{_WHAT}\s+(?:in|to)\s+(?P<target>.+)$"),
    ("factors", rf"\b{_WHAT}\b.*\bimportant\s+(?:for|in|to|of)\s+(?P<target>.+)$"),
    ("factors", rf"^what\s+(?:most\s+)?(?:strongly\s+)?{_ACT}{_TAIL}(?P<target>.+)$"),
    ("factors", r"^what\s+(?:does|do)\s+(?P<target>.+?)\s+depend\s+on"),
    (
        "relation",
        r"\b(?:is|are)\s+(?P<by>.+?)\s+and\s+(?P<target>.+?)\s+(?:cor)?(?:related|connected|linked|associated)$",
    ),
    ("relation", rf"\b{_LINK}s?\s+between\s+(?P<by>.+?)\s+and\s+(?P<target>.+)$"),
    ("relation", rf"\b{_LINK}s?\s+of\s+(?P<by>.+?)\s+(?:on|with|to|and)\s+(?P<target>.+)$"),
    ("relation", rf"^how\b.*?\b(?:does|do|did|is|are)\s+(?P<target>.+?)\s+{_VARY}\s+(?P<by>.+)$"),
    (
        "relation",
        r"^(?:how|does|do|is|are|did)\b(?:\s+(?:strongly|much|far|does|do|did|is|are))*"
        rf"\s+(?P<by>.+?)\s+{_ACT}{_TAIL}(?P<target>.+)$",
    ),
    ("groups", rf"^(?:which|what)\s+(?P<by>.+?)\s+{_HAVE}\b.*?\b(?P<most>{_MOST})\b(?P<target>.*)$"),
    (
        "groups",
        rf"^(?:in|on|at|during|for)\s+(?:which|what)\s+(?P<by>.+?)\s+{_HAVE}\b.*?\b(?P<most>{_MOST})\b(?P<target>.*)$",
    ),
    (
        "groups",
        rf"^(?:list |give me )?(?:the )?(?P<most>{_MOST})\s+(?:\d+\s+)?(?P<by>.+?)"
        r"\s+(?:by|in|with (?:the )?most)\s+(?P<target>.+)$",
    ),
    (
        "groups",
        rf"^(?:what is |compare )?(?:the )?{_AMOUNT}\s+(?P<target>.+?)\s+{_EACH}\s+(?P<by>.+)$",
    ),
    ("groups", r"^(?:rank|sort|order)\s+(?:the\s+)?(?P<by>.+?)\s+by\s+(?P<target>.+)$"),
    ("groups", rf"^how many\s+(?P<target>.+?)\s+{_EACH}\s+(?P<by>.+)$"),
    ("groups", r"^(?:which|what)\s+(?P<by>.{1,60}?)\s+(?P<target>\w+)\s+(?:the\s+)?(?P<most>most|least|fewest)$"),
    ("groups", rf"^(?P<target>[^,;]{{1,60}}?)\s+{_EACH}\s+(?P<by>[^,;]{{1,60}})$"),
)
_COMPILED = tuple((kind, re.compile(pattern)) for kind, pattern in _PATTERNS)
_POLITE = re.compile(
    r"^(?:please|can you|could you|would you|i want to know|tell me|show me|make|create|now|and|a|the)\s+"
)
_PLOT_OF = re.compile(r"^(?:(?:bar|line|scatter)\s*)?(?:plot|chart|graph|figure|diagram)\s+(?:of|showing)\s+")
_LOW = re.compile(r"\b(?:fewest|least|lowest|smallest|worst|minimum)\b")
_MEAN = re.compile(r"\b(?:average|mean|median|typical\w*|per)\b")
_SUM = re.compile(r"\b(?:most|many|fewest|total|sum|number)\b")
_NUMBER = re.compile(rf"\b(?:which|what|the|me|list|rank|{_MOST})\s+(\d{{1,2}}) ")


def parse_question(text: str) -> Question | None:
    """Return what is asked; None for what is of no known kind."""
    asked = " ".join(text.split()).rstrip("?!. ").strip()
    if len(asked) > 1000:
        return None
    lowered = _without_courtesy(asked)
    for kind, pattern in _COMPILED:
        match = pattern.search(lowered)
        if match:
            return _question(kind, match, lowered)
    return None


def is_frame(word: str) -> bool:
    """Return whether a word is part of the question's frame, and not of what it is about."""
    return _FRAME.fullmatch(word.strip(" ,.;:?!'\"()")) is not None


def _without_courtesy(asked: str) -> str:
    lowered = asked.lower()
    while match := _POLITE.match(lowered):
        if re.match(r"^(?:a|the)\s", match[0]) and not _PLOT_OF.match(lowered[match.end() :]):
            break
        lowered = lowered[match.end() :]
    return _PLOT_OF.sub("plot ", lowered)


def _question(kind: QuestionKind, match: re.Match[str], asked: str) -> Question:
    parts = match.groupdict()
    found = _NUMBER.search(asked) if kind == "groups" else None
    number = min(20, max(1, int(found[1]))) if found else 0
    return Question(
        kind,
        target=(parts.get("target") or "").strip(" '\"`"),
        by=(parts.get("by") or "").strip(" '\"`"),
        ascending=bool(_LOW.search(asked)) and kind == "groups",
        order="mean" if _MEAN.search(asked) else "sum" if _SUM.search(asked) else "",
        number=number or 5,
        asked_number=str(number or ""),
    )
