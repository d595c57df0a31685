"""`@tool`: a tool from a plain typed function, with the schema taken from its signature and docstring."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from kernel_sandbox.agents.messages import ToolAnswer
from kernel_sandbox.agents.tools import ToolInterface
from kernel_sandbox.host.reactor import call_reactor

_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
# Google's ("name: text" or "name (type): text" under Args:) and Sphinx's (":param name: text").
_GOOGLE = re.compile(r"^[ \t]+(\w+)[ \t]*(?:\([^)\n]*\))?:[ \t]*(.+(?:\n[ \t]{8,}.+)*)", re.MULTILINE)
_SPHINX = re.compile(r"^[ \t]*:param[ \t]+(?:\S+[ \t]+)?(\w+):[ \t]*(.+)", re.MULTILINE)
_SECTION = re.compile(r"^\s*(?:Args|Arguments|Parameters|Returns|Raises|Yields):\s*$|^\s*:\w+", re.MULTILINE)


def tool(function: Callable[..., Any]) -> TypedTool:
    """Make a tool of a typed function, sync or async.

    Its name and docstring are what the model reads; parameters may be str, int, float, bool, None, list, dict,
    Literal and unions of these. A result that is neither text nor a ToolAnswer is written as JSON. Raises TypeError
    for other signatures.
    """
    return TypedTool(function)


class TypedTool(ToolInterface):
    """A function as a tool. Calling it calls the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        documentation = inspect.getdoc(function) or ""
        self._definition = {
            "name": function.__name__,
            "description": _SECTION.split(documentation, maxsplit=1)[0].strip() or function.__name__,
            "parameters": _parameters(function, documentation),
        }

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def get_definition(self) -> dict[str, Any]:
        """Return the definition that the signature and the docstring make."""
        return {"function": self._definition}

    def run(self, arguments: dict[str, Any]) -> str | ToolAnswer:
        """Call the function."""
        if inspect.iscoroutinefunction(self.function):
            return call_reactor(self.arun, arguments)
        return _result(self.function(**arguments))

    async def arun(self, arguments: dict[str, Any]) -> str | ToolAnswer:
        """Call the function; one that is not async, in a worker thread."""
        if inspect.iscoroutinefunction(self.function):
            return _result(await self.function(**arguments))
        return await super().arun(arguments)


def _result(value: Any) -> str | ToolAnswer:
    return value if isinstance(value, str | ToolAnswer) else json.dumps(value, ensure_ascii=False, default=str)


def _parameters(function: Callable[..., Any], documentation: str) -> dict[str, Any]:
    hints = typing.get_type_hints(function)
    described = dict(_SPHINX.findall(documentation)) | dict(_GOOGLE.findall(documentation))
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or name not in hints:
            raise TypeError(f"{function.__name__}: parameter {name!r} needs a name of its own and a type annotation.")
        properties[name] = _schema(hints[name], f"{function.__name__}: parameter {name!r}")
        if name in described:
            properties[name]["description"] = " ".join(described[name].split())
        if parameter.default is parameter.empty:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schema(hint: Any, where: str) -> dict[str, Any]:
    """Write a type annotation as JSON Schema."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return {}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(argument, where) for argument in arguments]}
    if hint is list or origin is list:
        return {"type": "array", **({"items": _schema(arguments[0], where)} if arguments else {})}
    if hint is dict or origin in (dict, Mapping):
        return {"type": "object"}
    raise TypeError(f"{where} has type {hint!r}, which JSON cannot carry: use str, int, float, bool, list or dict.")
