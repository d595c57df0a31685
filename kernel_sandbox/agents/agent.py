"""BaseAgent: a developer's prompt, a model, tools and a conversation.

The names and signatures are those of OpenAI's cookbook. `atask` is the implementation and runs in its caller's event
loop; `task` runs it in the reactor.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Any

from kernel_sandbox.agents.chat_messages import ChatMessages
from kernel_sandbox.agents.events import OnEvent
from kernel_sandbox.agents.loop import MAX_TURNS, LoopOptions, TaskLoop, TaskSummary
from kernel_sandbox.agents.models import LanguageModelInterface
from kernel_sandbox.agents.tools import ToolManager
from kernel_sandbox.host.reactor import call_reactor


class BaseAgent(ABC):
    """Does tasks with a model and tools, and remembers the conversation. One task at a time.

    `setup_tools` registers the tools on `self.tool_manager`; where a subclass does not call it, it is called before
    the first task. `on_event` is shown every step as it happens.
    """

    def __init__(
        self,
        developer_prompt: str,
        model_name: str,
        logger: logging.Logger | None = None,
        language_model_interface: LanguageModelInterface | None = None,
        reasoning_effort: str | None = None,
        *,
        max_turns: int = MAX_TURNS,
        on_event: OnEvent | None = None,
    ) -> None:
        if max_turns < 1:
            raise ValueError(f"max_turns={max_turns}: give at least 1.")
        self.developer_prompt = developer_prompt
        self.model_name = model_name
        self.logger = logger or logging.getLogger(__name__)
        self.language_model_interface = language_model_interface
        self.reasoning_effort = reasoning_effort
        self.max_turns = max_turns
        self.on_event = on_event
        self.messages = ChatMessages(developer_prompt)
        self.tool_manager = ToolManager(self.logger, language_model_interface)
        self.last_task: TaskSummary | None = None
        self._working = False

    @abstractmethod
    def setup_tools(self) -> None:
        """Register the agent's tools on `self.tool_manager`."""

    def add_context(self, content: str) -> None:
        """Add something that the model reads before it is asked, as the user's message."""
        self.messages.add_user_message(content)

    def add_message(self, content: str) -> None:
        """Add a user's message, as `add_context` does."""
        self.messages.add_user_message(content)

    def task(
        self,
        user_task: str,
        tool_call_enabled: bool = True,
        return_tool_response_as_is: bool = False,
        reasoning_effort: str | None = None,
    ) -> str:
        """Do a task and return the answer. Ctrl-C stops what runs, and leaves the agent ready for the next task.

        Raises ValueError without a language model, and ModelError where it cannot be asked.
        """
        return call_reactor(self.atask, user_task, tool_call_enabled, return_tool_response_as_is, reasoning_effort)

    async def atask(
        self,
        user_task: str,
        tool_call_enabled: bool = True,
        return_tool_response_as_is: bool = False,
        reasoning_effort: str | None = None,
    ) -> str:
        """Do a task and return the answer, in async code. See `task`."""
        model = self.language_model_interface
        if model is None:
            raise ValueError("There is no language model: give the agent a language_model_interface.")
        if self._working:
            raise RuntimeError("The agent is at a task already: wait for it, or make another agent.")
        self._register_tools()
        options = LoopOptions(
            self.model_name,
            self.reasoning_effort if reasoning_effort is None else reasoning_effort,
            tools_enabled=tool_call_enabled,
            return_first_result=return_tool_response_as_is,
            max_turns=self.max_turns,
        )
        self.messages.add_user_message(user_task)
        self.tool_manager.begin_task()
        loop = TaskLoop(model, self.messages, self.tool_manager, options, self.on_event)
        self._working = True
        try:
            return await loop.run()
        finally:
            self._working = False
            self.last_task = loop.summary

    def _register_tools(self) -> None:
        if not self.tool_manager.get_tool_definitions():
            self.setup_tools()

    def signature(self) -> dict[str, Any]:
        """Return what the agent is: its prompt, model and tools, and its reasoning effort where one is set."""
        self._register_tools()
        signature: dict[str, Any] = {
            "developer_prompt": self.developer_prompt,
            "model_name": self.model_name,
            "tools": self.tool_manager.get_tool_definitions(),
        }
        if self.reasoning_effort is not None:
            signature["reasoning_effort"] = self.reasoning_effort
        return signature
