"""`kernel-sandbox ask`: questions about files, answered by an agent with code that it runs in a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from kernel_sandbox.agents.models import BASE_URL
from kernel_sandbox.agents.offline import ANALYSES, read_question
from kernel_sandbox.agents.questions import Manner, Questions
from kernel_sandbox.agents.recipient import DEFAULT_MODEL, OFFLINE, choose_model
from kernel_sandbox.artifacts import Artifacts
from kernel_sandbox.doors.cli.access import no_model, take_dotenv, who_receives
from kernel_sandbox.doors.cli.app import FAILED
from kernel_sandbox.doors.cli.ask_question import TerminalQuestion
from kernel_sandbox.doors.cli.keeping import say_where
from kernel_sandbox.doors.cli.prompt import Prompt
from kernel_sandbox.errors import ModelError, ModelNotConfigured, NoAnswer, TranscriptError
from kernel_sandbox.host.reactor import call_reactor, portal
from kernel_sandbox.show.markdown import harmless_markdown
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.terminal.console import Screen, show_error
from kernel_sandbox.terminal.options import sandbox_options
from kernel_sandbox.terminal.safe import one_line
from kernel_sandbox.terminal.session_opening import opened_session
from kernel_sandbox.terminal.start_options import check_for_model, check_uploads, files_directory, start_options


@click.command(short_help="Ask about files: an agent answers with code that it runs.")
@click.argument("question", required=False)
@start_options
@click.option(
    "--model",
    metavar="NAME",
    help=f"The model, or {OFFLINE!r} for the two fixed analyses.  "
    f"[default: {DEFAULT_MODEL} with a key, else {OFFLINE}]",
)
@click.option("--base-url", metavar="URL", help=f"The server of the model.  [default: {BASE_URL}, else OpenAI]")
@click.option("--reasoning-effort", type=click.Choice(["low", "medium", "high"]), help="For reasoning models.")
@click.option(
    "--safety",
    type=click.Choice(["off", "rules", "model"]),
    default="off",
    show_default=True,
    help="Look at each cell before it runs. Advice only: the sandbox is the wall.",
)
@click.option("--approve", is_flag=True, help="Ask before each cell.")
@click.option("--yes", is_flag=True, help="Agree to a server, and to an account, that a file .env here names.")
@click.option(
    "--artifacts",
    is_flag=True,
    help="Keep the files that cells write too: in OUT_files, or --output-dir.",
)
@sandbox_options
def ask(
    question: str | None,
    *,
    data: tuple[Path, ...],
    save: Path | None,
    output_dir: Path | None,
    model: str | None,
    base_url: str | None,
    reasoning_effort: str | None,
    safety: Literal["off", "rules", "model"],
    approve: bool,
    yes: bool,
    artifacts: bool,
    engine: str | None,
    spec: SandboxSpec,
) -> int:
    """Ask QUESTION about the files of --data. Without a question, type them one after the other.

    The files are copied into a sandbox without a network. The agent writes cells of Python, runs them there, reads
    what they show, mends its errors and answers. With --save all of it is kept as a notebook: the question, what
    the model says, the cells with their outputs, the answer. Figures are kept beside it, and with --artifacts the
    files that cells write under /mnt/data: at most 100 and 256 MB. They keep their names only as far as those are
    harmless: an unusual suffix gets .bin behind it, and no file that is there is written over.

    The model is asked at --base-url, OPENAI_BASE_URL or OpenAI, with OPENAI_API_KEY; before the first request it
    stands on the screen which it is, and where it was taken from. OPENAI_TIMEOUT (600 seconds of silence)
    and OPENAI_MAX_RETRIES (2) bound the wait. What leaves this machine is the question, previews of the files, what
    cells print, and figures where the model takes pictures.

    With neither a key nor a server, no model is asked. Two fixed analyses answer "describe this table" and "what
    goes with COLUMN"; any other question ends with status 1, and with how to get a model. A model server that
    answers on a usual port of this machine is named then: it is asked for its list of models, and sent nothing else.

    A file .env in this directory is read too. Somebody else may have written it, so you are asked before a server or
    a key that it names is used; without a terminal, --yes agrees and --base-url names the server instead.

    \b
    Examples:
      kernel-sandbox ask "what goes with sold" --data sales.csv
      kernel-sandbox ask "Which city sold most?" --data sales.csv --save sales.ipynb
      kernel-sandbox ask --data sales.csv --model o3-mini --reasoning-effort high

    Ctrl-C interrupts the cell that runs, and pressed again gives the question up; while the model thinks, once is
    enough. The sandbox and its variables stay for the next question. "exit" or Ctrl-D ends.

    \b
    Exit status:
      0     answered
      1     no answer came, the question needs a model, or you did not agree to a file's server
      2     a usage error, or no sandbox or model could be had
    """
    check_uploads(data)
    check_for_model(spec, data)
    kept = _artifacts(save, output_dir, files=artifacts)
    screen = Screen()
    taken = take_dotenv(screen, model=model, base_url=base_url, yes=yes)
    if taken is None:
        return FAILED
    chosen = choose_model(("--model", model), base_url=base_url)
    if question and _needs_model(question, chosen.name):
        show_error(no_model(model))
        return FAILED
    screen.say(who_receives(chosen, taken))
    with opened_session(screen, engine, spec, data=(), save=save) as session:
        portal().call(session.transcript.add_markdown, _title(data, chosen.name))
        questions = Questions(session, chosen, artifacts=kept)
        for path in data:
            call_reactor(questions.add_file, path)
            screen.say((f"  ↑ /mnt/data/{path.name}", "dim"))
        asking = TerminalQuestion(screen, session, questions, Manner(reasoning_effort, safety, approve))
        answered = _answer(asking, question) if question else _converse(screen, asking, chosen.name, model)
    if save is not None:
        say_where(screen, save, data)
    return 0 if answered else FAILED


def _artifacts(save: Path | None, output_dir: Path | None, *, files: bool) -> Artifacts | None:
    """Choose where pictures are kept, and files too where they are wanted. Raises click.UsageError."""
    directory = files_directory(save, output_dir)
    if directory is not None:
        return Artifacts(directory, files=files)
    if files:
        raise click.UsageError("--artifacts needs a place: add --save OUT.ipynb, or --output-dir DIR.")
    return None


def _title(data: Sequence[Path], model: str) -> str:
    """Write the head of the notebook."""
    files = ", ".join(one_line(path.name, 100) for path in data)
    who = "a fixed analysis, without a language model," if model == OFFLINE else one_line(model, 100)
    return harmless_markdown(
        f"# {f'Questions about {files}' if files else 'Questions'}\n\n"
        f"Answered by {who} with code that ran in a sandbox without a network. Each question is a heading; below it "
        "stand the cells that were run for it, with all that they showed, and then the answer."
    )


def _needs_model(question: str, name: str) -> bool:
    return name == OFFLINE and read_question(question) is None


def _answer(asking: TerminalQuestion, question: str) -> bool:
    """Ask the one question of the command line."""
    try:
        return asking.ask(question)
    except NoAnswer as exc:
        show_error(exc.happened)
        return False


def _converse(screen: Screen, asking: TerminalQuestion, name: str, model: str | None) -> bool:
    """Answer one question after the other until "exit" or the end of the input. `model` is what the user named."""
    prompt = Prompt()
    only = (
        f"Without a language model, two questions are answered: {ANALYSES}"
        if name == OFFLINE
        else "Ask about your files"
    )
    screen.say((f"{only}; exit ends.", "dim"))
    with prompt.with_history():
        answered = True
        while (question := prompt.read_question()) is not None and question.lower() != "exit":
            if question and _needs_model(question, name):
                show_error(no_model(model))
                answered = False
            elif question:
                answered = _try(asking, question) and answered
    return answered or prompt.interactive


def _try(asking: TerminalQuestion, question: str) -> bool:
    """Ask one question of several: that a server or a disk failed is no reason to lose the session."""
    try:
        return asking.ask(question)
    except ModelNotConfigured:
        raise
    except (ModelError, TranscriptError) as exc:
        show_error(exc.happened)
        return False
