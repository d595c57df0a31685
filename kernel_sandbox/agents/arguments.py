"""A tool call's arguments: JSON text from a model, checked against the tool's schema. Pure.

Of JSON Schema what tool definitions use: type, properties, required, additionalProperties, enum, anyOf, items.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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
    problems = _problems(arguments, {"type": "object", **schema}, "the arguments")
    if problems:
        raise ArgumentsRefused(f"{'; '.join(problems)}. {_expected(schema)}")
    return arguments


def _problems(value: Any, schema: Mapping[str, Any], where: str) -> list[str]:
    """Return what is wrong with a value, the first few things at most."""
    options = schema.get("anyOf")
    if isinstance(options, list) and options:
        found = [_problems(value, option, where) for option in options]
        return [] if any(not problems for problems in found) else found[0]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} must be one of {json.dumps(schema['enum'])}"]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_a(value, kind) for kind in kinds):
        return [f"{where} must be of type {' or '.join(kinds)}, not {_kind(value)}"]
    if isinstance(value, dict):
        return _object_problems(value, schema, where)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [p for n, item in enumerate(value) for p in _problems(item, schema["items"], f"{where}[{n}]")][:5]
    return []


def _object_problems(value: dict[str, Any], schema: Mapping[str, Any], where: str) -> list[str]:
    properties = schema.get("properties") or {}
    problems = [f"{name!r} is missing" for name in schema.get("required") or () if name not in value]
    for name, item in value.items():
        if name in properties:
            problems += _problems(item, properties[name], repr(name))
        elif schema.get("additionalProperties") is False:
            problems.append(f"{name[:100]!r} is not an argument of this tool")
    return problems[:5]


_KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def _is_a(value: Any, kind: str) -> bool:
    if kind == "integer":  # JSON Schema, section 6.1.1: a number without a fraction
        return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value % 1 == 0))
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _KINDS.get(kind, object))


def _kind(value: Any) -> str:
    return next(kind for kind in ("integer", "number", *_KINDS) if _is_a(value, kind))


def _expected(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    named = [f"{name} ({'required' if name in required else 'optional'})" for name in properties]
    return f"Send a JSON object with: {', '.join(named)}." if named else "Send an empty JSON object: {}."
