"""Text in colours, read as rich reads it: what hides by its colour, and how far a text stands out."""

from __future__ import annotations

from rich.ansi import AnsiDecoder
from rich.color import Color
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME

HIDING = {
    "8 colours": "\x1b[31;41mhidden",
    "black on black": "\x1b[30;40mhidden",
    "one after the other": "\x1b[44m-\x1b[34mhidden",
    "16 colours": "\x1b[92;102mhidden",
    "bold is brighter": "\x1b[1;30;100mhidden",
    "256 colours": "\x1b[38;5;196;48;5;196mhidden",
    "256 and 16": "\x1b[38;5;9;101mhidden",
    "true colour": "\x1b[38;2;12;34;56;48;2;12;34;56mhidden",
    "true colour and 256": "\x1b[48;5;196;38;2;255;0;0mhidden",
    "nearly": "\x1b[38;2;120;120;120;48;2;130;128;126mhidden",
    "grey steps": "\x1b[38;5;240;48;5;241mhidden",
    "colons": "\x1b[38:2::9:9:9;48:2:9:9:9mhidden",
    "reverse": "\x1b[7;32;42mhidden",
    "faint": "\x1b[2;38;2;200;200;200;48;2;90;90;90mhidden",
    "black": "\x1b[30mhidden",
    "white": "\x1b[97mhidden",
    "a theme's dark": "\x1b[38;2;0;43;54mhidden",
    "a theme's light": "\x1b[38;5;230mhidden",
    "a black background": "\x1b[40mhidden",
    "a white background": "\x1b[107mhidden",
    "concealed": "\x1b[8mhidden",
    "concealed among others": "\x1b[1;8;31mhidden",
    "undone": "\x1b[31m\x1b[39;49;7;97mhidden",
}
READABLE = 1.5
"""The least contrast at which a text is noticed."""


def contrasts(shown: str) -> list[float]:
    """The contrast of each piece of a line with its background, on a black terminal and on a white one."""
    found = []
    for piece in AnsiDecoder().decode_line(shown).render(Console(width=400, color_system="truecolor")):
        style = piece.style
        if style is None or not piece.text.strip():
            continue
        for own, paper in (((255, 255, 255), (0, 0, 0)), ((0, 0, 0), (255, 255, 255))):
            front, back = _luminance(style.color, own), _luminance(style.bgcolor, paper)
            found.append((max(front, back) + 0.05) / (min(front, back) + 0.05))
    return found


def _luminance(colour: Color | None, default: tuple[int, int, int]) -> float:
    """The relative luminance (WCAG 2.1), of rich's own palette."""
    known = colour is not None and not colour.is_default
    return luminance(tuple(colour.get_truecolor(DEFAULT_TERMINAL_THEME)) if colour is not None and known else default)


def luminance(channels: tuple[int, ...]) -> float:
    """The relative luminance of red, green and blue (WCAG 2.1)."""
    linear = [v / 255 / 12.92 if v <= 10 else float(((v / 255 + 0.055) / 1.055) ** 2.4) for v in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
