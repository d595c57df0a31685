from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from kernel_sandbox.agents import ChatMessages, ScriptedModel, ToolAnswer, ToolCall, ToolInterface, ToolManager, tool
from kernel_sandbox.agents.arguments import ArgumentsRefused, parse_arguments

pytestmark = pytest.mark.anyio


@tool
def check_weather(zipcode: str, days: int = 1, unit: Literal["C", "F"] = "C", tags: list[str] | None = None) -> str:
    """Return the weather.

    Args:
        zipcode: Five digits,
            as text.
        days: How many.
    """
    return f"{zipcode}: {days} days of sun in {unit} {tags}"


@tool
async def wait_for(value: dict[str, Any]) -> dict[str, Any]:
    """Give it back."""
    return value


@dataclasses.dataclass
class Seat:
    row: int


class Broken(ToolInterface):
    def get_definition(self) -> dict[str, Any]:
        return {"function": {"name": "broken", "description": "", "parameters": {"type": "object", "properties": {}}}}

    def run(self, arguments: dict[str, Any]) -> str:
        raise ZeroDivisionError("as always")


def manager(*tools: ToolInterface, model: ScriptedModel | None = None) -> ToolManager:
    made = ToolManager(language_model_interface=model)
    for one in tools:
        made.register_tool(one)
    return made


def schema_of(one: ToolInterface) -> dict[str, Any]:
    parameters: dict[str, Any] = one.get_definition()["function"]["parameters"]
    return parameters


def test_tool_takes_its_schema_from_signature_and_docstring() -> None:
    function = check_weather.get_definition()["function"]
    properties = function["parameters"]["properties"]
    assert (function["name"], function["description"]) == ("check_weather", "Return the weather.")
    assert properties["zipcode"] == {"type": "string", "description": "Five digits, as text."}
    assert properties["days"] == {"type": "integer", "default": 1, "description": "How many."}
    assert properties["unit"] == {"type": "string", "enum": ["C", "F"], "default": "C"}
    assert properties["tags"]["anyOf"] == [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]
    assert function["parameters"]["required"] == ["zipcode"]
    assert check_weather("1").startswith("1: 1 days")


def test_tool_refuses_what_json_cannot_carry() -> None:
    with pytest.raises(TypeError, match="'path'"):
        tool(lambda path: path)
    for hint in (Callable[[], int], ScriptedModel):

        def save(data: Any) -> None:
            """Save."""

        save.__annotations__["data"] = hint
        with pytest.raises(TypeError, match="save: a parameter has a type that JSON cannot carry"):
            tool(save)


def test_tool_may_be_typed_by_names_that_only_its_own_globals_have() -> None:
    names: dict[str, Any] = {"__name__": "nowhere", "Size": Literal["s", "m"]}
    exec("from __future__ import annotations\ndef pick(size: Size) -> str: return size", names)
    assert schema_of(tool(names["pick"]))["properties"] == {"size": {"type": "string", "enum": ["s", "m"]}}


def test_tool_may_have_a_default_that_json_cannot_carry() -> None:
    nothing = object()

    @tool
    def look(where: Any = nothing) -> bool:
        """Look."""
        return where is nothing

    assert schema_of(look)["properties"] == {"where": {}}
    assert (look.run({}), look.run({"where": None})) == ("true", "false")


async def test_tool_gets_what_its_types_say() -> None:
    got: list[Any] = []

    @tool
    def book(day: datetime.date, seats: list[Seat], price: float, nights: Annotated[int, Field(ge=1)] = 1) -> str:
        """Book."""
        got.append((day, seats, price, nights))
        return "booked"

    async def ask(**arguments: Any) -> str:
        return (await manager(book).answer(ToolCall("1", "book", json.dumps(arguments)))).text

    assert await ask(day="2026-02-28", seats=[{"row": 3}], price=5) == "booked"
    assert got == [(datetime.date(2026, 2, 28), [Seat(3)], 5.0, 1)]
    assert isinstance(got[0][2], float)
    assert "was not run. day: Input should be a valid date" in await ask(day="2026-02-30", seats=[], price=5)
    assert "was not run. seats[0] must contain ['row'] properties" in await ask(day="2026-02-28", seats=[{}], price=5)
    assert "nights must be bigger than or equal to 1" in await ask(day="2026-02-28", seats=[], price=5, nights=0)
    assert len(got) == 1


async def test_tools_run_sync_and_async() -> None:
    tools = manager(check_weather, wait_for)
    assert await tools.answer(ToolCall("1", "check_weather", '{"zipcode": "8000", "days": 2}')) == ToolAnswer(
        "8000: 2 days of sun in C None"
    )
    assert json.loads((await tools.answer(ToolCall("2", "wait_for", '{"value": {"a": 1}}'))).text) == {"a": 1}


def test_async_tool_runs_from_sync_code() -> None:
    assert wait_for.run({"value": {}}) == "{}"


def test_tool_names_are_taken_once() -> None:
    with pytest.raises(ValueError, match="already"):
        manager(check_weather, check_weather)


def test_definitions_have_their_type() -> None:
    assert [d["type"] for d in manager(check_weather, wait_for).get_tool_definitions()] == ["function", "function"]


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("check_weather", '{"zipcode": ', "not valid JSON"),
        ("check_weather", "[1]", "not a JSON object"),
        (
            "check_weather",
            "",
            "must contain ['zipcode'] properties. Send a JSON object with: zipcode (required)",
        ),
        ("check_weather", '{"zipcode": 8000}', "zipcode must be string. Send"),
        ("check_weather", '{"zipcode": "1", "days": true}', "days must be integer. Send"),
        ("check_weather", '{"zipcode": "1", "unit": "K"}', "unit must be one of ['C', 'F']"),
        ("check_weather", '{"zipcode": "1", "tags": [1]}', "tags[0] must be string"),
        ("check_weather", '{"zipcode": "1", "zip": "2"}', "the arguments must not contain {'zip'} properties"),
        ("forecast", "{}", "no tool named 'forecast'. The tools are: check_weather, broken."),
        ("broken", "{}", "ZeroDivisionError: as always"),
    ],
)
async def test_what_goes_wrong_is_the_result(name: str, arguments: str, said: str) -> None:
    result = await manager(check_weather, Broken()).answer(ToolCall("1", name, arguments))
    assert result.text.startswith("[Error]")
    assert said in result.text


@pytest.mark.parametrize("depth", [*range(800, 1000, 3), 100_000])
def test_arguments_too_deep_are_refused(depth: int) -> None:
    """Whatever gives up first: what reads them, or what checks them."""
    with pytest.raises(ArgumentsRefused):
        parse_arguments(f'{{"zipcode": {"[" * depth}{"]" * depth}}}', schema_of(check_weather))


@pytest.mark.parametrize(
    "value", ["1", '{"x": "' + "\x7f" * 1_000_000 + '"}', "[" + "1," * 100_000 + "1]", '{"' + "x" * 1_000_000 + '": 1}']
)
def test_what_is_wrong_with_arguments_is_told_in_short(value: str) -> None:
    for name in ("zipcode", "tags", "x"):
        with pytest.raises(ArgumentsRefused) as refusal:
            parse_arguments(f'{{"{name}": {value}}}', schema_of(check_weather))
        assert len(str(refusal.value)) < 2_500


def test_arguments_are_held_to_all_that_a_schema_says() -> None:
    schema = {"properties": {"n": {"$ref": "#/$defs/few"}}, "$defs": {"few": {"type": "integer", "maximum": 3}}}
    assert parse_arguments('{"n": 3.0}', schema) == {"n": 3}
    with pytest.raises(ArgumentsRefused, match="n must be smaller than or equal to 3"):
        parse_arguments('{"n": 4}', schema)


async def test_long_results_are_cut() -> None:
    @tool
    def flood() -> str:
        """Flood."""
        return "x" * 1_000_000

    assert len((await manager(flood).answer(ToolCall("1", "flood", "{}"))).text) < 51_000


def test_call_sequence_has_the_cookbooks_signature() -> None:
    model = ScriptedModel(["Sunny."])
    messages = ChatMessages("p")
    response = {"choices": [{"message": _asks()}]}
    answer = manager(check_weather, model=model).handle_tool_call_sequence(response, False, messages, "gpt-4o", "low")
    assert answer == "Sunny."
    assert [m["role"] for m in messages.get_messages()] == ["developer", "assistant", "tool", "assistant"]
    assert (model.requests[0].model, model.requests[0].reasoning_effort) == ("gpt-4o", "low")


def _asks() -> dict[str, Any]:
    function = {"name": "check_weather", "arguments": '{"zipcode": "1"}'}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": function}]}
