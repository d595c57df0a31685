"""A tool call's arguments: JSON text from a model, checked against the tool's JSON Schema by fastjsonschema. Pure.

Not by jsonschema, which takes a second to import where JupyterLab is installed, and for a list of a million texts five,
each time. The schema is the tool's own and is trusted: code is made of it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from kernel_sandbox.text.clipping import shorten

LONGEST = 200
"""Characters of a name that a model made up, and of what it is told is wrong, which may hold such names."""


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
        raise ArgumentsRefused(f"{told}. {_expected(schema)}")
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
            return _problem(exc.value, first, inner) or f"{inner} is nothing that it may be"
        told = shorten(exc.message.removeprefix(name), LONGEST)
        return f"{shorten(inner, LONGEST) or 'the arguments'}{told}"
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
