"""A tool call's arguments: JSON text from a model, checked against the tool's JSON Schema by jsonschema. Pure.

jsonschema is imported when the first call is checked: it takes a tenth of a second.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST_PROBLEMS = 5
"""That a model is told at once."""
LONGEST = 200
"""Characters of what it is told of each: jsonschema's text begins with the value, which may be megabytes."""


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
    try:
        problems = [_told(error) for error in _errors(arguments, {"type": "object", **schema})]
    except RecursionError as exc:
        raise ArgumentsRefused(f"The arguments are nested too deeply. {_expected(schema)}") from exc
    if problems:
        raise ArgumentsRefused(f"{'; '.join(problems)}. {_expected(schema)}")
    return arguments


def _errors(arguments: dict[str, Any], schema: Mapping[str, Any]) -> Iterator[Any]:
    for error in itertools.islice(_validator()(schema).iter_errors(arguments), MOST_PROBLEMS):
        yield error
        if error.validator == "maxItems":
            return  # what is in a list that is too long, nobody needs to look at


@functools.cache
def _validator() -> Any:
    from jsonschema import validators

    return validators.extend(validators.Draft202012Validator, {"anyOf": _any_of})


def _any_of(validator: Any, options: list[Any], instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what is wrong by the first option, one at a time; jsonschema's own collects every error of every option."""
    if not any(validator.evolve(schema=option).is_valid(instance) for option in options):
        yield from validator.descend(instance, options[0], schema_path=0)


def _told(error: Any) -> str:
    where = error.json_path.removeprefix("$").removeprefix(".")[:LONGEST]
    told = error.message if len(error.message) <= LONGEST else f"…{error.message[-LONGEST:]}"
    return f"{where}: {told}" if where else told


def _expected(schema: Mapping[str, Any]) -> str:
    properties = schema.get("properties") or {}
    required = schema.get("required") or ()
    named = [f"{name} ({'required' if name in required else 'optional'})" for name in properties]
    return f"Send a JSON object with: {', '.join(named)}." if named else "Send an empty JSON object: {}."
