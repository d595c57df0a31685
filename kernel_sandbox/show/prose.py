"""A scrubbed notebook as Markdown that is harmless in whatever renders it, raw HTML allowed or not. Pure.

Markdown has many dialects, so nothing is parsed here, and no fence is trusted to stay closed. What could begin a tag,
a link that runs, a picture from elsewhere, an attribute or a drawing (JupyterLab draws fences of Mermaid's, and loads
the pictures that they name) is written as a character reference, which every dialect takes for text and none for
syntax (https://spec.commonmark.org/0.31.2/#entity-and-numeric-character-references).
Prose is treated so everywhere; code and outputs stand in a fence as they are where there is nothing of the kind, and
else, treated so, in a `<pre>`. nbconvert's template is of no use here: its fences end where a text says so.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kernel_sandbox.session.outputs import picture_of
from kernel_sandbox.text.ansi import SGR
from kernel_sandbox.text.characters import visible, visible_source

# A destination that is a place on the web, an address or a part of the page; or that has no scheme at all. A scheme may
# be hidden behind a backslash or a character reference, so those are not allowed before the first slash.
_DESTINATION = r"""(?:https?://|mailto:|\#|[^\s:&\\<()]*(?:[)/?#]|[ \t]+["']|\Z))"""
_LIVE = re.compile(
    rf"""
    !\[ [^\[\]]* \]\( attachment: (?P<attachment>[^()\s]+) \)
    | (?P<tag> <) (?=[a-z/!?])
    | (?P<picture> !) (?=\[)
    | (?<=\]) (?P<space> \s*) (?P<link> [(:]) (?!\s*{_DESTINATION})
    | \b (?P<attribute> on[a-z]+ | href | src | srcdoc) = (?=[^\s=])
    | (?P<drawing> `{{3}}|~{{3}}) (?=[^\n]*mermaid)
    | (?P<macro> \\) (?=(?:href|url|html[a-z]*|includegraphics|require|unicode|mmltoken)\b)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def write_markdown(notebook: Mapping[str, Any]) -> str:
    """Write a scrubbed notebook as Markdown: prose, code, and what it showed; pictures as data URIs."""
    language = notebook["metadata"]["language_info"]["name"]
    parts = [part for cell in notebook["cells"] for part in _cell(cell, language) if part.strip()]
    return "\n\n".join(parts) + "\n"


def _cell(cell: Mapping[str, Any], language: str) -> Iterable[str]:
    if cell["cell_type"] == "markdown":
        yield _prose(cell["source"], cell.get("attachments", {}))
    elif cell["cell_type"] == "raw":
        yield _verbatim(cell["source"], "text")
    else:
        yield _verbatim(visible_source(cell["source"]), language)
        for output in cell["outputs"]:
            yield _output(output)


def _output(output: Mapping[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _verbatim(output["text"], "text")
    if output["output_type"] == "error":
        return _verbatim("\n".join(output["traceback"]), "text")
    data = output["data"]
    picture = picture_of(data)
    if picture:
        return _image(picture.kind, base64.b64encode(picture.data).decode())
    kind = next((kind for kind in ("text/markdown", "text/latex") if kind in data), None)
    return _prose(data[kind], {}) if kind else _verbatim(data["text/plain"], "text")


def _image(kind: str, encoded: str) -> str:
    return f"![figure](data:{kind};base64,{encoded})"


def _prose(source: str, attachments: Mapping[str, Mapping[str, str]]) -> str:
    def shown(match: re.Match[str]) -> str:
        bundle = attachments.get(match["attachment"] or "", {})
        return next((_image(kind, encoded) for kind, encoded in bundle.items()), "") or _neutral(match)

    return _LIVE.sub(shown, _text(source)).strip("\n")


def _neutral(match: re.Match[str]) -> str:
    """Write the one character that makes a place live as a reference."""
    if match["attachment"]:
        return "&#33;" + _LIVE.sub(_neutral, match[0][1:])
    if match["attribute"]:
        return f"{match['attribute']}&#61;"
    if match["tag"]:
        return "&lt;"
    live = match["picture"] or match["link"] or match["macro"] or match["drawing"]
    return f"{match['space'] or ''}{''.join(f'&#{ord(character)};' for character in live)}"


def _text(text: str) -> str:
    return visible(SGR.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def _verbatim(text: str, language: str) -> str:
    text = _text(text).strip("\n")
    if not text.strip():
        return ""
    if _LIVE.search(text):
        return f"<pre>\n{_LIVE.sub(_neutral, text.replace('&', '&amp;'))}\n</pre>"
    # An info string, always: a line with one never ends a fence that prose has left open.
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
