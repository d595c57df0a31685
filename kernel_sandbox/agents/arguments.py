"""A tool call's arguments: JSON text from a model, checked against the tool's JSON Schema by fastjsonschema. Pure.

Not by jsonschema, which takes a second to import where JupyterLab is installed, and for a list of a million texts five,
each time. The schema is the tool's own and is trusted: code is made of it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

LONGEST = 200
"""Characters of what a model is told is wrong: names that it made up are part of it."""


class ArgumentsRefused(ValueError):
    """The arguments cannot be used; the text tells the model what is wrong. Never leaves this package."""


def parse_arguments(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Read and check the arguments of a tool call. Raises ArgumentsRefused."""
    try:
        arguments = json.loads(text.strip() or "{}")  # a tool without parameters is often called with nothing
    except (ValueError, RecursionError) as exc:
        raise ArgumentsRefused(f"The arguments are not valid JSON ({exc}). {_expected(schema)}") from exc
    if not isinstance(arguments, dict):
        raise ArgumentsRefused(f"The arguments are not a JSON object. {_expected(schema)}")
    if told := _problem(arguments, {"type": "object", **schema}, ""):
        cut = told if len(told) <= LONGEST else f"{told[: LONGEST // 2]}…{told[-LONGEST // 2 :]}"
        raise ArgumentsRefused(f"{cut}. {_expected(schema)}")
    return arguments


def _problem(value: Any, schema: Mapping[str, Any], where: str) -> str | None:
    from fastjsonschema import JsonSchemaValueException

    try:
        _check(json.dumps(schema))(value)
    except JsonSchemaValueException as exc:
        name = exc.name or "data"  # as it calls the whole
        inner = f"{where}{name.removeprefix('data')}".removeprefix(".")
        if exc.rule == "anyOf":  # whose text only says that it is none of them: the first is what is usually meant
            first = {"$defs": schema.get("$defs", {}), **exc.rule_definition[0]}
            return _problem(exc.value, first, inner) or exc.message
        return f"{inner or 'the arguments'}{exc.message.removeprefix(name)}"
    return None


@functools.lru_cache(maxsize=256)
def _check(schema: str) -> Any:
    import fastjsonschema

    return fastjsonschema.compile(json.loads(schema), use_default=False, use_formats=False)


def _expected(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    named = [f"{name} ({'required' if name in required else 'optional'})" for name in properties]
    return f"Send a JSON object with: {', '.join(named)}." if named else "Send an empty JSON object: {}."
