"""MIME bundles of a sandbox as a notebook may show them. Pure.

What a running cell shows, JupyterLab takes as trusted: HTML and SVG are put into the page with their scripts, and
JavaScript is run, with the user's token, which is to say on the host. So kinds are on a list, and of those on it
nothing that can run is left: pictures as they are, tables rebuilt from their data, SVG within <img> (no scripts, no
loading: https://svgwg.org/svg2-draft/conform.html#secure-static-mode), Markdown and LaTeX made harmless, and any other
HTML in a frame of its own without scripts, forms, or an origin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any, Literal

from kernel_sandbox.doors.magic.front_end import Bundle
from kernel_sandbox.doors.magic.html_tables import table_html
from kernel_sandbox.session.outputs import RASTERS, bundle_text, image_element, is_unspoken, picture_of
from kernel_sandbox.session.outputs.pictures import SVG
from kernel_sandbox.session.outputs.tables import TABLE_TYPE
from kernel_sandbox.show.markdown import harmless_latex, harmless_markdown
from kernel_sandbox.show.policy import POLICY_TAGS
from kernel_sandbox.text.ansi import clean_terminal_text
from kernel_sandbox.text.characters import visible

Display = Literal["isolated", "text", "trusted"]

MAX_HTML = 2 * 1024 * 1024
"""Characters of one text/html in a frame; a longer one is shown as its text."""
LOWEST, HIGHEST = 60, 480
"""Pixels: a frame without scripts can't tell how high it is, so its height is guessed, and the user can drag it."""
_FRAME_HEAD = (
    f'{POLICY_TAGS}<meta http-equiv="x-dns-prefetch-control" content="off">'
    "<style>body{margin:4px;font:13px/1.4 system-ui,sans-serif;color:#222;background:#fff}"
    "table{border-collapse:collapse;font-size:12px}td,th{padding:3px 8px;text-align:right}"
    "tr:nth-child(even){background:#f5f5f5}</style>"
)
_UNSEEN = "[HTML of the sandbox: run the cell to see it]"
"""What remains of a frame where frames are taken out: in a notebook that is not trusted, on GitHub."""
# A name is looked up ahead of need, whatever the policy says of requests, and could carry data away.
_HINTS = re.compile(r"<(?=/?(?:link|meta|base)\b)", re.IGNORECASE)
_LINES = re.compile(r"<(?:p|br|tr|li|h[1-6]|hr|div|pre)\b|\n", re.IGNORECASE)


def safe_bundle(data: Mapping[str, Any], metadata: Mapping[str, Any], display: Display) -> Bundle:
    """Make a bundle that may be shown beside the user's own outputs; "trusted" leaves it as it is."""
    if display == "trusted":
        return dict(data), dict(metadata)
    made: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for kind in RASTERS:
        if isinstance(data.get(kind), str) and picture_of({kind: data[kind]}) is not None:
            made[kind] = data[kind]
            kept |= _picture_metadata(kind, metadata)
    if display == "isolated":
        made |= _isolated(data, metadata)
    made["text/plain"] = _plain(data, made)
    return made, kept


def _isolated(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, str]:
    """Make the kinds beyond pictures and text."""
    made: dict[str, str] = {}
    for kind, harmless in (("text/markdown", harmless_markdown), ("text/latex", harmless_latex)):
        if isinstance(data.get(kind), str):
            made[kind] = harmless(data[kind])
    html = _html(data, metadata)
    if html is not None:
        made["text/html"] = html
    if "application/json" in data:
        made["application/json"] = _visible_json(data["application/json"])
    return made


def _visible_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {visible(name): _visible_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_visible_json(item) for item in value]
    return visible(value) if isinstance(value, str) else value


def _html(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    svg, html = data.get(SVG), data.get("text/html")
    table = table_html(data, metadata)
    if table is not None:
        return table
    if isinstance(svg, str):
        return image_element(SVG, svg.encode("utf-8", "replace"), "SVG of the sandbox")
    if isinstance(html, str) and len(html) <= MAX_HTML:
        return frame(html)
    return None


def frame(html: str) -> str:
    """Put HTML into a frame that has no rights at all: no script, no form, an origin of its own."""
    lines = len(_LINES.findall(html, 0, 20_000))
    height = min(max(LOWEST, 22 * lines + 40), HIGHEST)
    document = f"<!DOCTYPE html>{_FRAME_HEAD}{_HINTS.sub('&lt;', html)}"
    return (
        f'<iframe sandbox="" referrerpolicy="no-referrer" title="HTML of the sandbox, isolated" '
        f'style="width:100%;height:{height}px;border:1px solid #ddd;border-radius:3px;resize:vertical" '
        f'srcdoc="{escape(document, quote=True)}">{_UNSEEN}</iframe>'
    )


def _plain(data: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    """Give the bundle's text, and say so where something that the user might expect to see is not shown."""
    text = clean_terminal_text(bundle_text(data) if made or "text/plain" in data else "")
    hidden = [kind for kind in data if kind not in made and kind != "text/plain" and not _shown_otherwise(kind, made)]
    if made or not hidden:
        return text
    note = f"[{', '.join(hidden[:3])} of the sandbox is not shown here]"
    return note if is_unspoken(text) or not text else f"{text}\n{note}"


def _shown_otherwise(kind: str, made: Mapping[str, Any]) -> bool:
    return "text/html" in made and kind in (SVG, TABLE_TYPE)


def _picture_metadata(kind: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the size that a picture is to be shown in."""
    about = metadata.get(kind)
    sizes = {name: about.get(name) for name in ("width", "height")} if isinstance(about, Mapping) else {}
    kept = {name: size for name, size in sizes.items() if isinstance(size, int | float) and 0 < size < 10_000}
    return {kind: kept} if kept else {}
