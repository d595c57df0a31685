"""The command lines of the magics: what they take, and their --help. Pure: errors are raised, nothing exits.

argparse and shell-like words, as IPython's own `magic_arguments` has them; `%sandbox COMMAND` needs sub-commands, which
those have not.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable
from typing import Any, NoReturn

from kernel_sandbox.doors.magic.sessions import DEFAULT
from kernel_sandbox.sandbox.engines import NAMES

SAFETY = ("off", "rules", "model")
_WORD = re.compile(r"(?:\"[^\"]*\"|'[^']*'|[^\s\"'])+\s*")
"""A word of a line with the spaces behind it; quotes hold words together."""


class BadOptions(Exception):
    """A command line that is not understood; the message ends with the way to the help."""


class HelpAsked(Exception):
    """--help was given; the message is the help."""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False, **options)
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="show this")

    def error(self, message: str) -> NoReturn:
        raise BadOptions(f"{message}. `{self.prog} --help` shows what there is.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise BadOptions(message or "")


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any, **options: Any) -> None:
        raise HelpAsked(parser.format_help())


def _names(text: str) -> list[str]:
    """Read `df` or `df,x`; every part a name of Python."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not name.isidentifier():
            raise argparse.ArgumentTypeError(f"{name!r} is not a variable's name")
    return names


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; 0 is for ever")
    return seconds


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--session", metavar="NAME", default=DEFAULT, help="which sandbox (default: default)")


def _add_sandbox(parser: argparse.ArgumentParser) -> None:
    """Add what describes a sandbox that is not open yet."""
    parser.add_argument("--engine", choices=NAMES, help="what starts it (default: the one that is ready)")
    parser.add_argument("--image", help="one of `kernel-sandbox image list` (default: datascience)")
    parser.add_argument("--memory", metavar="SIZE", help="such as 1g (default: 2g)")


CELL_HELP = """\
Run the cell in a sandbox: a kernel of its own, without network, files or packages of yours. Its variables stay
from cell to cell; what it shows appears here as it comes. The sandbox opens with the first cell.

"""
CELL_EXAMPLES = """\
examples:
  %%sandbox                            run the cell inside
  %%sandbox -i df                      df goes in: DataFrames, arrays, text, numbers, lists, dicts; never by pickle
  %%sandbox -o totals,best             and these come back when the cell has ended well
  %%sandbox --session trial --timeout 60 --memory 1g

%config KernelSandboxMagics.html = "isolated" | "text" | "trusted" says how its HTML is shown; "trusted" lets scripts
of the sandbox run with your authority. `%sandbox --help` has the commands.
"""


def cell_parser() -> argparse.ArgumentParser:
    """Make the parser of `%%sandbox`."""
    parser = _Parser(prog="%%sandbox", description=CELL_HELP, epilog=CELL_EXAMPLES)
    parser.add_argument(
        "-i", "--in", dest="inputs", metavar="VAR", type=_names, action="append", default=[], help="send"
    )
    parser.add_argument(
        "-o", "--out", dest="outputs", metavar="VAR", type=_names, action="append", default=[], help="fetch"
    )
    parser.add_argument("--timeout", metavar="S", type=_seconds, help="interrupt it after S seconds; 0 is for ever")
    _add_session(parser)
    _add_sandbox(parser)
    return parser


COMMANDS = {
    "start": "open a sandbox, and say what it has",
    "status": "what is open, and what it uses",
    "restart": "a fresh kernel: variables are gone, files under /mnt/data stay",
    "interrupt": "interrupt the cell that runs",
    "shutdown": "end the sandbox: variables and files are gone",
    "files": "list /mnt/data",
    "upload": "copy a file of yours into /mnt/data",
    "download": "copy a file out of /mnt/data",
    "save": "keep all cells so far as a notebook, from now on after every cell",
    "limits": "what the sandbox may use",
}
LINE_EXAMPLES = """\
examples:
  %sandbox start --image python --memory 1g
  %sandbox upload sales.csv
  %sandbox download totals.csv out/
  %sandbox save analysis.ipynb
  %sandbox shutdown --all

`%sandbox COMMAND --help` shows a command's options; `%%sandbox` on a cell's first line runs the cell inside.
"""


def line_parser() -> argparse.ArgumentParser:
    """Make the parser of `%sandbox COMMAND`."""
    parser = _Parser(
        prog="%sandbox", description="What can be done with a sandbox besides running cells.", epilog=LINE_EXAMPLES
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    made = {name: commands.add_parser(name, help=text, description=text) for name, text in COMMANDS.items()}
    for name, command in made.items():
        if name != "status":
            _add_session(command)
    _add_sandbox(made["start"])
    made["start"].add_argument("--cpus", type=float, metavar="N", help="processors' worth of time (default: 2)")
    made["start"].add_argument(
        "--mount", metavar="SRC[:NAME]", action="append", default=[], help="show it read-only at /mnt/input/NAME"
    )
    made["start"].add_argument("--save", metavar="FILE.ipynb", help="keep the cells as a notebook")
    made["shutdown"].add_argument("--all", action="store_true", help="end every sandbox of this notebook")
    made["files"].add_argument("directory", nargs="?", default="", metavar="DIR")
    made["upload"].add_argument("path", metavar="PATH")
    made["upload"].add_argument("name", nargs="?", metavar="NAME", help="its name inside (default: its own)")
    made["download"].add_argument("name", metavar="NAME")
    made["download"].add_argument("path", nargs="?", default=".", metavar="PATH")
    made["save"].add_argument("path", metavar="FILE.ipynb")
    return parser


ASK_HELP = """\
Ask an agent. It writes cells, runs them in the sandbox while you watch, and answers. {name} in the question is
replaced by that variable's text. Further questions of the same session remember the earlier ones.

"""
ASK_EXAMPLES = """\
examples:
  %ask --data df Which city sold most?
  %ask --data sales.csv --safety rules describe this table
  %%ask --data df --approve            the cell's text is the question
  %ask --cells plot sold by city       put the cells that it ran below, in place of its outputs

With OPENAI_API_KEY or OPENAI_BASE_URL a model of that server answers (--model). Without, two fixed analyses answer
"describe this table" and "what goes with COLUMN", as with --model offline, and no other question. The question,
previews of the data and what cells print go to the model's server.
"""


def ask_parser() -> argparse.ArgumentParser:
    """Make the parser of `%ask` and `%%ask`."""
    parser = _Parser(prog="%ask", usage="%(prog)s [options] QUESTION", description=ASK_HELP, epilog=ASK_EXAMPLES)
    parser.add_argument(
        "--data", metavar="VAR_OR_FILE", action="append", default=[], help="bring it into the sandbox first"
    )
    parser.add_argument("--model", metavar="NAME", help='such as o3-mini, or "offline"')
    parser.add_argument("--reasoning-effort", choices=("low", "medium", "high"), help="for reasoning models")
    parser.add_argument("--approve", action="store_true", help="ask before each cell")
    parser.add_argument("--safety", choices=SAFETY, default="off", help="look at each cell before it runs; advice only")
    parser.add_argument("--cells", action="store_true", help="put what it ran into a new cell below")
    parser.add_argument("--new", action="store_true", help="forget the earlier questions")
    _add_session(parser)
    _add_sandbox(parser)
    return parser


def parse(parser: argparse.ArgumentParser, line: str) -> argparse.Namespace:
    """Read a line of options. Raises BadOptions and HelpAsked."""
    try:
        words = shlex.split(line)
    except ValueError as exc:
        raise BadOptions(f"{str(exc).lower()} in {line!r}. `{parser.prog} --help` shows what there is.") from exc
    return parser.parse_args(words)


def parse_ask(line: str) -> tuple[argparse.Namespace, str]:
    """Read %ask's line: options, then the question as it was typed, apostrophes and all. Raises as `parse` does."""
    parser = ask_parser()
    valued = {name for action in parser._actions if action.nargs is None for name in action.option_strings}
    rest, options = line.strip(), ""
    while rest.startswith("-") and (word := _WORD.match(rest)):
        rest = rest[word.end() :]
        if word[0].strip() == "--":
            break
        options += word[0]
        if word[0].strip() in valued and (value := _WORD.match(rest)):
            options += value[0]
            rest = rest[value.end() :]
    return parse(parser, options), rest


def flat(groups: Iterable[list[str]]) -> list[str]:
    """Put `-i a -i b,c` together: each name once, in order."""
    return list(dict.fromkeys(name for group in groups for name in group))
