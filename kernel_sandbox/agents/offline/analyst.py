"""OfflineAnalyst: stands where a model would, and asks for the two cells of the analysis that the question names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kernel_sandbox.agents.chat_messages import Message, ToolCall, shows_pictures
from kernel_sandbox.agents.completions import Completion
from kernel_sandbox.agents.models import LanguageModelInterface
from kernel_sandbox.agents.offline.answers import describe, goes_with, unnamed
from kernel_sandbox.agents.offline.question_forms import NEEDS_MODEL, find_columns, read_question
from kernel_sandbox.agents.offline.reports import Report, read_report
from kernel_sandbox.errors import NoAnswer

_PARAMETER = re.compile(r"^(\w+) = .*  # parameter$", re.MULTILINE)
_FILE = re.compile(r"/mnt/data/([^\n]{1,200}?\.(?:csv|tsv|txt|parquet|xlsx|xlsm|jsonl|ndjson|json))\b", re.IGNORECASE)


class OfflineAnalyst(LanguageModelInterface):
    """Runs two fixed analyses of a table: "describe this table" and "what goes with COLUMN". No key, no network.

    It asks for cells with the tool `execute_python_code`, and words its answer from the numbers that they report. The
    table is the file that the conversation names last, else the newest one in the sandbox. It keeps no state: the
    same conversation has the same completion. `model` and `reasoning_effort` are ignored.
    """

    def generate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
    ) -> Completion:
        """Return what comes next: a cell to run, or the answer. Raises NoAnswer."""
        users = [place for place, each in enumerate(messages) if each["role"] == "user" and not shows_pictures(each)]
        asked = str(messages[users[-1]]["content"]) if users else ""
        wanted = read_question(asked)
        if wanted is None:
            raise NoAnswer(NEEDS_MODEL)
        results = [str(each["content"]) for each in messages[users[-1] :] if each["role"] == "tool"]
        step = _next(wanted, _last_file([str(messages[place]["content"]) for place in users]), results)
        if isinstance(step, str):
            return Completion(step)
        name, values = step
        arguments = json.dumps({"python_code": make_cell(name, **values)}, ensure_ascii=False)
        calls = sum(each["role"] == "tool" for each in messages)
        call = ToolCall(f"call_offline_{calls + 1}", "execute_python_code", arguments)
        return Completion(tool_calls=(call,), finish_reason="tool_calls")


def _next(wanted: str, file: str, results: list[str]) -> tuple[str, dict[str, str]] | str:
    """Return the next cell and its values, or the answer."""
    if not results:
        return "load", {"file": file}
    loaded = read_report("load", results[0])
    if not wanted:
        return describe(loaded, read_report("describe", results[1])) if len(results) > 1 else ("describe", {})
    column = _column(wanted, loaded)
    if len(results) > 1:
        return goes_with(column, loaded, read_report("goes_with", results[1]))
    return "goes_with", {"target": column}


def _column(wanted: str, loaded: Report) -> str:
    """Return the one column that the question names. Raises NoAnswer."""
    found = find_columns(wanted.replace(str(loaded.facts.get("file")), " "), loaded.names)
    if len(found) != 1:
        raise NoAnswer(unnamed(wanted, found, loaded.names))
    return found[0]


def _last_file(said: list[str]) -> str:
    """Return the file that was brought last: its own message names it first, and shows what it holds below."""
    named = [match[1] for text in said if (match := _FILE.search(text))]
    return named[-1] if named else ""


def make_cell(name: str, **values: str) -> str:
    """Return the source of a file of cells/, in which each line `name = …  # parameter` has its value.

    A value enters as Python's own literal of it: one line, in which nothing is hidden and nothing runs.
    """
    source = (Path(__file__).parent / "cells" / f"{name}.py").read_text(encoding="utf-8").rstrip("\n")
    return _PARAMETER.sub(lambda match: f"{match[1]} = {values[match[1]]!r}", source)
