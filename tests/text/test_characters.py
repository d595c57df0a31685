"""The table of characters that hide something, against Unicode's own; and honest text, which stays as it is."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_sandbox.text.characters import HIDDEN_RANGES, escaped, hides, pictured, visible, visible_source

HIDDEN = {chr(code) for first, last in HIDDEN_RANGES for code in range(first, last + 1)}
# Default_Ignorable_Code_Point of DerivedCoreProperties.txt, Unicode 15.1, copied from there.
IGNORABLE = """
00AD 034F 061C 115F..1160 17B4..17B5 180B..180F 200B..200F 202A..202E 2060..206F 3164 FE00..FE0F FEFF FFA0 FFF0..FFF8
1BCA0..1BCA3 1D173..1D17A E0000..E0FFF
"""
# Prepended_Concatenation_Mark of PropList.txt: format characters that have a shape (signs of numbers, an ayah's end).
SHAPED = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
HONEST = {
    "Arabic": "السلام عليكم، بسم الله الرحمن الرحيم۝١",
    "Persian": "می‌خواهم کتاب‌ها را بخوانم",
    "Hebrew": "שָׁלוֹם עֲלֵיכֶם, מַה־נִּשְׁמַע?",
    "Hindi": "हिन्दी में क्‍ष और क्‌ष, श्रीमान्‌",
    "Sinhala": "ශ්‍රී ලංකාව",
    "Bengali": "র‍্যাব, বাংলা",
    "Thai": "ภาษาไทยที่นี่",
    "Tibetan": "ཧྐྵྨླྺྼྻྂ བོད་སྐད",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ ᠪᠠᠶᠢᠨ᠎ᠠ",
    "Chinese": "漢字与汉字，標點︀。　全形空格",
    "Japanese": "日本語のカタカナとﾊﾝｶｸ",
    "Korean": "한국어 텍스트",
    "Vietnamese": unicodedata.normalize("NFD", "Tiếng Việt được"),
    "families": "👩‍👩‍👧‍👦 👩🏽‍🔬 🏳️‍🌈 ❤️‍🔥 🏴‍☠️",
    "keycaps and flags": "1️⃣ #️⃣ 🇳🇴 🏴󠁧󠁢󠁳󠁣󠁴󠁿 ☎︎ ©️ ™️",
    "bars and boxes": "█▉▊ ⣿⣷⠀⡀ ├── │ 100%▕",
    "mathematics": "∩︀ ≤ ∑ 𝔸 x̂ ȳ⃗",
    "symbols of private use": "\ue0b0 \uf113",
}


def ignorable() -> set[int]:
    ranges = [part.split("..") for part in IGNORABLE.split()]
    return {code for part in ranges for code in range(int(part[0], 16), int(part[-1], 16) + 1)}


def test_table_is_what_unicode_says_has_no_shape() -> None:
    noncharacters = {c for c in range(sys.maxunicode + 1) if c & 0xFFFE == 0xFFFE or 0xFDD0 <= c <= 0xFDEF}
    shapeless = ignorable() | noncharacters
    for code in range(sys.maxunicode + 1):
        kind = unicodedata.category(chr(code))
        unseen = kind in ("Cc", "Cf", "Zl", "Zp", "Cs") and code not in SHAPED and chr(code) not in "\n\t"
        # Egyptian joiners that this Python's Unicode does not know yet are the one thing beyond it.
        if unseen or code in shapeless:
            assert chr(code) in HIDDEN, f"U+{code:04X}"
        elif not 0x13430 <= code <= 0x1343F and not 0xFFF0 <= code <= 0xFFFB:
            assert chr(code) not in HIDDEN, f"U+{code:04X}"


@pytest.mark.parametrize("language", HONEST)
def test_honest_text_stays_as_it_is(language: str) -> None:
    assert visible(HONEST[language]) == HONEST[language]


@pytest.mark.parametrize(
    "character", sorted(HIDDEN - set(map(chr, range(0xE0000, 0xE1000))) - set(map(chr, range(0xD800, 0xE000))))
)
def test_hidden_character_is_spelled_out_between_letters(character: str) -> None:
    assert visible(f"a{character}b") == f"a{escaped(character)}b"
    assert escaped(character) in visible_source(f"a{character}b")


# What each character that honest text uses may not do elsewhere.
ABUSED = [
    "pri\u200dnt",
    "می\u200c\u200c\u200c\u200d\u200dخواهم",
    "🙂\ufe0f\ufe0f\ufe0e",
    "a\ufe0f\ufe01",
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in "run rm") + "\U000e007f",
    "漢" + "".join(chr(0xE0100 + n) for n in range(9)),
    "1\ufe0f",
    "ka\u180e\u180b",
    "\u200f(abc)\u200e",
    "\ufeffimport os",
    "x\u3164\u115f\u1160\uffa0 = 1",
    "ig\u00adnore",
    "a\ufff9hidden\ufffab\ufffb",
    "x\u2028y\u2029z\x85",
]


@pytest.mark.parametrize("text", ABUSED)
def test_what_honest_text_uses_is_spelled_out_where_it_has_no_effect(text: str) -> None:
    assert hides(text)
    assert len(set(visible(text)) & HIDDEN) <= 1


def test_flood_of_marks_is_spelled_out_beyond_what_a_language_has() -> None:
    shown = visible("a" + "\u0336\u0489" * 200 + "b")
    assert sum(unicodedata.category(c) in ("Mn", "Me") for c in shown) == 8
    assert shown.count("\\u0336") == 196
    assert not hides("⣿" * 500 + "→" * 500)


texts = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [*sorted(HIDDEN)[:200], "\u0300", "م", "🙂", "漢", "1", "\u20e3", "a", "\ufe0f", "\u200d", "\r", "\n"]
        )
    ).map("".join),
)


@given(texts)
def test_nothing_hidden_is_left_of_any_text(text: str) -> None:
    shown = visible(text)
    honest = {"\u200c", "\u200d", *map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0x180B, 0x1810))}
    left = [place for place, character in enumerate(shown) if character in HIDDEN]
    assert {shown[place] for place in left} <= honest | set(map(chr, range(0xE0020, 0xE0080)))
    assert all(shown[place - 1] not in HIDDEN - {"\ufe0f"} for place in left if shown[place] < "\U000e0000")
    assert visible(shown) == shown


@given(texts)
def test_source_prints_as_a_whole(source: str) -> None:
    for spelling in (escaped, pictured):
        shown = visible_source(source, spelling)
        assert all(character in "\n\t" or character.isprintable() for character in shown)
        assert not set(shown) & HIDDEN
        assert visible_source(shown, spelling) == shown
        assert visible(shown, spelling) == shown
        assert shown.count("\n") >= len(source.splitlines()) - 1


def test_what_ends_a_line_of_a_program_ends_it_on_the_screen() -> None:
    for end in ("\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"):
        assert visible_source(f"# harmless{end}evil()") == f"# harmless{escaped(end)}\nevil()"
    assert visible_source("a\r\nb") == "a\nb"
