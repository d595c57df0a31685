"""The colours of a text as state, and none in which it cannot be read. Pure.

Select Graphic Rendition (ECMA-48, section 8.3.117, with the colours of ITU-T T.416) sets weight, slant, lines, reverse
and colours. Concealed (8) and blinking (5, 6) text is not let through. A text in the colour of its background, or
nearly, is shown in black or white; and since nobody knows what a terminal's or a page's own background is, a colour
near black or near white gives way to the default where the background is the default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

Channels = tuple[int, int, int]
Colour = int | Channels
"""A place in xterm's palette of 256, of which the first 16 are the user's own; or red, green and blue."""
_OFF = {22: {1, 2}, 23: {3}, 24: {4, 21}, 25: set(), 27: {7}, 28: set(), 29: {9}}
_ON = {1, 2, 3, 4, 7, 9, 21}
_BLACK, _WHITE = 16, 231
_FAINT = 2
_PRIMARIES = [(bits & 1, bits >> 1 & 1, bits >> 2) for bits in range(8)]
_BRIGHT = [(red * 255, green * 255, blue * 255) for red, green, blue in _PRIMARIES[1:]]
_XTERM = [(red * 205, green * 205, blue * 205) for red, green, blue in _PRIMARIES[:7]]
_VGA = [(red * 128, green * 128, blue * 128) for red, green, blue in _PRIMARIES[:7]]
_PALETTES = (
    (*_XTERM, (229, 229, 229), (127, 127, 127), *_BRIGHT),
    (*_VGA, (192, 192, 192), (128, 128, 128), *_BRIGHT),
)
"""The sixteen as the brightest and the darkest of known terminals have them; others lie between, or near."""
_LEVELS = (0, 95, 135, 175, 215, 255)
LEAST_CONTRAST = 1.7
"""WCAG 2.1's contrast ratio, which is 1 for equal colours. Programs go down to 2 (red on black)."""
LEAST_WITH_NAMED = 2.2
"""Where one of the two is the user's own, and may be somewhat different."""
_DARKEST, _LIGHTEST = 0x48, 0xC4
"""Backgrounds of terminals have no channel above the one, or none below the other (Nord, Gruvbox light)."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a text looks: None is a default colour."""

    foreground: Colour | None = None
    background: Colour | None = None
    styles: frozenset[int] = frozenset()

    @property
    def sequence(self) -> str:
        """Write the sequence that sets this look, whatever was before it."""
        colours = [*_codes(38, self.foreground), *_codes(48, self.background)]
        return f"\x1b[{';'.join(map(str, [0, *sorted(self.styles), *colours]))}m"


class Colours:
    """Follows the colours of one text, sequence by sequence, and says what to send in place of each."""

    def __init__(self) -> None:
        self._asked = self._shown = Look()

    def take(self, parameters: str) -> str | None:
        """Return the sequence to send for one with these parameters, or None where it is nothing to send."""
        asked = _changed(self._asked, parameters)
        if asked is None:
            return None
        same = self._asked == self._shown
        self._asked, self._shown = asked, legible(asked)
        return f"\x1b[{parameters}m" if same and self._shown == asked else self._shown.sequence


def legible(look: Look) -> Look:
    """Return a look in which text can be read: the same, where it can be."""
    foreground, background = look.foreground, look.background
    if background is None:
        return replace(look, foreground=None) if foreground is not None and _may_be_background(foreground) else look
    if foreground is None or not _differ(foreground, background, bold=1 in look.styles):
        foreground = max(_BLACK, _WHITE, key=lambda colour: contrast(colour, background))
    # Faint text is nearer to its background than its colour says.
    return Look(foreground, background, look.styles - {_FAINT})


def contrast(one: Colour, other: Colour) -> float:
    """Return the least contrast ratio of two colours, 1 to 21 (https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio)."""
    return min(_contrast(_rgb(one, palette), _rgb(other, palette)) for palette in _PALETTES)


def _contrast(one: Channels, other: Channels) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _changed(look: Look, parameters: str) -> Look | None:
    """Return the look after a sequence; None where it sets anything but colours and plain styles."""
    numbers = _numbers(parameters)
    while numbers:
        first = numbers.pop(0)
        if first in (38, 48):
            colour, numbers = _colour(numbers)
            if colour is None:
                return None
            look = replace(look, foreground=colour) if first == 38 else replace(look, background=colour)
        elif (changed := _styled(look, first)) is None:
            return None
        else:
            look = changed
    return None if numbers is None else look


def _numbers(parameters: str) -> list[int] | None:
    """Read parameters. T.416 parts those of one colour by colons, with a place for a colour space: 38:2::1:2:3."""
    numbers: list[int] = []
    for part in parameters.split(";"):
        first, *rest = part.split(":")
        if rest:
            if first not in ("38", "48"):
                return None
            rest = [rest[0], *rest[2:]] if rest[0] == "2" and len(rest) > 4 else rest
        numbers += [int(number or 0) for number in (first, *rest)]
    return numbers


def _colour(numbers: list[int]) -> tuple[Colour | None, list[int]]:
    """Read a colour of the palette or of three channels, and return what follows it."""
    size = {5: 1, 2: 3}.get(numbers[0] if numbers else 0, 0)
    values = numbers[1 : 1 + size]
    if not size or len(values) < size or max(values) > 255:
        return None, []
    return (values[0] if size == 1 else (values[0], values[1], values[2])), numbers[1 + size :]


def _styled(look: Look, number: int) -> Look | None:
    if number == 0:
        return Look()
    if number in _ON:
        return replace(look, styles=look.styles | {number})
    if number in _OFF:
        return replace(look, styles=look.styles - _OFF[number])
    tens, place = divmod(number, 10)
    if tens in (3, 9) and (place < 8 or number == 39):
        return replace(look, foreground=None if number == 39 else place + (8 if tens == 9 else 0))
    if tens in (4, 10) and (place < 8 or number == 49):
        return replace(look, background=None if number == 49 else place + (8 if tens == 10 else 0))
    return None


def _codes(kind: int, colour: Colour | None) -> list[int]:
    if colour is None:
        return []
    if isinstance(colour, tuple):
        return [kind, 2, *colour]
    if colour < 16:
        return [kind - 8 + colour if colour < 8 else kind + 52 + colour - 8]
    return [kind, 5, colour]


def _rgb(colour: Colour, palette: Sequence[Channels] = _PALETTES[0]) -> Channels:
    if isinstance(colour, tuple):
        return colour
    if colour < 16:
        return palette[colour]
    if colour >= 232:
        return (8 + 10 * (colour - 232),) * 3
    place = colour - 16
    return _LEVELS[place // 36], _LEVELS[place // 6 % 6], _LEVELS[place % 6]


def _luminance(rgb: Channels) -> float:
    """Compute the relative luminance, 0 to 1 (https://www.w3.org/TR/WCAG21/#dfn-relative-luminance)."""
    red, green, blue = (v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _is_named(colour: Colour) -> bool:
    return isinstance(colour, int) and colour < 16


def _differ(foreground: Colour, background: Colour, *, bold: bool) -> bool:
    """Return whether text in the one colour can be read on the other."""
    if bold and isinstance(foreground, int) and foreground < 8 and not _contrasts(foreground + 8, background):
        return False  # many terminals show bold text in the brighter colour of that name
    return _contrasts(foreground, background)


def _contrasts(one: Colour, other: Colour) -> bool:
    least = LEAST_WITH_NAMED if _is_named(one) != _is_named(other) else LEAST_CONTRAST
    return contrast(one, other) >= least


def _may_be_background(colour: Colour) -> bool:
    """Return whether a terminal or a page may have this colour as its background."""
    if _is_named(colour):
        return colour in (0, 7, 8, 15)
    return max(_rgb(colour)) <= _DARKEST or min(_rgb(colour)) >= _LIGHTEST
