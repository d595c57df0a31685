"""Agents that answer questions about files by writing cells, and what they are made of.

    from kernel_sandbox.agents import FileAccessAgent, PythonExecAgent

    file_agent, code_agent = FileAccessAgent(), PythonExecAgent()
    code_agent.add_context(file_agent.task("Use the file traffic_accidents.csv"))
    print(code_agent.task("Which factors contribute most to accidents?"))

Modules, each above those before it:

    vision          which models see pictures, and which       chat_messages ChatMessages, ToolCall, ToolAnswer
    arguments       a tool call's JSON, checked                completions   Completion, TokenUsage
    models          LanguageModelInterface and OpenAI's        scripted      ScriptedModel, for tests
    fences          code out of Markdown's fences              listings      what a cell did to the files
    events          what a live display is shown               cell_pictures the pictures of a cell, saved and told
    loop            model, tools, model, ... answer            tools         ToolInterface, ToolManager
    typed_tools     @tool                                      agent         BaseAgent
    cell_tool       what a model reads of cells, in the kernel's language
    default_session the session that agents share
    file_access     the agent that brings files                python_exec   the agent that writes cells
    approval        cells that a person is to approve          safety        a model's look at a cell before it runs
    recipient       which model gets the data                  offline       two analyses that need no model
    questions       one after the other, for every door        local_servers model servers of this machine
"""

from __future__ import annotations

from kernel_sandbox.agents.agent import BaseAgent
from kernel_sandbox.agents.chat_messages import ChatMessages, ToolAnswer, ToolCall
from kernel_sandbox.agents.completions import Completion, TokenUsage
from kernel_sandbox.agents.default_session import close_default_session
from kernel_sandbox.agents.events import (
    AgentEvent,
    CellFinished,
    CellOutput,
    ModelAnswered,
    TextDelta,
    ToolCallStarted,
    ToolResult,
)
from kernel_sandbox.agents.file_access import FileAccessAgent, FileAccessTool
from kernel_sandbox.agents.listings import FileChanges
from kernel_sandbox.agents.loop import TaskSummary
from kernel_sandbox.agents.models import LanguageModelInterface, OpenAILanguageModel
from kernel_sandbox.agents.python_exec import ListFilesTool, PythonExecAgent, PythonExecTool
from kernel_sandbox.agents.scripted import ModelRequest, ScriptedModel
from kernel_sandbox.agents.tools import ToolInterface, ToolManager
from kernel_sandbox.agents.typed_tools import TypedTool, tool
from kernel_sandbox.show.model_text import ReadingLimits

__all__ = [
    "AgentEvent",
    "BaseAgent",
    "CellFinished",
    "CellOutput",
    "ChatMessages",
    "Completion",
    "FileAccessAgent",
    "FileAccessTool",
    "FileChanges",
    "LanguageModelInterface",
    "ListFilesTool",
    "ModelAnswered",
    "ModelRequest",
    "OpenAILanguageModel",
    "PythonExecAgent",
    "PythonExecTool",
    "ReadingLimits",
    "ScriptedModel",
    "TaskSummary",
    "TextDelta",
    "TokenUsage",
    "ToolAnswer",
    "ToolCall",
    "ToolCallStarted",
    "ToolInterface",
    "ToolManager",
    "ToolResult",
    "TypedTool",
    "close_default_session",
    "tool",
]
