"""Tools: the contract, and the manager that runs what a model asks for.

Whatever goes wrong in a tool call (malformed arguments, an unknown tool, a tool that fails) is its result, as text
that tells the model what to do better. Only a cancellation passes through.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any

import anyio.to_thread

from kernel_sandbox.agents.arguments import ArgumentsRefused, parse_arguments
from kernel_sandbox.agents.chat_messages import ChatMessages, ToolAnswer, ToolCall
from kernel_sandbox.agents.completions import as_completion
from kernel_sandbox.agents.loop import LoopOptions, TaskLoop
from kernel_sandbox.agents.models import LanguageModelInterface
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.show.model_text import ReadingLimits, clip
from kernel_sandbox.text.spelling import did_you_mean

RESULT_LIMITS = ReadingLimits(line=50_000, total=50_000)
"""For every tool's result, in characters; tools that know better cut before."""


class ToolInterface(ABC):
    """Something that a model may ask for. Overriding `run` alone makes a tool; an async one overrides `arun` too."""

    @abstractmethod
    def get_definition(self) -> dict[str, Any]:
        """Return {"function": {"name", "description", "parameters"}}; the parameters are a JSON Schema."""

    @abstractmethod
    def run(self, arguments: dict[str, Any]) -> str | ToolAnswer:
        """Do it, and return what the model is to read. The arguments have been checked against the schema."""

    async def arun(self, arguments: dict[str, Any]) -> str | ToolAnswer:
        """Do it without blocking; by default `run` in a worker thread, which a cancellation leaves behind."""
        return await anyio.to_thread.run_sync(self.run, arguments, abandon_on_cancel=True)

    def begin_task(self) -> None:  # noqa: B027 - most tools keep nothing from one task to the next
        """Forget what counts for one task only. The agent calls it when a task begins."""


class ToolManager:
    """The tools of one agent, by name."""

    def __init__(
        self,
        logger: logging.Logger | None = None,
        language_model_interface: LanguageModelInterface | None = None,
    ) -> None:
        self.logger = logger or logging.getLogger(__name__)
        self.language_model_interface = language_model_interface
        self._tools: dict[str, ToolInterface] = {}
        self._definitions: dict[str, dict[str, Any]] = {}

    def register_tool(self, tool: ToolInterface) -> None:
        """Add a tool. Raises ValueError for a name that is taken."""
        function = tool.get_definition()["function"]
        name = function["name"]
        if name in self._tools:
            raise ValueError(f"There already is a tool named {name!r}: give this one another name.")
        self._tools[name] = tool
        self._definitions[name] = function

    def get_tool_definitions(self) -> list[dict[str, Any]]:
        """Return the definitions as a request to a model has them."""
        return [{"type": "function", "function": dict(function)} for function in self._definitions.values()]

    def begin_task(self) -> None:
        for tool in self._tools.values():
            tool.begin_task()

    async def answer(self, call: ToolCall) -> ToolAnswer:
        """Run one tool call, and return its result; failures are text too."""
        # Names and sizes only: arguments and results hold the user's data, which has no place in a log.
        self.logger.info("tool call %s (%d characters of arguments)", call.name[:100], len(call.arguments))
        try:
            answer = await self._run(call)
        except ArgumentsRefused as exc:
            answer = ToolAnswer(f"[Error] {call.name} was not run. {exc}")
        except SandboxError as exc:
            answer = ToolAnswer(f"[Error] {call.name} failed: {exc}")
        except Exception as exc:  # noqa: BLE001 - a tool is foreign code and may raise anything; the model is told
            self.logger.warning("tool %s raised %s", call.name, type(exc).__name__)
            answer = ToolAnswer(f"[Error] {call.name} failed: {type(exc).__name__}: {exc}")
        self.logger.info("tool result of %s (%d characters)", call.name[:100], len(answer.text))
        text = clip(answer.text, RESULT_LIMITS, rest="ask for less at a time") or "[The tool returned nothing.]"
        return ToolAnswer(text, answer.pictures)

    async def _run(self, call: ToolCall) -> ToolAnswer:
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            meant = did_you_mean(call.name, self._tools)
            return ToolAnswer(f"[Error] There is no tool named {call.name[:100]!r}.{meant} The tools are: {known}.")
        parameters = self._definitions[call.name].get("parameters") or {}
        result = await tool.arun(parse_arguments(call.arguments, parameters))
        return result if isinstance(result, ToolAnswer) else ToolAnswer(str(result))

    def handle_tool_call_sequence(
        self,
        response: Any,
        return_tool_response_as_is: bool,
        messages: ChatMessages,
        model_name: str,
        reasoning_effort: str | None = None,
    ) -> str:
        """Go on from a model's response: answer its tool calls, and ask again until it answers without one."""
        if self.language_model_interface is None:
            raise ValueError("There is no language model: give the ToolManager a language_model_interface.")
        options = LoopOptions(model_name, reasoning_effort, return_first_result=return_tool_response_as_is)
        loop = TaskLoop(self.language_model_interface, messages, self, options)
        return call_reactor(loop.run, as_completion(response))
