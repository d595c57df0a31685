"""The one table of characters that hide something, and how each is written so that it is seen. Pure.

A character hides something where it has no shape of its own, or changes where its neighbours stand: the general
categories Cc, Cf, Zl, Zp and Cs and the noncharacters (Unicode 15.1, chapter 4.5), and Default_Ignorable_Code_Point of
DerivedCoreProperties.txt (https://www.unicode.org/Public/15.1.0/ucd/). Tab and line feed are none of them, nor the
Prepended_Concatenation_Marks, which are Cf and have a shape.

Two readings of a text. `visible` is for outputs: what honest text is written with stays, where it has its effect.
`visible_source` is for programs that somebody is to judge: nothing stays but what prints (PEP 672 has the attacks).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from kernel_sandbox.text.lines import LINE_ENDS

HIDDEN_RANGES = (
    (0x0000, 0x0008),  # C0, but tab and line feed
    (0x000B, 0x001F),
    (0x007F, 0x009F),  # DEL and C1
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x061C, 0x061C),  # Arabic letter mark
    (0x115F, 0x1160),  # fillers of Hangul
    (0x17B4, 0x17B5),  # inherent vowels of Khmer
    (0x180B, 0x180F),  # variation selectors of Mongolian
    (0x200B, 0x200F),  # zero width; marks of direction
    (0x2028, 0x202E),  # separators of lines and paragraphs; embeddings and overrides of direction
    (0x2060, 0x206F),  # word joiner, invisible operators, isolates
    (0x3164, 0x3164),  # filler of Hangul
    (0xD800, 0xDFFF),  # surrogates
    (0xFDD0, 0xFDEF),  # noncharacters
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),  # filler of Hangul, half width
    (0xFFF0, 0xFFFB),  # reserved as ignorable; interlinear annotation
    (0xFFFE, 0xFFFF),
    (0x13430, 0x1343F),  # joiners of hieroglyphs
    (0x1BCA0, 0x1BCA3),  # controls of shorthand
    (0x1D173, 0x1D17A),  # controls of music
    (0xE0000, 0xE0FFF),  # tags, variation selectors
    *((plane << 16 | 0xFFFE, plane << 16 | 0xFFFF) for plane in range(1, 17)),
)
_BLANK = "\u2800\U0001d159"
"""Without ink, though Unicode counts them as symbols. They hide nothing in an output, as a space hides nothing."""
MAX_MARKS = 8
"""Combining marks on one letter; more cover the lines around it. The longest of a language has eight (Tibetan)."""

_HIDDEN = "".join(f"{chr(first)}-{chr(last)}" for first, last in HIDDEN_RANGES)
# Scripts whose letters are joined and parted by U+200C and U+200D: Arabic to Mongolian, their later blocks.
_JOINED = (
    "\u0600-\u061b\u061d-\u109f\u1200-\u17b3\u17b6-\u180a\u1810-\u1cff\ua840-\ua8ff\ua930-\uabff\ufb50-\ufdcf\ufdf0-\ufdff"
    "\ufe70-\ufefc\U00010a00-\U00011fff\U0001e900-\U0001e95f"
)
_PICTOGRAPHS = "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_VARIED = "\u1000-\u109f\u2205-\u2aff\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff1f"
"""What StandardizedVariants.txt has variants of. Ideographic selectors (U+E0100 on) are spelled out: 240 of them
behind every ideograph would be a second text."""
_FLAGS = "|".join("".join(chr(0xE0000 + ord(letter)) for letter in nation) for nation in ("gbeng", "gbsct", "gbwls"))
_HONEST = "|".join(
    (
        rf"(?<=[{_JOINED}])[\u200c\u200d]",
        rf"(?<=[{_PICTOGRAPHS}])[\ufe0e\ufe0f\u200d]",
        rf"(?<=[{_PICTOGRAPHS}]\ufe0f)\u200d",
        r"(?<=[0-9#*])\ufe0f(?=\u20e3)",
        rf"(?<=[{_VARIED}])[\ufe00-\ufe02]",
        r"(?<=[\u1820-\u18aa])[\u180b-\u180f]",
        rf"(?<=\U0001f3f4)(?:{_FLAGS})\U000e007f",  # Unicode's emoji-sequences.txt has these three
    )
)
_STAYS = re.compile(rf"(?=[\u180b-\u180f\u200c\u200d\ufe00-\ufe0f\U000e0067])(?:{_HONEST})")
_HIDDEN_ASCII = "".join(f"{chr(first)}-{chr(min(last, 0x7F))}" for first, last in HIDDEN_RANGES if first < 0x80)
_ANY, _ANY_ASCII = re.compile(f"[{_HIDDEN}]"), re.compile(f"[{_HIDDEN_ASCII}]")
"""Whether there is one at all, which is the quicker question."""
_IN_SOURCE = re.compile(rf"[{_HIDDEN}{_BLANK}]")
_NO_LETTERS = re.compile(rf"[^\w\s\x00-\u02ff]{{{MAX_MARKS + 1},}}")
"""Where marks may be too many: they are neither letters nor digits to Python."""

Spelling = Callable[[str], str]


def escaped(character: str) -> str:
    """Write a character as Python's escape."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def pictured(character: str) -> str:
    """Write a character as its picture, where Unicode has one (block Control Pictures), else as Python's escape."""
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else escaped(character)


def visible(text: str, spelling: Spelling = escaped) -> str:
    """Spell out the characters of an output that hide something or reorder it; tabs and newlines stay."""
    if text.isascii():
        return text.translate(_spelled(spelling)) if _ANY_ASCII.search(text) else text
    if _ANY.search(text):
        text = _spell_out(text, _spelled(spelling))
    return _NO_LETTERS.sub(lambda found: _without_floods(found[0], spelling), text)


@functools.cache
def _spelled(spelling: Spelling) -> dict[int, str]:
    """Return the table for str.translate: megabytes of what hides take the time of as many letters, about."""
    return {code: spelling(chr(code)) for first, last in HIDDEN_RANGES for code in range(first, last + 1)}


def _spell_out(text: str, table: dict[int, str]) -> str:
    made, place = [], 0
    for stays in _STAYS.finditer(text):
        made += [text[place : stays.start()].translate(table), stays[0]]
        place = stays.end()
    return "".join([*made, text[place:].translate(table)])


def visible_source(source: str, spelling: Spelling = escaped) -> str:
    """Spell out every character of a program that does not print; what ends a line without looking so, ends it here."""
    source = source.replace("\r\n", "\n")
    if source.isascii() and not _ANY_ASCII.search(source):
        return source
    shown = "".join(_in_source(character, spelling) for character in source)
    return _NO_LETTERS.sub(lambda found: _without_floods(found[0], spelling), shown)


def hides(text: str) -> bool:
    """Return whether a text has characters that hide something."""
    return visible(text) != text


def _in_source(character: str, spelling: Spelling) -> str:
    if character in "\n\t" or (character.isprintable() and not _IN_SOURCE.match(character)):
        return character
    return spelling(character) + ("\n" if character in LINE_ENDS else "")


def _without_floods(text: str, spelling: Spelling) -> str:
    """Spell out the marks that a letter has beyond MAX_MARKS. None of `text` is a letter; it may stand behind one."""
    made, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        made.append(spelling(character) if marks > MAX_MARKS else character)
    return "".join(made)
