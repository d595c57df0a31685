"""The magics as IPython knows them: settings, lines and cells, tab completion. The only module that imports IPython.

Parses and delegates. `%config KernelSandboxMagics` shows and changes the settings.
"""

from __future__ import annotations

import atexit
import functools
import re
from collections.abc import Callable
from typing import Any, cast

from IPython.core.completer import SimpleCompletion
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import Enum, Float, Unicode

from kernel_sandbox.doors.magic import carrying
from kernel_sandbox.doors.magic.bundles import Display
from kernel_sandbox.doors.magic.commands import Commands, wanted_of
from kernel_sandbox.doors.magic.completion import complete_cell, complete_line
from kernel_sandbox.doors.magic.front_end import Front
from kernel_sandbox.doors.magic.magic_options import (
    BadOptions,
    HelpAsked,
    cell_parser,
    flat,
    line_parser,
    parse,
    parse_ask,
)
from kernel_sandbox.doors.magic.running import run_cell
from kernel_sandbox.doors.magic.sessions import DEFAULT, Sessions, Slot
from kernel_sandbox.doors.magic.shown_errors import MagicFailed, failed_use, failure
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.spec.values import parse_size

Magic = Callable[..., None]


def told_in_a_line(magic: Magic) -> Magic:
    """Turn what goes wrong into what a user of a notebook reads: help, usage, or one line."""

    @functools.wraps(magic)
    def told(self: KernelSandboxMagics, *arguments: Any) -> None:
        try:
            magic(self, *arguments)
        except HelpAsked as exc:
            print(exc)
        except BadOptions as exc:
            raise UsageError(str(exc)) from None
        except MagicFailed:
            raise
        except SandboxError as exc:
            raise failed_use(exc) from None
        except KeyboardInterrupt:
            raise failure("KeyboardInterrupt", "Interrupted.") from None

    return told


@magics_class
class KernelSandboxMagics(Magics):
    """Sandboxes beside this kernel: %%sandbox, %sandbox and %ask; --help of each says more."""

    html = Enum(
        ("isolated", "text", "trusted"),
        "isolated",
        help='HTML of a sandbox: "isolated" in a frame without rights, as "text", or "trusted": its scripts then run '
        "with your authority.",
    ).tag(config=True)
    engine = Unicode("", help="What starts sandboxes: docker, bubblewrap, or empty for the one that is ready.").tag(
        config=True
    )
    image = Unicode("", help="The image of sandboxes; empty is datascience.").tag(config=True)
    memory = Unicode("", help="Memory of a sandbox, such as 4g; empty is 2g.").tag(config=True)
    cell_timeout = Float(0.0, help="Seconds before a cell is interrupted; 0 is for ever: you have a stop button.").tag(
        config=True
    )
    transfer_limit = Unicode("256m", help="The most that -i and -o carry of one variable.").tag(config=True)
    model = Unicode("", help="%ask's model; empty is o3-mini with a key, else two fixed analyses.").tag(config=True)

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)

        def kernel_sandbox(context: Any) -> dict[str, Any]:
            return self.complete(context)

        matcher: Any = kernel_sandbox
        matcher.matcher_api_version = 2
        self.matcher = matcher
        self.sessions = Sessions()
        self.front = Front(shell)
        self._commands = Commands(self.front, self.sessions, self.settings)

    def settings(self) -> dict[str, str]:
        """Return what `%config` says of sandboxes that are yet to open."""
        return {name: getattr(self, name) for name in ("engine", "image", "memory")}

    @no_var_expand
    @line_cell_magic
    @told_in_a_line
    def sandbox(self, line: str, cell: str | None = None) -> None:
        """Run a cell in a sandbox, or do something with one. %%sandbox --help and %sandbox --help say how."""
        if cell is None:
            self._commands.run(parse(line_parser(), line or "--help"))
        else:
            self._run(line, cell)

    def _run(self, line: str, cell: str) -> None:
        options = parse(cell_parser(), line)
        limit = parse_size(self.transfer_limit)
        values = {name: self._own(name) for name in flat(options.inputs)}
        slot = self._open(options)
        for name, value in values.items():
            carrying.send(slot.session, name, value, limit)
            carrying.keep_note(slot.session, name, value)
        seconds = self.cell_timeout if options.timeout is None else options.timeout
        run_cell(self.front, slot, cell.rstrip("\n"), seconds or None, cast(Display, self.html))
        fetched = {name: carrying.fetch(slot.session, name, limit) for name in flat(options.outputs)}
        self.shell.push(fetched)

    @no_var_expand
    @line_cell_magic
    @told_in_a_line
    def ask(self, line: str, cell: str | None = None) -> None:
        """Ask an agent that runs cells in a sandbox. %ask --help says how."""
        from kernel_sandbox.doors.magic.ask_magic import (  # agents are loaded when they are asked
            MagicQuestion,
            interpolate,
        )

        options, question = parse_ask(line or ("" if cell else "--help"))
        question = interpolate(f"{question}\n{cell or ''}".strip(), self.shell.user_ns)
        if not question:
            raise BadOptions("what is the question? `%ask --help` shows what there is.")
        asking = MagicQuestion(self.front, self._open(options), options, self.model, parse_size(self.transfer_limit))
        sources = asking.ask(question, self.shell.user_ns)
        if options.cells and sources:
            session = "" if options.session == DEFAULT else f" --session {options.session}"
            self.shell.set_next_input(f"%%sandbox{session}\n{sources}")

    def _open(self, options: Any) -> Slot:
        slot = self.sessions.get(options.session, wanted_of(options), self.settings())
        if slot.new:
            slot.new = False
            for weakness in slot.session.weakened:
                self.front.write(f"The sandbox is weakened here: {weakness}\n", "stderr")
        return slot

    def _own(self, name: str) -> Any:
        """Return a variable of the notebook. Raises SandboxError."""
        try:
            return self.shell.user_ns[name]
        except KeyError:
            raise SandboxError(f"There is no variable {name!r} in this notebook to send.") from None

    def complete(self, context: Any) -> dict[str, Any]:
        """Complete the magics' lines, and the cells of %%sandbox: names there are the sandbox's, not this kernel's."""
        above = context.full_text.split("\n")[: context.cursor_line]
        place = sum(len(line) + 1 for line in above) + context.cursor_position
        inside = complete_cell(context.full_text, place, self.sessions)
        if inside is not None:
            texts, replaced = inside
            token = context.text_until_cursor[len(context.text_until_cursor) - replaced :]
            return _completions(texts, token, suppress=True)
        found = complete_line(context.text_until_cursor.split("\n")[-1], self.sessions, self.shell.user_ns)
        if found is None:
            return _completions([], "", suppress=False)
        return _completions(found, context.text_until_cursor.split(" ")[-1], suppress=True)


def _completions(texts: list[str], token: str, *, suppress: bool) -> dict[str, Any]:
    """Make what a matcher of IPython's second interface returns."""
    made = [SimpleCompletion(text, type="param" if text.startswith("-") else "instance") for text in texts]
    return {"completions": made, "matched_fragment": token, "suppress": suppress, "ordered": True}


def keep_questions(lines: list[str]) -> list[str]:
    """Keep IPython from taking `%ask … most?` for a call for help, as a name before a final question mark is."""
    if lines and lines[0].startswith("%%"):
        return lines
    return [_QUESTION.sub(lambda match: f"get_ipython().run_line_magic('ask', {match[1]!r})", line) for line in lines]


_QUESTION = re.compile(r"^%ask[ \t]+(.*\?)[ \t]*$", re.MULTILINE)
_loaded: dict[int, KernelSandboxMagics] = {}
"""By the identity of their shell."""


def load_ipython_extension(shell: Any) -> None:
    """Give a shell the magics. IPython calls it for `%load_ext kernel_sandbox`."""
    if id(shell) in _loaded:
        return
    magics = _loaded[id(shell)] = KernelSandboxMagics(shell)
    shell.register_magics(magics)
    shell.configurables.append(magics)
    shell.Completer.custom_matchers.append(magics.matcher)
    shell.input_transformers_cleanup.append(keep_questions)
    atexit.register(magics.sessions.close_all)


def unload_ipython_extension(shell: Any) -> None:
    """End the sandboxes and take the magics away again."""
    magics = _loaded.pop(id(shell), None)
    if magics is None:
        return
    magics.sessions.close_all()
    atexit.unregister(magics.sessions.close_all)
    shell.configurables.remove(magics)
    shell.Completer.custom_matchers.remove(magics.matcher)
    shell.input_transformers_cleanup.remove(keep_questions)
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
