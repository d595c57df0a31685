"""Markdown and LaTeX of a sandbox or a model, in which nothing can run or be fetched by itself. Pure.

The magics show it, and the agents' notebooks keep it. A running cell's outputs are trusted by JupyterLab: HTML within
Markdown is put into the page as it is, scripts and all; and a browser fetches pictures without being asked, from an
address that may carry the user's data away. Links to the web stay, for they wait for a click.

Whether a place is code can't be told without the very parser that will render it (a backslash before a backtick, a
tilde in the middle of a line), so what stands in code is made harmless too: there by a character without width, which
keeps the code readable, elsewhere by a character reference, which every dialect of Markdown takes for text
(https://spec.commonmark.org/0.31.2/#entity-and-numeric-character-references).
"""

from __future__ import annotations

import re

from kernel_sandbox.text.characters import visible

WORD_JOINER = "\u2060"
_CODE = re.compile(
    r"(^(?P<fence>`{3,})[^`\n]*$.*?(?:^[ ]{0,3}(?P=fence)`*[ \t]*$|\Z)"
    r"|^(?P<tildes>~{3,}).*?$.*?(?:^[ ]{0,3}(?P=tildes)~*[ \t]*$|\Z)|`[^`\n]*`)",
    re.DOTALL | re.MULTILINE,
)
# JupyterLab draws these fences, and a drawing loads the pictures that it names, at once. Other dialects read
# references and backslashes within a fence's word.
_DRAWING = re.compile(r"mermaid|[&\\]", re.IGNORECASE)
_FENCES = re.compile(r"(?:`{3,}|~{3,})(?!\Z)")
_WEB = r"<?(?:https?://|mailto:|\#)"
# A destination: the web, mail, a part of the page, or a path. No scheme may hide behind a reference or a backslash.
_SAFE = rf"\s*(?:{_WEB}|[\w./-]*\)|[\w./-]+(?:[?#\s]|\Z))"
_MACRO = r"(?:href|url|html[a-z]*|class|cssid|style|bbox|require|unicode|includegraphics|mmltoken|data)\b"
_LIVE = re.compile(
    rf"""
    < (?P<address> https?://[\w./?=&%#~+,;@:-]+ ) >
    | \\? (?P<tag> <) (?=[a-z/!?])
    | \\? (?P<picture> !) (?=\[)
    | (?<=\]) (?P<space> [ \t]*) (?P<link> [(:]) (?!{_SAFE})
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Not `x[1](2)` and `if x[1]:`, which are a program's; and a definition within a fence begins its line.
_UNSAFE = rf"(?!\s*{_WEB})(?=\s*+(?:<|[^\s)]{{0,200}}?[:&\\]))"
_IN_CODE = rf"<(?=[a-z/!?])|!(?=\[)|(?<=\])[ \t]*\({_UNSAFE}|\\(?={_MACRO})"
_LIVE_IN_SPAN = re.compile(rf"{_IN_CODE}|\](?=[ \t]*:\s*+<?\S{{0,200}}?[:&\\])", re.IGNORECASE)
_LIVE_IN_FENCE = re.compile(
    rf"{_IN_CODE}|^[ \t>*+.)\d-]*\[(?:[^\[\]\\]|\\.){{0,1000}}+\](?=[ \t]*:(?!\s*{_WEB}))",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_MATHS = re.compile(rf"\\(?={_MACRO})", re.IGNORECASE)


def harmless_markdown(text: str) -> str:
    """Return Markdown whose HTML is text, whose pictures are links, and whose links lead to the web or nowhere.

    What hides something in it is spelled out.
    """
    # Some renderers take some of what has no shape out, so that a tag closes up behind it.
    text = visible(text.replace("\r\n", "\n").replace("\r", "\n"))
    text = "\n".join(map(_undrawn, text.split("\n")))
    made, place = [], 0
    for code in _CODE.finditer(text):
        made += [_harmless_prose(text[place : code.start()]), _harmless_code(code)]
        place = code.end()
    return "".join([*made, _harmless_prose(text[place:])])


def harmless_latex(text: str) -> str:
    """Return LaTeX without the macros of MathJax that make links, load extensions or set attributes."""
    return _MATHS.sub(r"\\ ", visible(text))


def _undrawn(line: str) -> str:
    return _FENCES.sub(rf"\g<0>{WORD_JOINER}", line) if _DRAWING.search(line) else line


def _harmless_code(match: re.Match[str]) -> str:
    live = _LIVE_IN_FENCE if match["fence"] or match["tildes"] else _LIVE_IN_SPAN
    return live.sub(rf"\g<0>{WORD_JOINER}", match[0])


def _harmless_prose(text: str) -> str:
    return _LIVE.sub(_neutral, harmless_latex(text))


def _neutral(match: re.Match[str]) -> str:
    if match["address"]:
        return match["address"]
    live = match["tag"] or match["picture"] or match["link"]
    return f"{match['space'] or ''}&{'lt' if live == '<' else f'#{ord(live)}'};"
