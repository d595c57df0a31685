"""`@tool`: a tool from a plain typed function, with the schema taken from its signature and docstring.

pydantic writes the schema, and makes of JSON what a parameter's type says; it is imported with the first such tool.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
from collections.abc import Callable
from typing import Any

from kernel_sandbox.agents.arguments import ArgumentsRefused
from kernel_sandbox.agents.chat_messages import ToolAnswer
from kernel_sandbox.agents.tools import ToolInterface
from kernel_sandbox.host.reactor import call_reactor

# Google's ("name: text" or "name (type): text" under Args:) and Sphinx's (":param name: text").
_GOOGLE = re.compile(r"^[ \t]+(\w+)[ \t]*(?:\([^)\n]*\))?:[ \t]*(.+(?:\n[ \t]{8,}.+)*)", re.MULTILINE)
_SPHINX = re.compile(r"^[ \t]*:param[ \t]+(?:\S+[ \t]+)?(\w+):[ \t]*(.+)", re.MULTILINE)
_SECTION = re.compile(r"^\s*(?:Args|Arguments|Parameters|Returns|Raises|Yields):\s*$|^\s*:\w+", re.MULTILINE)


def tool(function: Callable[..., Any]) -> TypedTool:
    """Make a tool of a typed function, sync or async.

    Its name and docstring are what the model reads. Parameters may be of any type that pydantic reads from JSON: str,
    int, float, bool, None, list, dict, Literal, dates, dataclasses, enums, unions of these and others. A result that is
    neither text nor a ToolAnswer is written as JSON. Raises TypeError for other signatures.
    """
    return TypedTool(function)


class TypedTool(ToolInterface):
    """A function as a tool. Calling it calls the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        documentation = inspect.getdoc(function) or ""
        self._reader, parameters = _reader(function)
        for name, text in (*_SPHINX.findall(documentation), *_GOOGLE.findall(documentation)):
            if name in parameters["properties"]:
                parameters["properties"][name]["description"] = " ".join(text.split())
        self._definition = {
            "name": function.__name__,
            "description": _SECTION.split(documentation, maxsplit=1)[0].strip() or function.__name__,
            "parameters": parameters,
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
        return _result(self.function(**self._read(arguments)))

    async def arun(self, arguments: dict[str, Any]) -> str | ToolAnswer:
        """Call the function; one that is not async, in a worker thread."""
        if inspect.iscoroutinefunction(self.function):
            return _result(await self.function(**self._read(arguments)))
        return await super().arun(arguments)

    def _read(self, arguments: dict[str, Any]) -> dict[str, Any]:
        from pydantic import ValidationError

        try:
            read: dict[str, Any] = self._reader.validate_python(arguments)
        except ValidationError as exc:
            problem = exc.errors(include_url=False, include_context=False, include_input=False)[0]
            raise ArgumentsRefused(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}.") from exc
        return read


def _result(value: Any) -> str | ToolAnswer:
    return value if isinstance(value, str | ToolAnswer) else json.dumps(value, ensure_ascii=False, default=str)


def _reader(function: Callable[..., Any]) -> tuple[Any, dict[str, Any]]:
    """Return what reads a function's arguments from JSON, and their JSON Schema. Raises TypeError."""
    from pydantic import PydanticUserError, TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Untitled(GenerateJsonSchema):
        def emit_warning(self, kind: Any, detail: str) -> None:
            pass  # of a default that JSON cannot carry, and that the schema goes without

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False  # a title only says the name again

    for name, parameter in inspect.signature(function).parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not named or parameter.annotation is parameter.empty:
            raise TypeError(f"{function.__name__}: parameter {name!r} needs a name of its own and a type annotation.")
    read: Any = functools.wraps(function)(lambda **arguments: arguments)
    read.__annotations__ = typing.get_type_hints(function, include_extras=True)
    try:
        reader: TypeAdapter[Any] = TypeAdapter(read)
        return reader, reader.json_schema(schema_generator=Untitled)
    except PydanticUserError as exc:
        told = f"{function.__name__}: a parameter has a type that JSON cannot carry ({str(exc).splitlines()[0]})"
        raise TypeError(f"{told}: use str, int, float, bool, list or dict.") from exc
