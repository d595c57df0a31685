"""The steps of one question on the page: a line that says what goes on, the model's words, its cells, the answer.

Each is a display of its own, updated in place where the front end can. A terminal gets each once, when it is complete.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable

from kernel_sandbox.agents.approval import QUESTION, Approval, beside_margin
from kernel_sandbox.agents.cell_tool import cell_of
from kernel_sandbox.agents.events import (
    AgentEvent,
    CellFinished,
    CellOutput,
    ModelAnswered,
    TextDelta,
    ToolCallStarted,
    ToolResult,
)
from kernel_sandbox.doors.magic.agent_view import FRAMES, CellBlock, status_bundle
from kernel_sandbox.doors.magic.front_end import Bundle, Front
from kernel_sandbox.session.known_kernel import KnownKernel
from kernel_sandbox.session.outputs import fresh_kernel
from kernel_sandbox.show.markdown import harmless_markdown
from kernel_sandbox.terminal import confirming
from kernel_sandbox.terminal.interrupts import Interrupts
from kernel_sandbox.text.amounts import format_seconds
from kernel_sandbox.text.ansi import plain_text
from kernel_sandbox.text.characters import visible
from kernel_sandbox.text.clipping import keep_end

THROTTLE = 0.15
"""Seconds between two updates of one display: a page redraws all of it."""


class Steps:
    """Shows the steps of one question: a `View`. Use it in `with`: it takes the stop button."""

    def __init__(
        self,
        front: Front,
        name: str,
        model: str,
        known: KnownKernel,
        *,
        interrupt: Callable[[], None],
        give_up: Callable[[], None],
    ) -> None:
        """`name` begins the ids of its displays. The stop button calls `interrupt` while a cell runs, else `give_up`.

        `known` is the kernel that the user knows.
        """
        self._front = front
        self._name = name
        self._model = model
        self._known = known
        self._interrupt = interrupt
        self._give_up = give_up
        self._stop = Interrupts(give_up, give_up)
        self._numbers = itertools.count(1)
        self._spin = itertools.cycle(FRAMES)
        self._started = time.monotonic()
        self._tokens = 0
        self._shown: dict[str, float] = {}
        self._text = ""
        self._text_id = ""
        self.blocks: list[CellBlock] = []
        self._running = False
        self._late = False
        """Whether something was held back by THROTTLE."""
        self._doing = "thinking"
        self._ended = False
        if front.rich:
            self._put("status", self._status(next(self._spin)))
        else:
            front.say(f"{model} is asked …")

    def __enter__(self) -> Steps:
        self._stop.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """Give the stop button back, and show that no answer came where that has not been shown."""
        self._stop.__exit__(None, None, None)
        if kind is not None and not self._ended:
            self.end("✗", "no answer")

    def show(self, event: AgentEvent) -> None:
        """Show one step."""
        if isinstance(event, TextDelta):
            self._write(event.text)
        elif isinstance(event, ModelAnswered):
            usage = event.usage
            self._end_text(usage.prompt_tokens + usage.completion_tokens, final=not event.completion.tool_calls)
        elif isinstance(event, ToolCallStarted):
            source = cell_of(event.call)
            if source is not None:
                self._stop.change(self._interrupt, self._give_up)
                self._start_cell(source)
        elif isinstance(event, CellOutput):
            if self._running:
                self.blocks[-1].take(event.output)
                if self._due(f"cell-{len(self.blocks)}"):
                    self._draw_cell()
        elif isinstance(event, CellFinished):
            self._finish_cell(event)
        elif isinstance(event, ToolResult):
            self._end_call(event.content)
            self._stop.change(self._give_up, self._give_up)

    # The line above

    def _status(self, mark: str) -> Bundle:
        tokens = f" · {self._tokens:,} tokens" if self._tokens else ""
        taken = format_seconds(time.monotonic() - self._started)
        return status_bundle(mark, f"{visible(self._model)} · {self._doing} · {taken}{tokens}")

    def tick(self) -> None:
        """Turn the spinner, and show what was held back."""
        if self._front.rich:
            self._put("status", self._status(next(self._spin)))
            if self._late:
                self._draw_text()
                self._draw_cell()

    # The model's words

    def _write(self, text: str) -> None:
        if not self._text_id:
            self._text_id = f"text-{next(self._numbers)}"
        self._text += text
        self._doing = "writing"
        if self._due(self._text_id):
            self._draw_text()

    def _draw_text(self) -> None:
        if self._front.rich and self._text.strip():
            self._put(self._text_id, _markdown(self._text))
            self._late = False

    def _end_text(self, tokens: int, *, final: bool) -> None:
        """End the model's turn; what is final is shown by `answer`."""
        self._tokens = tokens
        self._draw_text()
        if not final:
            if not self._front.rich and self._text.strip():
                columns = shutil.get_terminal_size().columns
                self._front.say(beside_margin(plain_text(self._text.strip()), columns))
            self._text = self._text_id = ""
        self._doing = "thinking"

    # Cells

    def _start_cell(self, source: str) -> None:
        self.blocks.append(CellBlock(len(self.blocks) + 1, source))
        self._running = True
        self._doing = f"running cell {len(self.blocks)}"
        self._draw_cell()

    def approve(self, approval: Approval) -> str:
        """Show the whole cell and return the user's word. The stop button gives the question up."""
        if self._running and self._front.rich:
            self._draw_cell()
        else:
            self._front.say(approval.shown)
        try:
            with self._stop.passed_on():
                return confirming.put(input, QUESTION)
        except Exception as exc:  # noqa: BLE001 (a front end without input raises its own kind)
            self._front.write(f"Nobody can be asked here ({type(exc).__name__}): the cell is declined.\n", "stderr")
            return ""

    def _finish_cell(self, event: CellFinished) -> None:
        if self._running:
            self.blocks[-1].finish(event.execution)
        if (because := self._known.news(event)) is not None:
            self._front.write(f"{fresh_kernel(because)}\n", "stderr")

    def _end_call(self, result: str) -> None:
        """End a tool call; a cell that did not run says why."""
        if self._running:
            block = self.blocks[-1]
            if block.execution is None:
                block.refused = plain_text(result)
            self._draw_cell()
            if not self._front.rich:
                self._front.say(plain_text(block.text()))
        self._running = False
        self._doing = "thinking"

    def _draw_cell(self) -> None:
        if self._running and self._front.rich:
            self._put(f"cell-{len(self.blocks)}", self.blocks[-1].bundle())
            self._late = False

    # The end

    def answer(self, text: str, *, is_final: bool) -> None:
        """Show the answer, in the place of what has streamed of it; one that is not final came from no model."""
        cells = f"{len(self.blocks)} cell{'' if len(self.blocks) == 1 else 's'}"
        self._doing = cells
        if self._front.rich:
            self._put(self._text_id or "answer", _markdown(text))
        else:
            self._front.say(plain_text(text))
        self.end("✓" if is_final else "✗", cells if is_final else f"{cells} · no answer")

    def end(self, mark: str, doing: str) -> None:
        """Show in the line above how it ended."""
        self._ended = True
        self._doing = doing
        if self._front.rich:
            self._draw_cell()
            self._put("status", self._status(mark))
        else:
            self._front.say(str(self._status(mark)[0]["text/plain"]))

    def _due(self, name: str) -> bool:
        self._late = time.monotonic() - self._shown.get(name, 0.0) < THROTTLE
        return not self._late

    def _put(self, name: str, bundle: Bundle) -> None:
        """Show a display for the first time, or anew."""
        self._front.publish(bundle, f"{self._name}-{name}", update=name in self._shown)
        self._shown[name] = time.monotonic()


def _markdown(text: str) -> Bundle:
    text = keep_end(text.strip(), 200_000)
    return {"text/markdown": harmless_markdown(text), "text/plain": plain_text(text)}, {}
