"""One question of `ask`, from the user to the answer on the screen; `agents/questions` asks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from kernel_sandbox.agents.questions import Answer, Manner, Questions
from kernel_sandbox.doors.cli.model_view import show_markdown
from kernel_sandbox.doors.cli.task_view import TaskView
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.sync import Session
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.text.amounts import format_seconds


@dataclass
class TerminalQuestion:
    """Puts the user's questions, and shows what comes of them."""

    screen: Screen
    session: Session
    questions: Questions
    manner: Manner
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.known = KnownKernel(self.session.generation)

    def ask(self, question: str) -> bool:
        """Have a question answered. Returns False where no answer came.

        Ctrl-C interrupts the cell that runs; where none runs, and pressed twice, it gives the question up. Raises
        ModelError, and TranscriptError for an answer that is shown and cannot be kept.
        """
        give_up = self.questions.give_up
        with TaskView(self.screen, self.numbers, self.known, interrupt=self.session.interrupt, give_up=give_up) as view:
            answer = self.questions.ask(question, view, self.manner)
        if answer is None:
            self.screen.say(("■ ", "bold yellow"), "The question was given up.")
            return False
        show_markdown(self.screen, answer.text)
        self._say_summary(answer)
        if answer.unsaved is not None:
            raise answer.unsaved
        return answer.is_final

    def _say_summary(self, answer: Answer) -> None:
        task = answer.task
        tokens = task.usage.prompt_tokens + task.usage.completion_tokens
        used = f", {tokens:,} tokens" if tokens else ""
        turns = "1 turn" if task.turns == 1 else f"{task.turns} turns"
        self.screen.say((f"({turns}{used}, {format_seconds(task.seconds)})", "dim"))
