"""Questions to an agent, as every door puts them: on real sessions, with a scripted model."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_sandbox import AsyncSession, ModelError, Session
from kernel_sandbox.agents import AgentEvent, CellOutput, Completion, ScriptedModel, ToolCall, ToolResult
from kernel_sandbox.agents.approval import Approval
from kernel_sandbox.agents.questions import Manner, Questions, Step
from kernel_sandbox.agents.recipient import ChosenModel
from kernel_sandbox.agents.scripted import Line
from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.session.transcript import Transcript

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("engine", ["bubblewrap"], indirect=True)]


def cell(source: str, said: str = "") -> Completion:
    return Completion(said, (ToolCall("c", "execute_python_code", json.dumps({"python_code": source})),))


def chosen(*script: Line) -> ChosenModel:
    return ChosenModel("scripted", "default", ScriptedModel(script))


def kept(transcript: Transcript) -> list[str]:
    return [cell.source for cell in transcript.cells]


class Seen:
    """A view that remembers, and does something at each event."""

    def __init__(self, react: Callable[[AgentEvent], object] = lambda event: None, word: str = "y") -> None:
        self.events: list[AgentEvent] = []
        self.judged: list[str] = []
        self.ticks = 0
        self._react = react
        self._word = word

    def show(self, event: AgentEvent) -> None:
        self.events.append(event)
        self._react(event)

    def approve(self, approval: Approval) -> str:
        self.judged.append(approval.source)
        if self._word == "^C":
            raise KeyboardInterrupt
        return self._word

    def tick(self) -> None:
        self.ticks += 1

    @property
    def results(self) -> list[str]:
        """What the model was told of its tool calls."""
        return [event.content for event in self.events if isinstance(event, ToolResult)]


def test_question_is_kept_with_all_that_was_said_and_run(session: Session) -> None:
    questions = Questions(session, chosen(cell("6 * 7", "I multiply."), "It is <b>42</b>."))
    view = Seen()
    answer = questions.ask("How much?\n\nIn <i>full</i>.", view)
    assert answer is not None
    assert (answer.text, answer.is_final, answer.unsaved) == ("It is <b>42</b>.", True, None)
    assert view.results == ["42"]
    assert kept(session.transcript) == [
        "## How much? In &lt;i>full&lt;/i>.",
        "I multiply.",
        "6 * 7",
        "It is &lt;b>42&lt;/b>.",
    ]


def test_slow_view_does_not_change_what_is_kept(session: Session) -> None:
    questions = Questions(session, chosen(cell("1", "First."), cell("2", "Second."), "Done."))
    questions.ask("Go.", Seen(lambda event: time.sleep(0.2)))
    assert kept(session.transcript) == ["## Go.", "First.", "1", "Second.", "2", "Done."]


def test_answer_that_cannot_be_saved_is_an_answer(engine: str, tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    with Session(engine=engine, image="python", save=place / "out.ipynb") as session:
        shutil.rmtree(place)
        answer = Questions(session, chosen("It is 42.")).ask("How much?", Seen())
        assert answer is not None
        assert answer.text == "It is 42."
        assert str(place) in str(answer.unsaved)
        place.mkdir()


def test_cell_whose_notebook_cannot_be_saved_has_run(engine: str, tmp_path: Path) -> None:
    """The model is not told where the notebook is, nor that the cell failed."""
    place = tmp_path / "gone"
    place.mkdir()
    with Session(engine=engine, image="python", save=place / "out.ipynb") as session:
        shutil.rmtree(place)
        view = Seen()
        answer = Questions(session, chosen(cell("6 * 7"), "It is 42.")).ask("How much?", view)
        assert view.results == ["42"]
        assert answer is not None
        assert answer.unsaved is not None
        place.mkdir()


def test_failure_of_the_model_is_kept_and_the_next_question_is_asked(session: Session) -> None:
    questions = Questions(session, chosen(ModelError("Out of\n<b>order</b>."), "Fine."))
    with pytest.raises(ModelError):
        questions.ask("one", Seen())
    answer = questions.ask("two", Seen())
    assert answer is not None
    assert kept(session.transcript) == [
        "## one",
        "*No answer came: Out of &lt;b>order&lt;/b>.*",
        "## two",
        "Fine.",
    ]


def test_question_that_is_given_up_ends_with_its_cell(session: Session) -> None:
    questions = Questions(session, chosen(cell("x = 1\nprint('on')\nwhile True: pass"), cell("x"), "There."))

    def give_up(event: AgentEvent) -> None:
        if isinstance(event, CellOutput):
            questions.give_up()

    assert questions.ask("loop", Seen(give_up)) is None
    view = Seen()
    assert questions.ask("again", view) is not None
    assert view.results[0].startswith("1\n[The user had stopped the cell before this one.")
    assert kept(session.transcript)[2:] == ["*The question was given up.*", "## again", "x", "There."]


def test_view_that_fails_leaves_an_agent_that_can_be_asked(session: Session) -> None:
    def fail(event: AgentEvent) -> None:
        if isinstance(event, CellOutput):
            raise BrokenPipeError

    questions = Questions(session, chosen(cell("print('on', flush=True)\nwhile True: pass"), "Here."))
    with pytest.raises(BrokenPipeError):
        questions.ask("loop", Seen(fail))
    answer = questions.ask("again", Seen())
    assert answer is not None
    assert answer.text == "Here."


@pytest.mark.parametrize(("word", "ran"), [("y", True), ("n", False), ("", False)])
def test_user_judges_what_the_machine_has_passed(session: Session, word: str, ran: bool) -> None:
    questions = Questions(session, chosen(cell("import subprocess"), cell("```python\n'it ' + 'ran'\n```"), "Done."))
    view = Seen(word=word)
    assert questions.ask("Go.", view, Manner(safety="rules", approve=True)) is not None
    assert view.judged == ["'it ' + 'ran'"]
    assert "shell (import subprocess)" in view.results[0]
    assert ("it ran" in view.results[1]) is ran
    assert ("declined" in view.results[1]) is not ran


def test_cell_that_cannot_be_seen_whole_is_not_asked_about(session: Session) -> None:
    questions = Questions(session, chosen(cell("print('it ' + 'ran')\n" + "#\n" * 3000), "Done."))
    view = Seen()
    questions.ask("Go.", view, Manner(approve=True))
    assert view.judged == []
    assert "too long to be judged" in view.results[0]


def test_interrupted_approval_gives_the_question_up(session: Session) -> None:
    questions = Questions(session, chosen(cell("'it ' + 'ran'"), "Here."))
    assert questions.ask("Go.", Seen(word="^C"), Manner(approve=True)) is None
    assert kept(session.transcript) == ["## Go.", "*The question was given up.*"]
    assert questions.ask("And now?", Seen()) is not None


def test_manner_is_that_of_one_question(session: Session) -> None:
    model = chosen(cell("import subprocess"), "No.", cell("import subprocess"), "Yes.")
    questions = Questions(session, model)
    views = [Seen(), Seen()]
    questions.ask("Go.", views[0], Manner("low", "rules"))
    questions.ask("Go.", views[1])
    refused = [
        any("refused" in event.content for event in view.events if isinstance(event, ToolResult)) for view in views
    ]
    assert refused == [True, False]
    assert isinstance(model.model, ScriptedModel)
    assert [request.reasoning_effort for request in model.model.requests] == ["low", "low", None, None]


def test_model_that_does_not_come_to_an_end_has_no_final_answer(session: Session) -> None:
    calls = [Completion("", (ToolCall("c", "list_files", "{}"),))] * 30
    answer = Questions(session, chosen(*calls)).ask("Go.", Seen())
    assert answer is not None
    assert not answer.is_final


def test_file_is_brought_in_and_described(session: Session, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("city,sold\nOslo,3\n")
    model = chosen("Oslo.")
    questions = Questions(session, model)
    call_reactor(questions.add_file, tmp_path / "sales.csv")
    questions.ask("Which?", Seen())
    assert isinstance(model.model, ScriptedModel)
    told = [str(message["content"]) for message in model.model.requests[0].messages]
    assert any("/mnt/data/sales.csv" in text and "Oslo" in text for text in told)
    assert told[-1] == "Which?"


async def test_door_in_an_event_loop_of_its_own(engine: str) -> None:
    steps: list[Step] = []

    def take(step: Step) -> None:
        steps.append(step)
        if isinstance(step, Approval):
            step.decide("y")

    async with AsyncSession(engine=engine, image="python") as session:
        loop = cell("print('on', flush=True)\nwhile True: pass")
        questions = Questions(session, chosen(cell("6 * 7"), "It is 42.", loop, "Here."))
        answer = await questions.aask("How much?", take, Manner(approve=True))
        assert answer.text == "It is 42."
        assert [step.source for step in steps if isinstance(step, Approval)] == ["6 * 7"]
        asked = asyncio.create_task(
            questions.aask("loop", lambda step: isinstance(step, CellOutput) and asked.cancel())
        )
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert kept(session.transcript)[-1] == "*The question was given up.*"
        assert (await questions.aask("again", take)).text == "Here."
