from __future__ import annotations

import json

import pytest

from kernel_sandbox.agents import ChatMessages, Completion, ToolCall
from kernel_sandbox.agents.completions import CompletionBuilder, as_completion
from kernel_sandbox.errors import ModelError

CALLS = (ToolCall("a", "look", "{}"), ToolCall("b", "look", "{}"))


def test_messages_are_copies_that_json_can_hold() -> None:
    messages = ChatMessages("Be brief.")
    messages.add_user_message("lone \ud800 surrogate")
    messages.add_assistant_message("", CALLS[:1])
    messages.add_tool_result("a", "done")
    copy = messages.get_messages()
    assert json.loads(json.dumps(copy).encode()) == copy
    copy[0]["content"] = "changed"
    copy[2]["tool_calls"].clear()
    assert messages.get_messages()[0] == {"role": "developer", "content": "Be brief."}
    assert messages.open_calls() == ()


def test_messages_go_on_from_their_json() -> None:
    messages = ChatMessages("p")
    messages.add_assistant_message("", CALLS)
    again = ChatMessages.from_messages(json.loads(json.dumps(messages.get_messages())))
    assert again.get_messages() == messages.get_messages()
    assert again.open_calls() == ("a", "b")


def test_tool_call_is_answered_once() -> None:
    messages = ChatMessages("p")
    messages.add_assistant_message("", CALLS)
    messages.add_tool_result("a", "1")
    with pytest.raises(ValueError, match="answered once"):
        messages.add_tool_result("a", "2")
    messages.answer_open_calls("interrupted")
    assert [m["tool_call_id"] for m in messages.get_messages()[2:]] == ["a", "b"]


def test_completion_gives_own_ids_where_a_server_sends_none_or_the_same() -> None:
    call = {"id": "", "function": {"name": "f", "arguments": "{}"}}
    same = call | {"id": "x"}
    completion = as_completion({"role": "assistant", "content": None, "tool_calls": [call, call, same, same]})
    assert len({call.id for call in completion.tool_calls}) == 4
    assert all(call.id for call in completion.tool_calls)


@pytest.mark.parametrize("value", [None, "<html>", {}, {"choices": []}, {"error": "no"}, 5])
def test_completion_refuses_what_is_none(value: object) -> None:
    with pytest.raises(ModelError, match="not a chat completion"):
        as_completion(value)


def test_streamed_calls_without_index_are_kept_apart() -> None:
    builder = CompletionBuilder()
    for name in ("one", "two"):
        call = {"id": name, "function": {"name": name, "arguments": "{}"}}
        builder.feed({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})
    assert builder.finish() == Completion(
        tool_calls=(ToolCall("one", "one", "{}"), ToolCall("two", "two", "{}")), finish_reason="tool_calls"
    )
