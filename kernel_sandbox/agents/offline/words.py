"""Words of a question and of column names: tokens, stems, likeness. Pure."""

from __future__ import annotations

import difflib
import re
import unicodedata


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COUNT_WORDS = _words(
    "frequency number count total amount sum rate occurrence quantity volume share many common frequent often popular"
)
"""They ask how many; a column may be called so as well."""
ROW_WORDS = _words("row record entry observation case event incident line item")
"""They mean the table's rows, whatever these are."""
FILLERS = _words(
    "a an the of in on at by to for from with and or is are was were be been do does did have has had it its this that "
    "these those there their our my your me i we you all each every any some per other different overall value level "
    "what which who how why please column variable factor feature data dataset table file show give most more "
    "happen occur happening occurring happened occurred take place"
)
TIME_PARTS = {"hour": "hour", "weekday": "weekday", "month": "month", "year": "year", "day": "weekday"}

_SYNONYMS = (
    "neighborhood neighbourhood",
    "price cost",
    "salary income wage pay earning",
    "sex gender",
    "revenue sale turnover",
    "color colour",
    "speed velocity",
    "district borough",
    "rain rainfall precipitation",
    "temperature temp",
    "latitude lat",
    "longitude lon lng",
    "weather climate",
    "lamp light",
    "road street",
    "surface pavement",
)
_GROUP_OF = {word: number for number, line in enumerate(_SYNONYMS) for word in line.split()}


def plain(text: str) -> str:
    """Write text in small letters without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def tokens(text: str) -> list[str]:
    """Split text or a column's name (snake_case, camelCase, with spaces) into stems."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return [stem(word) for word in re.findall(r"[^\W_]+", plain(parted))]


def stem(word: str) -> str:
    """Take the plural from a word; the rest is left to `alike`."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def content(stems: list[str]) -> list[str]:
    """Leave out the words that say nothing about which column is meant."""
    return [word for word in stems if word not in FILLERS]


def alike(one: str, other: str) -> bool:
    """Return whether two stems mean the same: equal, synonyms, of one root, or one mistyped."""
    if one == other or (one in _GROUP_OF and _GROUP_OF[one] == _GROUP_OF.get(other)):
        return True
    if min(len(one), len(other)) < 4 or one[0] != other[0] or {one, other} & COUNT_WORDS:
        return False
    if abs(len(one) - len(other)) <= 4 and (one.startswith(other) or other.startswith(one)):
        return True
    common = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
    if common >= 6 and common >= 0.7 * max(len(one), len(other)):
        return True
    return min(len(one), len(other)) > 5 and difflib.SequenceMatcher(None, one, other).ratio() >= 0.87
