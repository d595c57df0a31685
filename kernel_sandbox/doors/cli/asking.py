"""Questions to an agent: what it does on the screen, what is kept of it, and what it took.

The agent runs in the reactor and its events come through a queue: the main thread alone draws.
"""

from __future__ import annotations

import itertools
import queue
from concurrent.futures import Future

from kernel_sandbox.agents import PythonExecAgent
from kernel_sandbox.agents.events import AgentEvent, ModelAnswered
from kernel_sandbox.doors.cli.model_view import show_markdown
from kernel_sandbox.doors.cli.task_view import Step, TaskView
from kernel_sandbox.errors import ModelError
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.sync import Session
from kernel_sandbox.show.markdown import harmless_markdown
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.safe import one_line
from kernel_sandbox.text.amounts import format_seconds


class Steps:
    """The queue between the agent and the screen."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Step | None] = queue.SimpleQueue()


class Asking:
    """Puts questions to the agent, and takes its events from then on."""

    def __init__(self, screen: Screen, session: Session, agent: PythonExecAgent, steps: Steps) -> None:
        self._screen = screen
        self._session = session
        self._transcript = session.transcript
        self._agent = agent
        self._steps = steps
        self._numbers = itertools.count(1)
        self._known = KnownKernel(session.generation)
        agent.on_event = self._take

    def ask(self, question: str) -> bool:
        """Answer one question, and keep both in the transcript. Returns False where no answer came.

        Ctrl-C interrupts the cell that runs; where none runs, and pressed twice, it gives the question up. Raises
        ModelError.
        """
        self._keep(f"## {harmless_markdown(one_line(question, 2000))}")
        future: Future[str] = portal().start_task_soon(self._answer, question)

        def give_up() -> None:
            future.cancel()

        view = TaskView(self._screen, self._numbers, self._known, interrupt=self._session.interrupt, give_up=give_up)
        with view:
            while (step := self._steps.queue.get()) is not None:
                view.show(step)
        return self._conclude(future)

    async def _answer(self, question: str) -> str:
        try:
            return await self._agent.atask(question)
        finally:  # a question that was given up is over only here: its cell has been interrupted by now
            self._steps.queue.put(None)

    def _take(self, event: AgentEvent) -> None:
        """Take an event, in the reactor. Cells are recorded there too: what was said before one must stand above it."""
        if isinstance(event, ModelAnswered) and event.completion.tool_calls and event.completion.content.strip():
            self._transcript.add_markdown(harmless_markdown(event.completion.content.strip()))
        self._steps.queue.put(event)

    def _conclude(self, future: Future[str]) -> bool:
        """Show and keep how it ended."""
        if future.cancelled():
            self._screen.say(("■ ", "bold yellow"), "The question was given up.")
            self._keep("*The question was given up.*")
            return False
        try:
            answer = future.result()
        except ModelError as exc:
            self._keep(f"*No answer came: {harmless_markdown(one_line(str(exc), 500))}*")
            raise
        self._keep(harmless_markdown(answer))
        show_markdown(self._screen, answer)
        self._say_summary()
        return self._agent.last_task is not None and self._agent.last_task.ended == "answer"

    def _keep(self, markdown: str) -> None:
        portal().call(self._transcript.add_markdown, markdown)
        portal().call(self._transcript.autosave)

    def _say_summary(self) -> None:
        summary = self._agent.last_task
        if summary is not None:
            tokens = summary.usage.prompt_tokens + summary.usage.completion_tokens
            used = f", {tokens:,} tokens" if tokens else ""
            turns = "1 turn" if summary.turns == 1 else f"{summary.turns} turns"
            self._screen.say((f"({turns}{used}, {format_seconds(summary.seconds)})", "dim"))
