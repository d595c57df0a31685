"""The loop, with a scripted model and tools that are functions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from kernel_sandbox.agents import (
    AgentEvent,
    BaseAgent,
    ChatMessages,
    Completion,
    ModelAnswered,
    ScriptedModel,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolCallStarted,
    ToolResult,
    tool,
)
from kernel_sandbox.agents.loop import GIVEN_UP, INTERRUPTED
from kernel_sandbox.errors import ModelError

pytestmark = pytest.mark.anyio


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def forever() -> None:
    """Never end."""
    await anyio.sleep_forever()


class Adder(BaseAgent):
    def __init__(self, model: ScriptedModel | None, **options: Any) -> None:
        super().__init__("You add.", "test-model", None, model, **options)

    def setup_tools(self) -> None:
        self.tool_manager.register_tool(add)
        self.tool_manager.register_tool(forever)


def calls(*pairs: tuple[str, Any], text: str = "", usage: TokenUsage | None = None) -> Completion:
    made = tuple(ToolCall(f"c{n}", name, json.dumps(arguments)) for n, (name, arguments) in enumerate(pairs))
    return Completion(text, made, usage or TokenUsage(), "tool_calls")


ONE = calls(("add", {"a": 1, "b": 2}), usage=TokenUsage(100, 10, 5))


def roles(messages: ChatMessages) -> list[str]:
    return [message["role"] for message in messages.get_messages()]


def assert_answered_once(messages: ChatMessages) -> None:
    wanted = [call["id"] for m in messages.get_messages() for call in m.get("tool_calls") or ()]
    assert [m["tool_call_id"] for m in messages.get_messages() if m["role"] == "tool"] == wanted


def test_task_answers_and_is_remembered() -> None:
    model = ScriptedModel(["4", "5"])
    agent = Adder(model)
    agent.add_context("Use integers.")
    assert agent.task("2 + 2?") == "4"
    agent.task("And one more?")
    assert roles(agent.messages) == ["developer", "user", "user", "assistant", "user", "assistant"]
    assert [message["content"] for message in model.requests[1].messages][-2:] == ["4", "And one more?"]


async def test_every_call_of_a_message_is_answered_in_order_then_asked_again_with_tools() -> None:
    two = calls(("add", {"a": 1, "b": 2}), ("add", {"a": "x", "b": 1}), ("subtract", {}))
    model = ScriptedModel([two, "done"])
    agent = Adder(model)
    assert await agent.atask("go") == "done"
    results = model.requests[1].messages[-3:]
    assert [result["tool_call_id"] for result in results] == ["c0", "c1", "c2"]
    assert results[0]["content"] == "3"
    assert "a must be integer" in results[1]["content"]
    assert "no tool named 'subtract'" in results[2]["content"]
    assert model.requests[1].tools == model.requests[0].tools != []
    assert_answered_once(agent.messages)


async def test_max_turns_ends_with_an_answer_that_says_so() -> None:
    model = ScriptedModel(lambda messages: ONE)
    agent = Adder(model, max_turns=3)
    answer = await agent.atask("go")
    assert "asked 3 times (max_turns)" in answer
    assert len(model.requests) == 3
    assert agent.last_task is not None
    assert (agent.last_task.ended, agent.last_task.turns) == ("max_turns", 3)
    assert agent.messages.get_messages()[-1] == {"role": "assistant", "content": answer}
    assert_answered_once(agent.messages)


@pytest.mark.parametrize(
    ("default", "own", "sent"), [(None, None, None), ("low", None, "low"), ("low", "high", "high")]
)
async def test_reasoning_effort_is_forwarded_on_every_request(
    default: str | None, own: str | None, sent: str | None
) -> None:
    model = ScriptedModel([ONE, "3"])
    agent = Adder(model, reasoning_effort=default)
    await agent.atask("go", reasoning_effort=own)
    assert [request.reasoning_effort for request in model.requests] == [sent, sent]


async def test_tool_response_as_is_runs_the_first_call_and_asks_no_more() -> None:
    model = ScriptedModel([calls(("add", {"a": 1, "b": 2}), ("add", {"a": 5, "b": 5}))])
    agent = Adder(model)
    assert await agent.atask("go", return_tool_response_as_is=True) == "3"
    assert agent.messages.get_messages()[1:] == [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "3"},
    ]


async def test_tools_can_be_left_out() -> None:
    model = ScriptedModel([calls(("add", {"a": 1, "b": 2}), text="I would add.")])
    assert await Adder(model).atask("go", tool_call_enabled=False) == "I would add."
    assert model.requests[0].tools is None


async def test_usage_and_time_are_summed_per_task() -> None:
    agent = Adder(ScriptedModel([ONE, ONE, Completion("3", usage=TokenUsage(1, 1))]))
    await agent.atask("go")
    assert agent.last_task is not None
    assert agent.last_task.usage == TokenUsage(201, 21, 10)
    assert agent.last_task.turns == 3
    assert 0 < agent.last_task.model_seconds + agent.last_task.tool_seconds <= agent.last_task.seconds


async def test_events_show_each_step() -> None:
    events: list[AgentEvent] = []
    agent = Adder(ScriptedModel([ONE, "3"]), on_event=events.append)
    await agent.atask("go")
    call = ONE.tool_calls[0]
    assert events == [
        ModelAnswered(ONE, TokenUsage(100, 10, 5)),
        ToolCallStarted(call),
        ToolResult(call, "3"),
        TextDelta("3"),
        ModelAnswered(Completion("3"), TokenUsage(100, 10, 5)),
    ]


async def test_answer_cut_at_the_token_limit_says_so() -> None:
    agent = Adder(ScriptedModel([Completion("The res", finish_reason="length")]))
    assert (await agent.atask("go")).endswith("cut at the model's token limit.]")


async def test_cancelled_task_leaves_a_whole_conversation() -> None:
    started = anyio.Event()

    def on_event(event: AgentEvent) -> None:
        if isinstance(event, ToolCallStarted) and event.call.name == "forever":
            started.set()

    agent = Adder(ScriptedModel([calls(("add", {"a": 1, "b": 1}), ("forever", {}), ("forever", {})), "on"]))
    agent.on_event = on_event
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent.atask, "go")
        await started.wait()
        tasks.cancel_scope.cancel()
    contents = [m["content"] for m in agent.messages.get_messages() if m["role"] == "tool"]
    assert contents == ["2", INTERRUPTED, INTERRUPTED]
    assert_answered_once(agent.messages)
    assert agent.messages.get_messages()[-1] == {"role": "assistant", "content": GIVEN_UP}
    assert await agent.atask("go on") == "on"


async def test_failing_callback_leaves_a_whole_conversation() -> None:
    def refuse(event: AgentEvent) -> None:
        raise RuntimeError("display gone")

    agent = Adder(ScriptedModel([ONE]), on_event=refuse)
    with pytest.raises(RuntimeError, match="display gone"):
        await agent.atask("go")
    assert_answered_once(agent.messages)


async def test_model_that_fails_in_the_middle_leaves_a_whole_conversation() -> None:
    agent = Adder(ScriptedModel([ONE, ModelError("gone"), "3"]))
    with pytest.raises(ModelError, match="gone"):
        await agent.atask("go")
    assert agent.last_task is not None
    assert agent.last_task.ended == "failed"
    assert_answered_once(agent.messages)
    assert await agent.atask("again") == "3"


async def test_agent_does_one_task_at_a_time() -> None:
    agent = Adder(ScriptedModel([calls(("forever", {}))]))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(agent.atask, "go")
        await anyio.lowlevel.checkpoint()
        with pytest.raises(RuntimeError, match="at a task already"):
            await agent.atask("another")
        tasks.cancel_scope.cancel()


def test_agent_without_a_model_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="language_model_interface"):
        Adder(None).task("go")


def test_signature_says_what_the_agent_is() -> None:
    signature = Adder(None).signature()
    assert list(signature) == ["developer_prompt", "model_name", "tools"]
    assert [definition["function"]["name"] for definition in signature["tools"]] == ["add", "forever"]
    assert Adder(None, reasoning_effort="high").signature()["reasoning_effort"] == "high"


def test_task_works_from_threads_and_a_running_loop() -> None:
    results: list[str] = []
    work: Callable[[], None] = lambda: results.append(Adder(ScriptedModel([ONE, "3"])).task("go"))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def inside() -> None:
        work()

    anyio.run(inside)
    assert results == ["3"] * 5


def test_overhead_of_a_turn_is_small() -> None:
    turns = 200
    agent = Adder(ScriptedModel([ONE] * turns + ["3"]), max_turns=turns + 1)
    started = time.perf_counter()
    agent.task("go")
    assert agent.last_task is not None
    assert (time.perf_counter() - started) / turns < 0.02
