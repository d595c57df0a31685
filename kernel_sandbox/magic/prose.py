"""Markdown and LaTeX of a sandbox or a model, in which nothing can run or be fetched by itself. Pure.

A running cell's outputs are trusted by JupyterLab: HTML within Markdown is put into the page as it is, scripts and all.
Whether a place is code can't be told without the very parser that will render it (a backslash before a backtick, a
tilde in the middle of a line), so what stands in code is made harmless too: there by a character without width, which
keeps the code readable, elsewhere by a character reference, which every dialect of Markdown takes for text
(https://spec.commonmark.org/0.31.2/#entity-and-numeric-character-references).
"""

from __future__ import annotations

import re

WORD_JOINER = "\u2060"
_CODE = re.compile(r"(^```.*?(?:^```|\Z)|^~~~.*?(?:^~~~|\Z)|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
_TAG = r"<(?=[A-Za-z/!?])"
_PICTURE = r"!(?=\[)"
# A destination: the web, mail, a part of the page, or a path. No scheme may hide behind a reference or a backslash.
_SAFE = r"\s*(?:<?(?:https?://|mailto:|\#)|[\w./-]*\)|[\w./-]+(?:[?#]|\s+[\"']|\s*$))"
_LINK = rf"(?<=\])[ \t]*[(](?!{_SAFE})"
_DEFINITION = rf"(?<=\])[ \t]*:(?!{_SAFE})"
_LIVE = re.compile(
    rf"(?P<tag>{_TAG})|(?P<picture>{_PICTURE})|(?P<link>{_LINK}|{_DEFINITION})", re.IGNORECASE | re.MULTILINE
)
_IN_CODE = re.compile(rf"{_TAG}|{_PICTURE}|(?<=\]\()(?=\s*[^\s)]*[:&\\])|^ {{0,3}}\[[^\]\n]+\](?=:)", re.MULTILINE)
_MATHS = re.compile(r"\\(?:href|url|html[A-Za-z]*|class|cssId|style|require|unicode|includegraphics|mmlToken|data)\b")


def harmless_markdown(text: str) -> str:
    """Return Markdown whose HTML is text, whose pictures are links, and whose links lead to the web or nowhere."""
    parts = _CODE.split(harmless_latex(text))
    return "".join(
        _IN_CODE.sub(_part, part) if place % 2 else _LIVE.sub(_escape, part) for place, part in enumerate(parts)
    )


def harmless_latex(text: str) -> str:
    """Return LaTeX without the macros of MathJax that make links, load extensions or set attributes."""
    return _MATHS.sub(lambda match: match[0].replace("\\", "\\ "), text)


def _escape(match: re.Match[str]) -> str:
    if match["tag"]:
        return "&lt;"
    return "&#33;" if match["picture"] else match[0][:-1] + f"&#{ord(match[0][-1])};"


def _part(match: re.Match[str]) -> str:
    return match[0] + WORD_JOINER
