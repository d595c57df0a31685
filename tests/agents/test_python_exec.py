"""PythonExecTool and PythonExecAgent on real sessions."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from kernel_sandbox import AsyncSession, Limits, Session
from kernel_sandbox.agents import (
    AgentEvent,
    CellFinished,
    CellOutput,
    Completion,
    ListFilesTool,
    PythonExecAgent,
    PythonExecTool,
    ScriptedModel,
    ToolCall,
    ToolResult,
)
from kernel_sandbox.agents.loop import INTERRUPTED

pytestmark = pytest.mark.anyio


def cell(source: str) -> Completion:
    arguments = json.dumps({"python_code": source})
    return Completion("", (ToolCall("call_1", "execute_python_code", arguments),), finish_reason="tool_calls")


def results(agent: PythonExecAgent) -> list[str]:
    return [message["content"] for message in agent.messages.get_messages() if message["role"] == "tool"]


def run(session: Session, source: str) -> str:
    return PythonExecTool(session).run({"python_code": source})


def test_failing_cell_is_mended_on_the_second_try(session: Session) -> None:
    model = ScriptedModel([cell("total = 6\ntotol * 7"), cell("```python\ntotal * 7\n```"), "It is 42."])
    agent = PythonExecAgent(language_model_interface=model, session=session)
    assert agent.task("6 * 7?") == "It is 42."
    failed, mended = results(agent)
    assert "NameError: name 'totol' is not defined" in failed
    assert "[The cell ran until its error; variables and files are kept.]" in failed
    assert "\x1b" not in failed
    assert mended == "42"
    assert (model.requests[0].model, model.requests[0].reasoning_effort) == ("o3-mini", None)


def test_two_cells_of_one_message_run_in_order(session: Session) -> None:
    first, second = cell("x = 20").tool_calls[0], cell("x + 1").tool_calls[0]
    both = Completion("", (first, ToolCall("call_2", second.name, second.arguments)))
    agent = PythonExecAgent(language_model_interface=ScriptedModel([both, "21"]), session=session)
    agent.task("go")
    assert results(agent) == ["[The cell ran and showed nothing.]", "21"]


def test_failures_in_a_row_are_limited_by_code(session: Session) -> None:
    model = ScriptedModel([cell("ran = 0\n1 / 0"), *[cell("ran += 1\n1 / 0")] * 4, "Sorry.", cell("ran"), "2"])
    agent = PythonExecAgent(language_model_interface=model, session=session, max_retries=3)
    agent.task("go")
    told = results(agent)
    assert "3 cells in a row have failed or were refused" in told[2]
    assert told[3].startswith("[Not run.]")
    assert told[4].startswith("[Not run.]")
    agent.task("How many ran?")  # a new question counts anew
    assert results(agent)[-1] == "2"


@dataclass(frozen=True)
class No:
    safe: bool = False
    reason: str = "line 1: not today"


def test_refused_cell_is_not_run_and_the_model_is_told_why(session: Session) -> None:
    async def check(source: str) -> No:
        return No(safe="forbidden" not in source)

    model = ScriptedModel([cell("forbidden = 1"), cell("'forb' + 'idden' in dir()"), "done"])
    PythonExecAgent(language_model_interface=model, session=session, check=check).task("go")
    told = [message["content"] for message in model.requests[-1].messages if message["role"] == "tool"]
    assert told == ["[Not run.] The cell was refused: line 1: not today", "False"]


def test_cell_that_runs_too_long_is_stopped_and_the_truth_is_said(engine: str) -> None:
    with Session(engine=engine, image="python", limits=Limits(cell_timeout=0.5)) as session:
        told = run(session, "kept = 1\nimport time\nwhile True: time.sleep(0.1)")
        assert "ran longer than 0.5 s and was interrupted; variables are kept" in told
        assert run(session, "kept") == "1"


def test_new_and_changed_files_are_named(session: Session) -> None:
    assert "[New files under /mnt/data: out/a.csv (4 bytes)]" in run(
        session, "import os\nos.makedirs('out')\nwritten = open('out/a.csv', 'w').write('a\\n1\\n')"
    )
    assert "[Changed files under /mnt/data: out/a.csv (2 bytes)]" in run(
        session, "w = open('out/a.csv', 'w').write('b\\n')"
    )
    assert run(session, "1") == "1"
    assert "[Deleted files" in run(session, "os.remove('out/a.csv')")
    session.files.write("from-host.txt", "x")  # not the next cell's doing
    assert run(session, "2") == "2"
    assert ListFilesTool(session).run({}) == "Files under /mnt/data:\nfrom-host.txt\t1 bytes"


def test_dead_kernel_is_restarted_and_the_model_is_told(session: Session) -> None:
    run(session, "kept = 1\nw = open('kept.txt', 'w').write('here')")
    told = run(session, "import os\nos.kill(os.getpid(), 9)")
    assert "SIGKILL" in told
    assert "[A fresh kernel runs already. Variables are lost, files under /mnt/data are kept." in told
    assert run(session, "'kept' in dir(), open('kept.txt').read()") == "(False, 'here')"


def test_restart_between_two_cells_is_told_once(session: Session) -> None:
    tool = PythonExecTool(session)
    tool.run({"python_code": "kept = 1"})
    session.restart()
    assert "[This cell ran in a fresh kernel, without earlier variables." in tool.run(
        {"python_code": "'kept' in dir()"}
    )
    assert tool.run({"python_code": "1"}) == "1"


def test_kernel_that_died_is_restarted_once_for_two_agents(session: Session) -> None:
    begun, generation = threading.Event(), session.generation
    first, second = PythonExecTool(session, on_event=lambda event: begun.set()), PythonExecTool(session)
    code = "import os, time\nprint('begun', flush=True)\ntime.sleep(1)\nos._exit(3)"
    with ThreadPoolExecutor() as threads:
        died = threads.submit(first.run, {"python_code": code})
        assert begun.wait(20)
        assert "Variables are lost" in second.run({"python_code": "1"})
        assert "Variables are lost" in died.result()
    assert session.execute("1").status == "ok"
    assert session.generation == generation + 1


def test_closed_session_is_said(engine: str) -> None:
    with Session(engine=engine, image="python") as session:
        pass
    agent = PythonExecAgent(language_model_interface=ScriptedModel([cell("1"), "Closed."]), session=session)
    agent.task("go")
    assert "The session is closed" in results(agent)[0]


def test_huge_output_is_cut_for_the_model_and_kept_in_the_transcript(session: Session) -> None:
    told = run(session, "for n in range(100_000): print(n)")
    assert len(told) < 21_000
    assert "characters cut here" in told
    assert told.rstrip().endswith("99999")
    assert b"50000\\n" in session.transcript.to_bytes()


def test_events_show_the_cells_outputs_live(session: Session) -> None:
    events: list[AgentEvent] = []
    model = ScriptedModel([cell("print('shown')"), "done"])
    PythonExecAgent(language_model_interface=model, session=session, on_event=events.append).task("go")
    kinds = [type(event).__name__ for event in events]
    cell_kinds = ["ToolCallStarted", "CellOutput", "CellFinished", "ToolResult"]
    assert kinds == ["ModelAnswered", *cell_kinds, "TextDelta", "ModelAnswered"]
    assert isinstance(events[2], CellOutput)
    assert isinstance(events[3], CellFinished)
    assert events[3].execution.text == "shown\n"
    assert isinstance(events[4], ToolResult)


async def test_agent_uses_an_async_session_in_its_own_loop(engine: str) -> None:
    async with AsyncSession(engine=engine, image="python") as session:
        agent = PythonExecAgent(language_model_interface=ScriptedModel([cell("6 * 7"), "42"]), session=session)
        assert await agent.atask("go") == "42"
        assert results(agent) == ["42"]


def test_ctrl_c_stops_the_cell_and_keeps_the_session(session: Session) -> None:
    def on_event(event: AgentEvent) -> None:
        if isinstance(event, CellOutput) and "running" in str(event.output):
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    slow = "kept = 'still here'\nprint('running', flush=True)\nimport time\nwhile True: time.sleep(0.1)"
    model = ScriptedModel([cell(slow), cell("kept"), "yes"])
    agent = PythonExecAgent(language_model_interface=model, session=session, on_event=on_event)
    with pytest.raises(KeyboardInterrupt):
        agent.task("go")
    assert results(agent) == [INTERRUPTED]
    assert agent.task("Is it still there?") == "yes"
    assert results(agent)[-1].startswith("'still here'\n[The user had stopped the cell before this one.")


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> str:
    value = "canary-5d1c7e"
    monkeypatch.setenv("OPENAI_API_KEY", value)
    return value


def test_key_of_the_host_is_nowhere_in_the_sandbox(canary: str, engine: str, caplog: pytest.LogCaptureFixture) -> None:
    look = (
        "import os, glob\nprint(dict(os.environ))\n"
        "for path in glob.glob('/proc/*/environ'):\n"
        "    try: print(open(path, 'rb').read())\n"
        "    except OSError as exc: print(type(exc))\n"
        "!env; cat /etc/passwd"
    )
    model = ScriptedModel([cell(look), "done"])
    with caplog.at_level("DEBUG"), Session(engine=engine, image="python") as session:
        agent = PythonExecAgent(language_model_interface=model, session=session)
        agent.task("Print the environment.")
        assert "'PATH'" in results(agent)[0]
        everything = results(agent)[0] + session.execute("0").text + str(session.transcript.notebook) + caplog.text
        in_files = session.execute(f"!grep -rl {canary[:6]}'{canary[6:]}' / --include=* -s --exclude-dir=proc").text
    assert canary not in everything
    assert in_files == ""
