"""Where the cells of `repl` and the questions of `ask` come from: a person at a terminal, or lines piped in."""

from __future__ import annotations

import ast
import contextlib
import getpass
import sys
import warnings
from codeop import CommandCompiler
from collections.abc import Iterator
from pathlib import Path

from kernel_sandbox.host import directories

_compiler = CommandCompiler()
_compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as in a notebook

# The \001 and \002 tell readline that what is between them takes no room (readline(3), Prompting).
_COLOURED = "\001\x1b[1;32m\002{}\001\x1b[0m\002"


def is_complete(source: str) -> bool:
    """Whether a source can run as it stands, judged as Python's own prompt does: a block ends with a blank line.

    What is no Python (IPython's magics, an error) counts as complete: the kernel judges it.
    """
    if source.lstrip().startswith("%%"):
        return source.endswith("\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _compiler(source, "<cell>", "single") is not None
        except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
            return True


class Prompt:
    """Reads cells, line by line. `interactive` is whether a person types them."""

    def __init__(self) -> None:
        self.interactive = sys.stdin.isatty()
        reconfigure = getattr(sys.stdin, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")

    def read_cell(self, number: int) -> str | None:
        """Read the next cell; None at the end of the input. Ctrl-C takes back what was typed."""
        label = f"In [{number}]: "
        while True:
            try:
                return self._read_cell(label)
            except EOFError:
                if self.interactive:
                    print()
                return None
            except KeyboardInterrupt:
                print()

    def read_question(self) -> str | None:
        """Read a line for `ask`; None at the end of the input. Ctrl-C takes back what was typed."""
        while True:
            if self.interactive:
                print()
            try:
                return self._read_line("? ").strip()
            except EOFError:
                if self.interactive:
                    print()
                return None
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                print()

    def _read_cell(self, label: str) -> str:
        source = self._read_line(label)
        while not is_complete(source) and not source.startswith(":"):
            try:
                source += "\n" + self._read_line(f"{'...: ':>{len(label)}}")
            except EOFError:
                if self.interactive:
                    raise
                return source
        return source

    def _read_line(self, label: str) -> str:
        if self.interactive:
            return input(_COLOURED.format(label))
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    def answer(self, label: str, password: bool) -> str:
        """Read the answer to a question of the sandbox. Raises EOFError and KeyboardInterrupt."""
        if not self.interactive:
            return self._read_line("")
        return getpass.getpass(label) if password else input(label)

    @contextlib.contextmanager
    def with_history(self) -> Iterator[None]:
        """Edit lines, with a history that is kept from one time to the next; without readline, neither."""
        try:
            import readline
        except ImportError:
            yield
            return
        if not self.interactive:
            yield
            return
        path = history_path()
        with contextlib.suppress(OSError):
            readline.read_history_file(path)
        readline.set_history_length(10_000)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(mode=0o600)
                readline.write_history_file(path)


def history_path() -> Path:
    """Return the history file, in the place for what a program remembers."""
    return directories.state() / "history"
