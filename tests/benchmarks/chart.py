"""Bars beside a line at 1, as an SVG without scripts that brings its own background, light or dark. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tests.benchmarks.sides import LOCAL, SIDES

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 300, 190, 78, 30
BAR, GAP, BETWEEN = 15, 3, 16
"""Heights: of a bar, between two of a group, between two groups."""
COLOURS = {LOCAL: ("#8c959f", "#7d8590"), "docker": ("#0969da", "#58a6ff"), "bubblewrap": ("#1a7f37", "#3fb950")}
"""On a light and on a dark background."""
STYLE = """
text { font: 13px -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 12px; fill: #59636e }
.told { stroke: #ffffff; stroke-width: 3px; paint-order: stroke }
.paper { fill: #ffffff; stroke: #d1d9e0 }
.one { stroke: #59636e; stroke-dasharray: 4 3 }
"""
DARK = """
text { fill: #f0f6fc } .small { fill: #b1bac4 } .paper { fill: #0d1117; stroke: #3d444d } .one { stroke: #b1bac4 }
.told { stroke: #0d1117 }
"""


@dataclass(frozen=True)
class Bars:
    """A group of bars: of each side how long, beside the reference's 1, and what is written behind it."""

    name: str
    lengths: dict[str, float]
    texts: dict[str, str]


def drawn(groups: Sequence[Bars], title: str = "Beside a bare local kernel (= 1): shorter is better") -> str:
    """Return the SVG."""
    most = max([1.0, *(length for group in groups for length in group.lengths.values())])
    scale = (WIDTH - LEFT - RIGHT) / most
    parts, y = [*_legend()], float(TOP)
    for group in groups:
        middle = y + len(group.lengths) * (BAR + GAP) / 2
        parts.append(f'<text x="{LEFT - 12}" y="{middle + 3:.0f}" text-anchor="end">{escape(group.name)}</text>')
        for side in [side for side in SIDES if side in group.lengths]:
            width = max(group.lengths[side] * scale, 1)
            parts.append(f'<rect class="{side}" x="{LEFT}" y="{y:.0f}" width="{width:.1f}" height="{BAR}" rx="2"/>')
            told = escape(group.texts[side])
            parts.append(f'<text class="small told" x="{LEFT + width + 6:.1f}" y="{y + BAR - 3:.0f}">{told}</text>')
            y += BAR + GAP
        y += BETWEEN
    height = int(y - BETWEEN + BOTTOM)
    line = f'<line class="one" x1="{LEFT + scale:.1f}" x2="{LEFT + scale:.1f}" y1="{TOP - 6}" y2="{height - 22}"/>'
    head = f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
    head += f'\n<text class="title" x="20" y="30">{escape(title)}</text>'
    # The line lies below the bars and the texts.
    body = "\n".join([head, line, *parts])
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<title>{escape(title)}</title>'
    return f"{opening}\n<style>{_style()}</style>\n{body}\n</svg>\n"


def _style() -> str:
    light, dark = ("".join(f".{side} {{ fill: {COLOURS[side][n]} }} " for side in SIDES) for n in (0, 1))
    return f"{STYLE}{light}\n@media (prefers-color-scheme: dark) {{{DARK}{dark}}}\n"


def _legend() -> list[str]:
    parts, x = [], 20
    for side in SIDES:
        name = "bare local kernel" if side == LOCAL else side
        parts.append(f'<rect class="{side}" x="{x}" y="45" width="12" height="12" rx="2"/>')
        parts.append(f'<text class="small" x="{x + 18}" y="56">{name}</text>')
        x += 46 + 7 * len(name)
    return parts
