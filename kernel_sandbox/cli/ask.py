"""`kernel-sandbox ask`: questions about files, answered by an agent with code that it runs in a sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import click

from kernel_sandbox.agents import FileAccessTool, LanguageModelInterface, OpenAILanguageModel, PythonExecAgent
from kernel_sandbox.agents.safety import SafetyCheck, Verdict, model_check, rules_check
from kernel_sandbox.cli.app import FAILED
from kernel_sandbox.cli.asking import Asking, Steps
from kernel_sandbox.cli.console import Screen
from kernel_sandbox.cli.dotenv import load_dotenv
from kernel_sandbox.cli.opening import check_uploads, opened_session, start_options
from kernel_sandbox.cli.options import sandbox_options
from kernel_sandbox.cli.pictures import PictureFolder
from kernel_sandbox.cli.prompt import Prompt
from kernel_sandbox.policy import SandboxSpec
from kernel_sandbox.reactor import call_reactor
from kernel_sandbox.sync import Session

OFFLINE = "offline"
DEFAULT_MODEL = "o3-mini"


@click.command(short_help="Ask about files: an agent answers with code that it runs.")
@click.argument("question", required=False)
@start_options
@click.option(
    "--model",
    metavar="NAME",
    help=f"The model, or {OFFLINE!r} for the built-in rule-based analyst.  "
    f"[default: {DEFAULT_MODEL} with a key, else {OFFLINE}]",
)
@click.option("--reasoning-effort", type=click.Choice(["low", "medium", "high"]), help="For reasoning models.")
@click.option(
    "--safety",
    type=click.Choice(["off", "rules", "model"]),
    default="off",
    show_default=True,
    help="Look at each cell before it runs. Advice only: the sandbox is the wall.",
)
@click.option("--approve", is_flag=True, help="Ask before each cell.")
@sandbox_options
def ask(
    question: str | None,
    *,
    data: tuple[Path, ...],
    save: Path | None,
    output_dir: Path | None,
    model: str | None,
    reasoning_effort: str | None,
    safety: str,
    approve: bool,
    engine: str,
    spec: SandboxSpec,
) -> int:
    """Ask QUESTION about the files of --data. Without a question, type them one after the other.

    The files are copied into a sandbox without a network. The agent writes cells of Python, runs them there, reads
    what they show, mends its errors and answers. With --save all of it is kept as a notebook: the question, the
    cells with their outputs, the answer.

    The model is asked at OpenAI, or at OPENAI_BASE_URL, with OPENAI_API_KEY; a file .env in this directory is read
    too. What leaves this machine is the question, previews of the files, and what cells print. Without a key the
    built-in analyst answers, by rules: which factors contribute to X, how X influences Y, which groups are highest
    in X, describe, plot X by Y.

    \b
    Examples:
      kernel-sandbox ask "Which city sold most?" --data sales.csv --save sales.ipynb
      kernel-sandbox ask --data sales.csv --model o3-mini --reasoning-effort high

    Ctrl-C interrupts the cell that runs; pressed twice it gives up the question. "exit" ends.

    \b
    Exit status:
      0     answered
      1     no answer came
      2     a usage error, or no sandbox or model could be had
    """
    check_uploads(data)
    load_dotenv(Path(".env"))
    name = model or (DEFAULT_MODEL if {"OPENAI_API_KEY", "OPENAI_BASE_URL"} & os.environ.keys() else OFFLINE)
    language_model = _language_model(name)
    screen, steps = Screen(), Steps()
    pictures = PictureFolder(output_dir or (save.with_name(f"{save.stem}_files") if save else None))
    with opened_session(screen, engine, spec, data=(), save=save) as session:
        agent = PythonExecAgent(
            model_name=name,
            language_model_interface=language_model,
            reasoning_effort=reasoning_effort,
            session=session,
            on_event=steps.queue.put,
            check=_check(safety, language_model, steps if approve else None),
        )
        for path in data:
            agent.add_context(_bring_in(screen, session, path))
        asking = Asking(screen, session, agent, steps, pictures)
        answered = asking.ask(question) if question else _converse(screen, asking)
    if save is not None:
        screen.say_where(save)
    return 0 if answered else FAILED


def _language_model(name: str) -> LanguageModelInterface:
    if name != OFFLINE:
        return OpenAILanguageModel()
    from kernel_sandbox.agents.offline import OfflineAnalyst

    return OfflineAnalyst()


def _bring_in(screen: Screen, session: Session, path: Path) -> str:
    """Copy a file that the user named into the sandbox; return what the sandbox says of it. Raises SandboxError."""
    tool = FileAccessTool(session, directories=[path.absolute().parent])
    preview = call_reactor(tool.arun, {"filename": path.name})
    screen.say((f"  ↑ /mnt/data/{path.name}", "dim"))
    return preview


def _check(safety: str, language_model: LanguageModelInterface, asking: Steps | None) -> SafetyCheck | None:
    """Put the checks together that the user wants: first the machine's, then their own."""
    checks: list[SafetyCheck] = []
    if safety == "rules":
        checks.append(rules_check)
    if safety == "model":
        checks.append(model_check(language_model))
    if asking is not None:
        checks.append(asking.approve)
    if not checks:
        return None

    async def check_all(source: str) -> Verdict:
        for check in checks:
            verdict = await check(source)
            if not verdict.safe:
                return verdict
        return Verdict(True)

    return check_all


def _converse(screen: Screen, asking: Asking) -> bool:
    """Answer one question after the other until "exit" or the end of the input."""
    prompt = Prompt()
    screen.say(("Ask about your files; exit ends.", "dim"))
    with prompt.with_history():
        while True:
            try:
                question = input("\n? " if prompt.interactive else "").strip()
            except (EOFError, KeyboardInterrupt):
                return True
            if question.lower() == "exit":
                return True
            if question:
                asking.ask(question)
