"""Models that are shown pictures: which, which pictures, and what goes over the wire."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import anyio
import pytest

from kernel_sandbox import Session
from kernel_sandbox.agents import (
    ChatMessages,
    Completion,
    OpenAILanguageModel,
    PythonExecAgent,
    ScriptedModel,
    ToolAnswer,
    ToolCall,
    ToolInterface,
    ToolManager,
    tool,
)
from kernel_sandbox.agents.chat_messages import PICTURES
from kernel_sandbox.agents.loop import INTERRUPTED, LoopOptions, TaskLoop
from kernel_sandbox.agents.offline import OfflineAnalyst
from kernel_sandbox.agents.vision import takes_pictures
from kernel_sandbox.errors import ModelError
from kernel_sandbox.session.outputs import Picture
from tests.agents.model_server import Call, Fail, Reply, Say, model_server

pytestmark = pytest.mark.anyio

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
URL = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
SHOW = f"from IPython.display import display\ndef show(png={PIXEL!r}):\n    import base64\n"
SHOW += "    display({'image/png': base64.b64encode(png).decode(), 'text/plain': 'plot'}, raw=True)\n"


@pytest.mark.parametrize(
    ("seeing", "names"),
    [
        (
            True,
            "gpt-4o gpt-4o-mini gpt-4o-2024-11-20 chatgpt-4o-latest gpt-4.1-nano gpt-4.5-preview gpt-5 gpt-5.1-mini",
        ),
        (True, "o1 o1-2024-12-17 o1-pro o3 o3-pro o4-mini GPT-4o claude-sonnet-4-5 gemini-2.5-flash"),
        (True, "openai/gpt-4o anthropic/claude-3.5-sonnet:beta google/gemini-2.5-pro ft:gpt-4o-2024-08-06:me::id"),
        (False, "o1-mini o1-preview o3-mini o3-mini-2025-01-31 openai/o3-mini gpt-4 gpt-4-0613 gpt-3.5-turbo gpt-50"),
        (False, "gpt-4o-audio-preview gpt-4o-mini-transcribe claude-2.1 claude-instant-1 gemini-embedding-001"),
        (False, "llama3.2 deepseek-r1 my/o3model offline not-gpt-4o o30"),
    ],
)
def test_models_that_take_pictures_are_known_by_name(seeing: bool, names: str) -> None:
    assert {name: takes_pictures(name) for name in names.split()} == dict.fromkeys(names.split(), seeing)


def png(size: int = 0) -> Picture:
    return Picture("image/png", PIXEL + bytes(max(size - len(PIXEL), 0)), 1, 1)


def shown(messages: ChatMessages) -> list[str]:
    """What pictures a request would carry, by the captions before them, and what stands for those left out."""
    found = []
    for message in messages.get_messages():
        parts = message["content"] if isinstance(message["content"], list) else []
        for caption, part in itertools.pairwise(parts):
            if part["type"] == "image_url" or part["text"].startswith("[This picture"):
                found.append(caption["text"] if part["type"] == "image_url" else f"({caption['text']})")
    return found


def test_only_the_latest_pictures_are_sent_again() -> None:
    messages = ChatMessages("p")
    messages.add_pictures([("a", png()), ("b", png()), ("c", png())])
    messages.add_pictures([])
    messages.add_pictures([("d", png()), ("e", png())])
    assert shown(messages) == ["(a)", "b", "c", "d", "e"]
    messages.add_pictures([(name, png()) for name in "fghijk"])
    assert shown(messages) == ["(a)", "(b)", "(c)", "(d)", "(e)", "f", "g", "h", "i"]
    assert "Not shown: 2 more. At most 4" in messages.get_messages()[-1]["content"][-1]["text"]
    assert json.loads(json.dumps(messages.get_messages())) == messages.get_messages()


@pytest.mark.parametrize(
    ("picture", "is_shown"),
    [
        (png(3 * 1024 * 1024), True),  # 4 MB in base64
        (png(3 * 1024 * 1024 + 1), False),
        (Picture("image/svg+xml", b"<svg/>", 1, 1), False),
        (Picture("image/webp", b"RIFF", 1, 1), True),
    ],
)
def test_pictures_are_bounded_in_kind_and_size(picture: Picture, is_shown: bool) -> None:
    messages = ChatMessages("p")
    messages.add_pictures([("it", picture)])
    assert bool(shown(messages)) is is_shown
    assert ("Not shown: 1 more" in str(messages.get_messages())) is not is_shown


def test_pictures_wait_for_all_results() -> None:
    messages = ChatMessages("p")
    messages.add_assistant_message("", [ToolCall("c", "look", "{}")])
    with pytest.raises(ValueError, match="after the results"):
        messages.add_pictures([("a", png())])


class Camera(ToolInterface):
    """The cookbook's interface: `run` alone, with pictures beside the text."""

    def __init__(self, *pictures: Picture) -> None:
        self.pictures = pictures or (png(),)

    def get_definition(self) -> dict[str, Any]:
        return {"function": {"name": "take", "description": "Take it.", "parameters": {"type": "object"}}}

    def run(self, arguments: dict[str, Any]) -> ToolAnswer:
        return ToolAnswer("taken", self.pictures)


@tool
def snap() -> ToolAnswer:
    """Take another."""
    return ToolAnswer("snapped", (png(),))


def sequence(model: ScriptedModel, *calls: tuple[str, str], as_is: bool = False) -> tuple[str, ChatMessages]:
    manager, messages = ToolManager(language_model_interface=model), ChatMessages("p")
    for one in (Camera(), snap):
        manager.register_tool(one)
    made = tuple(ToolCall(f"c{n}", *call) for n, call in enumerate(calls))
    return manager.handle_tool_call_sequence(Completion("", made), as_is, messages, "gpt-4o"), messages


def test_pictures_follow_all_results_of_a_message() -> None:
    _, messages = sequence(ScriptedModel(["seen"]), ("take", "{}"), ("take", "{"), ("snap", "{}"))
    roles = [message["role"] for message in messages.get_messages()]
    assert roles == ["developer", "assistant", "tool", "tool", "tool", "user", "assistant"]
    assert messages.get_messages()[-2]["content"] == [
        {"type": "text", "text": PICTURES},
        {"type": "text", "text": "Tool call 1 (take), picture 1:"},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "text", "text": "Tool call 3 (snap), picture 1:"},
        {"type": "image_url", "image_url": {"url": URL}},
    ]


def test_result_as_is_is_text() -> None:
    answer, messages = sequence(ScriptedModel([]), ("take", "{}"), as_is=True)
    assert answer == messages.get_messages()[-1]["content"] == "taken"


async def test_interruption_leaves_every_call_answered_once_and_the_pictures_behind() -> None:
    started = anyio.Event()

    @tool
    async def stay() -> None:
        """Never end."""
        started.set()
        await anyio.sleep_forever()

    manager, messages = ToolManager(), ChatMessages("p")
    for one in (Camera(), stay):
        manager.register_tool(one)
    calls = tuple(ToolCall(f"c{n}", name, "{}") for n, name in enumerate(["take", "stay", "take"]))
    loop = TaskLoop(ScriptedModel([]), messages, manager, LoopOptions("gpt-4o"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(loop.run, Completion("", calls))
        await started.wait()
        tasks.cancel_scope.cancel()
    results = [message for message in messages.get_messages() if message["role"] == "tool"]
    assert [(m["tool_call_id"], m["content"]) for m in results] == [
        ("c0", "taken"),
        ("c1", INTERRUPTED),
        ("c2", INTERRUPTED),
    ]
    assert shown(messages) == ["Tool call 1 (take), picture 1:"]


def test_server_that_refuses_pictures_is_asked_again_without() -> None:
    model = ScriptedModel([ModelError("no pictures", status_code=400), "described by its text"])
    answer, messages = sequence(model, ("take", "{}"))
    assert answer == "described by its text"
    assert shown(messages) == ["(Tool call 1 (take), picture 1:)"]
    assert URL in str(model.requests[0].messages)
    assert URL not in str(model.requests[1].messages)


def test_refusal_of_words_is_no_matter_of_pictures() -> None:
    model = ScriptedModel([ModelError("quota", status_code=429), "never"])
    with pytest.raises(ModelError, match="quota"):
        sequence(model, ("take", "{}"))
    refused = ScriptedModel([ModelError("bad", status_code=400), ModelError("still bad", status_code=400), "never"])
    with pytest.raises(ModelError, match="still bad"):
        sequence(refused, ("take", "{}"))


def run_cells(session: Session, model: str, *sources: str, replies: int = 1, **options: Any) -> list[dict[str, Any]]:
    """Make an agent run cells, one per turn, at a server on loopback; return the bodies of its requests."""
    cells: list[Reply] = [Call([("execute_python_code", {"python_code": SHOW + source})]) for source in sources]
    with model_server(*cells, *[Say("done")] * replies) as server:
        language_model = OpenAILanguageModel(api_key="k", base_url=server.url, max_retries=0)
        agent = PythonExecAgent(model_name=model, language_model_interface=language_model, session=session, **options)
        assert agent.task("go") == "done"
        language_model.close()
    return server.requests


@pytest.mark.usefixtures("requests_allowed")
def test_seeing_model_gets_the_figure_as_an_image_part(session: Session) -> None:
    first, second = run_cells(session, "gpt-4o", "show()")
    result, pictures = second["messages"][-2:]
    assert result["role"] == "tool"
    assert result["content"] == "[plot: image/png, 1×1 pixels, 70 bytes. It is shown below as picture 1.]"
    assert pictures["role"] == "user"
    assert pictures["content"][1:] == [
        {"type": "text", "text": "Tool call 1 (execute_python_code), picture 1:"},
        {"type": "image_url", "image_url": {"url": URL}},
    ]
    assert "shown to the user and to you" in first["tools"][0]["function"]["description"]


@pytest.mark.usefixtures("requests_allowed")
@pytest.mark.parametrize(("model", "options"), [("o3-mini", {}), ("gpt-4o", {"pictures": False})])
def test_blind_model_gets_one_line(session: Session, model: str, options: dict[str, Any]) -> None:
    first, second = run_cells(session, model, "show()", **options)
    line = "[plot: image/png, 1×1 pixels, 70 bytes. It is shown to the user; you cannot see it.]"
    assert second["messages"][-1]["content"] == line
    assert "image_url" not in json.dumps(second)
    assert "not to you" in first["tools"][0]["function"]["description"]


@pytest.mark.usefixtures("requests_allowed")
def test_at_most_four_pictures_are_sent_and_only_real_ones(session: Session) -> None:
    svg = "display({'text/plain': 'drawing', 'image/svg+xml': '<svg width=\"1\" height=\"2\"/>'}, raw=True)"
    many = f"for n in range(6): show()\nshow(b'<html>')\n{svg}"
    *_, last = run_cells(session, "o3-mini", many, "show()", pictures=True)
    told = [message["content"] for message in last["messages"] if message["role"] == "tool"]
    lines = told[0].split("\n")
    assert [line.partition("bytes. ")[2] for line in lines[:6]] == [
        *[f"It is shown below as picture {n}.]" for n in (1, 2, 3, 4)],
        *["It is shown to the user; you cannot see it.]"] * 2,
    ]
    assert lines[6:] == [
        "[plot: image/png that cannot be read.]",
        "[drawing: image/svg+xml, 1×2 pixels, 27 bytes. It is shown to the user; you cannot see it.]",
    ]
    parts = [
        part for message in last["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    assert [part["type"] for part in parts].count("image_url") == 4  # one of the first four made room
    assert [part.get("text", "").startswith("[This picture is left out.") for part in parts].count(True) == 1


@pytest.mark.usefixtures("requests_allowed")
def test_hostile_picture_does_not_end_the_conversation(session: Session) -> None:
    """A server refuses what only begins like a picture, and would with every later request."""
    call = Call([("execute_python_code", {"python_code": SHOW + "show(show.__defaults__[0][:30])"})])
    with model_server(call, Fail(400), Say("I cannot see it."), Say("Still here.")) as server:
        model = OpenAILanguageModel(api_key="k", base_url=server.url, max_retries=0)
        agent = PythonExecAgent(model_name="gpt-5", language_model_interface=model, session=session)
        assert agent.task("go") == "I cannot see it."
        assert agent.task("and?") == "Still here."
        model.close()
    assert ["image_url" in json.dumps(request) for request in server.requests] == [False, True, False, False]


def test_offline_analyst_does_not_take_a_picture_for_the_question() -> None:
    messages = ChatMessages("p")
    messages.add_user_message("Use /mnt/data/orders.csv")
    messages.add_user_message("describe this table")
    before = OfflineAnalyst().generate_completion("offline", messages.get_messages(), TOOLS)
    call = ToolCall("c", "execute_python_code", "{}")
    messages.add_assistant_message("", [call])
    messages.add_tool_result("c", 'ANALYST {"step": "load"}')
    plain = OfflineAnalyst().generate_completion("offline", messages.get_messages(), TOOLS)
    messages.add_pictures([("a", png())])
    assert OfflineAnalyst().generate_completion("offline", messages.get_messages(), TOOLS) == plain
    assert before.tool_calls


TOOLS = [{"type": "function", "function": {"name": "execute_python_code"}}]
