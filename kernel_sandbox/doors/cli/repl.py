"""`kernel-sandbox repl`: cells typed at a prompt, or piped in, with a sandbox behind them."""

from __future__ import annotations

import asyncio
import queue
import shlex
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.text import Text

from kernel_sandbox.artifacts import PictureFolder
from kernel_sandbox.doors.cli.app import FAILED
from kernel_sandbox.doors.cli.keeping import say_where
from kernel_sandbox.doors.cli.prompt import Prompt
from kernel_sandbox.errors import SandboxError, what_is_kept
from kernel_sandbox.host.links import check_download, led_away
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.outputs import Event, Execution, advice_on, fresh_kernel
from kernel_sandbox.session.sync import CellStream, Session
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.terminal.cell_view import CellView
from kernel_sandbox.terminal.console import Screen, make_table, show_error
from kernel_sandbox.terminal.interrupts import Interrupts
from kernel_sandbox.terminal.options import sandbox_options
from kernel_sandbox.terminal.safe import one_line, plain
from kernel_sandbox.terminal.session_opening import opened_session
from kernel_sandbox.terminal.start_options import check_uploads, files_directory, start_options
from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.spelling import did_you_mean

HELP = """\
:files                   list what is in /mnt/data
:upload PATH [NAME]      copy a file into /mnt/data
:download NAME [PATH]    copy a file out of it (into this directory)
:save FILE.ipynb         keep the cells as a notebook, from now on after each one
:restart                 start a fresh kernel; files under /mnt/data stay
:help                    show this
exit, Ctrl-D             end the sandbox

Ctrl-C interrupts a cell that runs (twice: stops it whatever it takes), and at the prompt takes back the line.
A block (def, for, with) ends with a blank line."""
RESTART = ":restart starts a fresh kernel."
SETTLE = 0.05
"""Seconds without output after which a question is asked: what was printed before it comes by another channel."""


@click.command(short_help="Type cells at a prompt, with a sandbox behind it.")
@start_options
@sandbox_options
def repl(
    *,
    data: tuple[Path, ...],
    save: Path | None,
    output_dir: Path | None,
    engine: str | None,
    spec: SandboxSpec,
) -> int:
    """Type Python at a prompt; it runs in a sandbox.

    Variables last until you leave, files under /mnt/data too. A cell may call input(). Lines that start with a colon
    are commands, ":help" lists them. Without a terminal, lines are read from standard input as if they were typed.

    \b
    Examples:
      kernel-sandbox repl --data sales.csv --save session.ipynb
      echo "print(6 * 7)" | kernel-sandbox repl --image python

    \b
    Exit status:
      0     you left, or every cell that was piped in ran
      1     a cell that was piped in failed
      2     a usage error, or no sandbox could be started
      130   ended by Ctrl-C before the prompt
    """
    check_uploads(data)
    pictures = PictureFolder(files_directory(save, output_dir))
    screen, prompt, questions = Screen(), Prompt(), ReplQuestions()
    with opened_session(screen, engine, spec, data=data, save=save, input_handler=questions.ask) as session:
        loop = Repl(screen, prompt, questions, session, pictures)
        with prompt.with_history():
            loop.run()
    return FAILED if loop.failed and not prompt.interactive else 0


@dataclass
class Question:
    """What a cell's input() asks."""

    text: str
    password: bool
    answer: Future[str] = field(default_factory=Future)


class ReplQuestions:
    """Brings the questions of a cell to the thread that shows its events: only one may hold the terminal."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Event | Question | SandboxError | None] = queue.SimpleQueue()

    async def ask(self, text: str, password: bool) -> str:
        """Answer the kernel's input(): the session's input handler."""
        question = Question(text, password)
        self.queue.put(question)
        return await asyncio.wrap_future(question.answer)

    def forget(self) -> None:
        """Drop a question that nobody answered. Call it before the next cell is sent: it may ask at once."""
        self.queue = queue.SimpleQueue()

    def pump(self, stream: CellStream) -> None:
        """Begin to bring a cell's events too; None after the last one."""

        def pump() -> None:
            try:
                for event in stream:
                    self.queue.put(event)
            except SandboxError as exc:  # the transcript cannot be written any more
                self.queue.put(exc)
            finally:
                self.queue.put(None)

        threading.Thread(target=pump, name="kernel-sandbox-events", daemon=True).start()


class Repl:
    """Reads, runs and shows, until the input ends."""

    def __init__(
        self, screen: Screen, prompt: Prompt, questions: ReplQuestions, session: Session, pictures: PictureFolder
    ) -> None:
        self.failed = False
        self._screen = screen
        self._prompt = prompt
        self._questions = questions
        self._session = session
        self._pictures = pictures
        self._number = 1
        self._known = KnownKernel(session.generation)
        self._commands: dict[str, Callable[..., None]] = {
            ":files": self._files,
            ":upload": self._upload,
            ":download": self._download,
            ":save": self._save,
            ":restart": self._restart,
            ":help": self._help,
        }

    def run(self) -> None:
        if self._prompt.interactive:
            version = self._session.kernel_info.get("language_info", {}).get("version", "")
            self._screen.say(("Python ", "bold"), (str(version), "bold"), "  :help lists commands, Ctrl-D ends.")
        while (source := self._prompt.read_cell(self._number)) is not None:
            if source.strip() in ("exit", "quit", "exit()", "quit()"):
                break
            if source.startswith(":"):
                self._run_command(source)
            elif source.strip():
                self._run_cell(source.rstrip())
        self._say_goodbye()

    def _say_goodbye(self) -> None:
        path = self._session.transcript.path
        if path is not None:
            say_where(self._screen, path)
        elif self._prompt.interactive and self._number > 1:
            self._screen.say(("No notebook was kept: :save FILE.ipynb, or --save, makes one.", "dim"))

    def _run_cell(self, source: str) -> None:
        self._questions.forget()
        stream = self._session.stream(source)
        self._questions.pump(stream)
        self._pictures.start_cell(self._number)
        with (
            Interrupts(lambda: self._interrupt(stream), again=stream.close) as interrupts,
            CellView(self._screen, self._pictures, one_line(source, 60), interrupts) as view,
        ):
            self._show_events(view, interrupts)
        if (because := self._known.news(stream)) is not None:
            self._screen.say((fresh_kernel(because), "yellow"))
        if stream.execution is not None:
            self._take_result(stream.execution)

    def _interrupt(self, stream: CellStream) -> None:
        """Interrupt a cell; one that waits behind another client's is given up."""
        if stream.is_waiting:
            stream.close()
        else:
            self._session.interrupt()

    def _show_events(self, view: CellView, interrupts: Interrupts) -> None:
        question: Question | None = None
        while True:
            try:
                item = self._questions.queue.get(timeout=SETTLE if question else None)
            except queue.Empty:
                assert question is not None
                self._answer(question, view, interrupts)
                question = None
                continue
            if item is None:
                return
            if isinstance(item, Question):
                question = item
            elif isinstance(item, SandboxError):
                show_error(item.happened)
            else:
                view.take(item)

    def _answer(self, question: Question, view: CellView, interrupts: Interrupts) -> None:
        """Ask the user what the sandbox asks; Ctrl-C and the end of the input interrupt the cell instead."""
        *before, label = plain(question.text).split("\n")
        with view.paused():
            self._screen.lines(before)
            try:
                with interrupts.passed_on():
                    text = self._prompt.answer(f"sandbox asks: {label}", question.password)
            except (KeyboardInterrupt, EOFError):
                self._screen.say()
                question.answer.cancel()  # an answer could reach the kernel before the interrupt
                interrupts.interrupt()
                return
        question.answer.set_result(text)

    def _take_result(self, execution: Execution) -> None:
        self.failed = self.failed or execution.status != "ok"
        self._number = (execution.execution_count or self._number) + 1
        restart = RESTART if execution.status == "dead" else ""
        if hints := [hint for hint in (advice_on(execution.ran, execution.kept), restart) if hint]:
            self._screen.say((" ".join(hints), "yellow"))

    def _run_command(self, line: str) -> None:
        try:
            name, *arguments = shlex.split(line)
            self._commands[name](*arguments)
        except KeyError:
            meant = did_you_mean(line.split()[0], self._commands)
            show_error(f"There is no command {line.split()[0]}.{meant} :help lists them.")
        except (ValueError, TypeError):  # an open quote; arguments too few or too many
            usage = [row.split("   ")[0] for row in HELP.split("\n") if row.startswith(line.split()[0])]
            show_error(f"Not understood. Usage: {usage[0] if usage else ':help'}")
        except SandboxError as exc:
            show_error(f"{exc.happened} {RESTART}" if self._session.death is exc else exc.happened)
        except KeyboardInterrupt:
            show_error("interrupted")

    def _files(self) -> None:
        files = self._session.files.list()
        if not files:
            self._screen.say(("/mnt/data is empty.", "dim"))
            return
        table = make_table("SIZE", "MODIFIED", "NAME")
        for info in files:
            size = "directory" if info.kind == "directory" else format_size(info.size)
            table.add_row(size, f"{info.modified_at.astimezone():%Y-%m-%d %H:%M}", Text(plain(info.name)))
        self._screen.table(table)

    def _upload(self, path: str, name: str | None = None) -> None:
        info = self._session.files.upload(path, name)
        self._screen.say("↑ ", (f"/mnt/data/{info.name}", "bold"), f"  {format_size(info.size)}")
        if target := led_away(Path(path).expanduser()):
            self._screen.say((f"  that is {target}, by a link in this directory", "yellow"))

    def _download(self, name: str, path: str = ".") -> None:
        check_download(path)
        target = self._session.files.download(name, path)
        self._screen.say("↓ ", (str(target), "bold"), f"  {format_size(target.stat().st_size)}")

    def _save(self, path: str) -> None:
        transcript = self._session.transcript
        transcript.path = portal().call(transcript.save, Path(path).expanduser())
        self._screen.say("Kept in ", (str(transcript.path), "bold"), ", from now on after every cell.")

    def _restart(self) -> None:
        self._session.restart()
        self._number = 1
        self._known.generation = self._session.generation
        self._screen.say(f"A fresh kernel. {what_is_kept(self._session.kept_by_restart)}")

    def _help(self) -> None:
        self._screen.say(HELP)
