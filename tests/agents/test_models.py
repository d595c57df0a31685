"""The real openai client against a real server on loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from kernel_sandbox.agents import Completion, LanguageModelInterface, OpenAILanguageModel, TokenUsage, ToolCall
from kernel_sandbox.agents.chat_messages import Message
from kernel_sandbox.errors import ModelError, ModelNotConfigured
from tests.agents.model_server import Call, Cut, Fail, Hang, ModelServer, Raw, Reply, Say, model_server

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("requests_allowed")]

HELLO: list[Message] = [{"role": "developer", "content": "p"}, {"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]
TWO_CALLS = Call([("f", {"a": "one"}), ("g", '{"b": ')], text="Let me look.")
EXPECTED = (ToolCall("call_0", "f", '{"a": "one"}'), ToolCall("call_1", "g", '{"b": '))

Asker = Callable[..., tuple[OpenAILanguageModel, ModelServer]]


@pytest.fixture
def ask() -> Iterator[Asker]:
    """Makes a model and its server from replies."""
    made: list[Any] = []

    def make(*replies: Reply, **arguments: Any) -> tuple[OpenAILanguageModel, ModelServer]:
        context = model_server(*replies)
        server = context.__enter__()
        model = OpenAILanguageModel(api_key="key-1", base_url=server.url, **arguments)
        made.append((model, context))
        return model, server

    yield make
    for model, context in made:
        model.close()
        context.__exit__(None, None, None)


def test_request_holds_what_was_asked_and_no_more(ask: Asker) -> None:
    model, server = ask(Say("hello"), Say("hello"))
    assert model.generate_completion("m", HELLO) == Completion("hello", (), TokenUsage(100, 10), "stop")
    model.generate_completion("m", HELLO, TOOLS, "high")
    assert server.requests[0] == {"model": "m", "messages": HELLO}
    assert server.requests[1] == {"model": "m", "messages": HELLO, "tools": TOOLS, "reasoning_effort": "high"}
    assert server.keys[0] == "Bearer key-1"


async def test_streamed_answer_equals_the_whole_one(ask: Asker) -> None:
    model, server = ask(TWO_CALLS, TWO_CALLS)
    pieces: list[str] = []
    streamed = await model.agenerate_completion("m", HELLO, TOOLS, on_text=pieces.append)
    assert streamed == await model.agenerate_completion("m", HELLO, TOOLS)
    assert streamed == Completion("Let me look.", EXPECTED, TokenUsage(100, 10), "tool_calls")
    assert "".join(pieces) == "Let me look."
    assert len(pieces) > 1
    assert server.requests[0]["stream_options"] == {"include_usage": True}


def test_role_is_system_for_servers_that_need_it(ask: Asker) -> None:
    model, server = ask(Say(""), role="system")
    model.generate_completion("m", HELLO)
    assert [message["role"] for message in server.requests[0]["messages"]] == ["system", "user"]
    assert HELLO[0]["role"] == "developer"


def test_rate_limit_is_waited_out(ask: Asker) -> None:
    model, server = ask(Fail(429, {"Retry-After": "0.3"}), Say("at last"))
    started = time.perf_counter()
    assert model.generate_completion("m", HELLO).content == "at last"
    assert 0.3 <= time.perf_counter() - started < 5
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "said", "status"),
    [
        (Fail(429), "rate limit", 429),
        (Fail(500), "failed: ask again later", 500),
        (Fail(401), "check OPENAI_API_KEY", 401),
        (Fail(404), "does not know this model", 404),
        (Fail(400), "refused the request", 400),
        (Raw(b'{"choices": [{'), "cannot be read", None),
        (Raw(b'{"hello": 1}'), "not a chat completion", None),
        (Hang(), "did not answer in time", None),
    ],
)
def test_failures_are_model_errors(ask: Asker, reply: Reply, said: str, status: int | None) -> None:
    model, _ = ask(reply, max_retries=0, timeout=0.5)
    with pytest.raises(ModelError, match=said) as caught:
        model.generate_completion("m", HELLO)
    assert caught.value.status_code == status
    assert "key-1" not in str(caught.value)


async def test_failure_before_a_stream_begins_keeps_its_name(ask: Asker) -> None:
    model, _ = ask(Fail(401), max_retries=0)
    with pytest.raises(ModelError, match="check OPENAI_API_KEY"):
        await model.agenerate_completion("m", HELLO, on_text=print)


@pytest.mark.parametrize("cleanly", [False, True])
async def test_cut_stream_is_an_error_that_says_so(ask: Asker, cleanly: bool) -> None:
    model, _ = ask(Cut(TWO_CALLS, cleanly))
    with pytest.raises(ModelError, match="cut before its end"):
        await model.agenerate_completion("m", HELLO, TOOLS, on_text=lambda text: None)


async def test_error_of_the_callback_is_its_own(ask: Asker) -> None:
    model, _ = ask(Say("hello"))

    def refuse(text: str) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await model.agenerate_completion("m", HELLO, on_text=refuse)


def test_server_that_is_not_there_is_an_error() -> None:
    with model_server() as server:
        url = server.url
    model = OpenAILanguageModel(api_key="k", base_url=url, max_retries=0)
    with pytest.raises(ModelError, match="cannot be reached"):
        model.generate_completion("m", HELLO)
    model.close()


def test_key_and_address_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    model = OpenAILanguageModel()
    with pytest.raises(ModelNotConfigured, match="OPENAI_API_KEY"):
        model.generate_completion("m", HELLO)
    with model_server(Say("a"), Say("b")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
        model.generate_completion("m", HELLO)
        model.close()
        monkeypatch.delenv("OPENAI_API_KEY")
        model.generate_completion("m", HELLO)  # a server with an address of its own may need no key
        model.close()
        assert server.keys == ["Bearer from-environment", "Bearer none"]


def test_time_out_and_retries_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_TIMEOUT", "0.3")
    monkeypatch.setenv("OPENAI_MAX_RETRIES", "1")
    with model_server(Hang(), Hang(), Say("too late")) as server:
        model = OpenAILanguageModel(api_key="k", base_url=server.url)
        started = time.perf_counter()
        with pytest.raises(ModelError, match="did not answer in time"):
            model.generate_completion("m", HELLO)
        assert time.perf_counter() - started < 10
        assert len(server.requests) == 2
        model.close()
        own = OpenAILanguageModel(api_key="k", base_url=server.url, timeout=60, max_retries=0)  # arguments go first
        assert own.generate_completion("m", HELLO).content == "too late"
        own.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("OPENAI_TIMEOUT", bad) for bad in ("soon", "0", "-1", "inf", "nan", "1e999")]
    + [("OPENAI_MAX_RETRIES", bad) for bad in ("many", "-1", "1.5", "٣", "1000")],
)
def test_unusable_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ModelNotConfigured, match=f"{name}='{value}'"):
        OpenAILanguageModel(api_key="k", base_url="http://127.0.0.1:1/v1").generate_completion("m", HELLO)


def test_empty_settings_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_TIMEOUT", "")
    monkeypatch.setenv("OPENAI_MAX_RETRIES", " ")
    with model_server(Say("hello")) as server:
        model = OpenAILanguageModel(api_key="k", base_url=server.url)
        assert model.generate_completion("m", HELLO).content == "hello"
        model.close()


def test_switch_forbids_requests(ask: Asker, no_model_requests: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, server = ask(Say("hello"))
    monkeypatch.setattr("kernel_sandbox.agents.models.ALLOW_MODEL_REQUESTS", False)
    with pytest.raises(ModelNotConfigured, match="switched off"):
        model.generate_completion("m", HELLO)
    assert server.requests == []


async def test_sync_client_of_the_caller_is_used() -> None:
    with model_server(Say("hello")) as server, openai.OpenAI(api_key="mine", base_url=server.url) as client:
        model = OpenAILanguageModel(openai_client=client)
        pieces: list[str] = []
        assert (await model.agenerate_completion("m", HELLO, on_text=pieces.append)).content == "hello"
        await model.aclose()  # leaves the caller's client alone
        assert (pieces, server.keys, client.is_closed()) == (["hello"], ["Bearer mine"], False)


class CookbookModel(LanguageModelInterface):
    """Only the sync method, and an SDK's object for an answer."""

    def generate_completion(
        self, model: str, messages: list[Message], tools: Any = None, reasoning_effort: str | None = None
    ) -> Any:
        function = SimpleNamespace(name="f", arguments="{}")
        call = SimpleNamespace(id="c1", function=function)
        message = SimpleNamespace(role="assistant", content=None, tool_calls=[call])
        return SimpleNamespace(choices=[SimpleNamespace(message=message)])


async def test_model_with_the_sync_method_only_works() -> None:
    completion = await CookbookModel().agenerate_completion("m", HELLO)
    assert completion.tool_calls == (ToolCall("c1", "f", "{}"),)


def test_openai_is_not_imported_before_it_is_needed() -> None:
    script = "import sys, kernel_sandbox.agents as a; a.PythonExecAgent(); assert 'openai' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
