"""OfflineAnalyst: the plan of a question, run over what the conversation already holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kernel_sandbox.agents.completions import Completion
from kernel_sandbox.agents.messages import Message, ToolCall
from kernel_sandbox.agents.models import LanguageModelInterface, OnText
from kernel_sandbox.agents.offline.conversation import Conversation, read_conversation
from kernel_sandbox.agents.offline.facts import read_outcome
from kernel_sandbox.agents.offline.notebook_cells import NotebookCell
from kernel_sandbox.agents.offline.plans import make_plan
from kernel_sandbox.agents.offline.wording import answer

CODE_TOOL = "execute_python_code"
FILE_TOOL = "safe_file_access"


class OfflineAnalyst(LanguageModelInterface):
    """Answers some kinds of questions about a table by rules: no key, no network, no model.

    It asks for cells with the tool `execute_python_code`, and words its answer from the numbers that they print. As a
    file agent's model it calls `safe_file_access` for the file that is named. It keeps no state: the same conversation
    has the same completion. `model` and `reasoning_effort` are ignored.
    """

    def generate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
    ) -> Completion:
        """Return what comes next: a cell to run, or the answer."""
        conversation = read_conversation(messages)
        names = _names(tools or ())
        if FILE_TOOL in names and CODE_TOOL not in names:
            return _bring_file(conversation)
        step = _next(conversation)
        if isinstance(step, str):
            return Completion(step)
        if CODE_TOOL not in names:
            return Completion(answer(f"I need the sandbox's tool {CODE_TOOL}, and was given none: I cannot calculate."))
        return _call(conversation, CODE_TOOL, {"python_code": step.source})

    async def agenerate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
        on_text: OnText | None = None,
    ) -> Completion:
        """Return what comes next, without a thread: it takes milliseconds."""
        completion = self.generate_completion(model, messages, tools, reasoning_effort)
        if on_text is not None and completion.content:
            on_text(completion.content)
        return completion


def _next(conversation: Conversation) -> NotebookCell | str:
    """Run the plan over the results so far; return the cell that has none yet, or the answer."""
    plan = make_plan(conversation)
    try:
        cell = next(plan)
        for result in conversation.results:
            cell = plan.send(read_outcome(cell.step, result))
    except StopIteration as ended:
        return str(ended.value)
    return cell


def _bring_file(conversation: Conversation) -> Completion:
    if conversation.results:
        return Completion(conversation.results[-1])
    if not conversation.files:
        return Completion(answer("I find no file name in this: name a CSV, TSV, Parquet, Excel or JSON file."))
    return _call(conversation, FILE_TOOL, {"filename": conversation.files[0]})


def _call(conversation: Conversation, tool: str, arguments: dict[str, str]) -> Completion:
    call = ToolCall(f"call_offline_{conversation.calls + 1}", tool, json.dumps(arguments, ensure_ascii=False))
    return Completion(tool_calls=(call,), finish_reason="tool_calls")


def _names(tools: Sequence[dict[str, Any]]) -> set[str]:
    return {str(tool.get("function", {}).get("name")) for tool in tools}
