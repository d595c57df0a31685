"""Where the command line's text goes: the two consoles, and lines from a sandbox printed on them.

What comes from a sandbox is always indented on a terminal, and folded here rather than by the terminal: a cell cannot
print a line that looks like one of ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.ansi import AnsiDecoder
from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS, Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from kernel_sandbox.terminal.safe import plain
from kernel_sandbox.text.ansi import visible_terminal_text
from kernel_sandbox.text.colours import Colours

INDENT = "  "
NEAR = 16
"""Characters of a line's end in which a space is looked for; not more, since a program's columns matter too."""


def make_console(*, stderr: bool = False) -> Console:
    """Make a console that prints what it is given: no markup, no emoji names, no highlighting of its own."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def show_error(message: str, *, word: str = "error") -> None:
    """Write one line about what went wrong to stderr. It may hold words of a sandbox or an engine."""
    text = Text.assemble((f"{word}: ", "bold red"), (plain(message), "red"))
    make_console(stderr=True).print(text, soft_wrap=True)


def make_table(*headings: str) -> Table:
    """Make a table in the manner of `ps`: headings and columns, no lines. SIZE and AGE stand to the right."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("SIZE", "AGE") else "left", overflow="fold")
    return table


class Decoder:
    """Reads the colours of one text of a sandbox, line by line: a colour goes on from one line to the next."""

    def __init__(self) -> None:
        self._colours = Colours()
        self._decoder = AnsiDecoder()

    def decode(self, line: str, style: str, console: Console) -> Text:
        """Make a line visible and draw it in its colours, over a `style` of ours."""
        safe = visible_terminal_text(line, self._colours)
        text = self._decoder.decode_line(safe) if "\x1b" in safe or self._decoder.style else Text(safe)
        text.expand_tabs(8)
        text.stylize_before(style)
        system = COLOR_SYSTEMS.get(console.color_system or "", ColorSystem.TRUECOLOR)
        text.spans = [span for span in text.spans if not _is_one_colour(span.style, system)]
        return text


def _is_one_colour(style: Style | str, system: ColorSystem) -> bool:
    """Return whether text and background are the same colour on a terminal that has few of them."""
    if not isinstance(style, Style) or style.color is None or style.bgcolor is None:
        return False
    return style.color.downgrade(system)[1:] == style.bgcolor.downgrade(system)[1:]


class Screen:
    """One place to print on. `live` is true for a terminal that can be drawn on, and a person who looks at it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        self.live = self.console.is_interactive and self.console.file.isatty()

    @property
    def width(self) -> int:
        return self.console.width

    def say(self, *parts: str | tuple[str, str]) -> None:
        """Print a line of our own, of texts and (text, style) pairs; what a user or a sandbox named is made visible."""
        safe = [plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts]
        self.console.print(Text.assemble(*safe), soft_wrap=True)

    def lines(self, lines: Iterable[str], style: str = "", decoder: Decoder | None = None) -> None:
        """Print lines from a sandbox. A `decoder` carries a colour over from one call to the next."""
        decoder = decoder or Decoder()
        if not self.live:
            texts = [Text(plain(line)) for line in lines]
        else:
            decoded = (decoder.decode(line, style, self.console) for line in lines)
            texts = [Text(INDENT) + part for text in decoded for part in fold(text, self.width - len(INDENT))]
        if texts:
            self.console.print(Text("\n").join(texts), soft_wrap=True)

    def table(self, table: Table) -> None:
        """Print a table of ours; where no terminal limits it, as wide as it needs."""
        if self.live:
            self.console.print(table)
            return
        wide = Console(file=self.console.file, width=1000)
        with wide.capture() as captured:
            wide.print(table)
        self.console.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())

    def flush(self) -> None:
        self.console.file.flush()


def fold(text: Text, width: int) -> Iterator[Text]:
    """Cut a text into pieces that fit a width: after a space where one is near, else anywhere."""
    if cell_len(text.plain) <= width:
        yield text
        return
    offsets, start, used = [], 0, 0
    for offset, character in enumerate(text.plain):
        size = cell_len(character)
        if used + size > max(width, 1):
            space = text.plain.rfind(" ", max(start + 1, offset - NEAR), offset)
            start = space + 1 if space > 0 else offset
            offsets.append(start)
            used = cell_len(text.plain[start:offset])
        used += size
    yield from text.divide(offsets)
