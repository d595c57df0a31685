"""All names that somebody outside may use, door by door: parameters, members, options, fields, tools. Pure."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import kernel_sandbox
from kernel_sandbox import SessionPool, agents
from kernel_sandbox.doors.cli.app import cli
from kernel_sandbox.doors.http.asgi_app import create_app
from kernel_sandbox.doors.magic.extension import KernelSandboxMagics
from kernel_sandbox.doors.magic.magic_options import COMMANDS, ask_parser, cell_parser, line_parser
from kernel_sandbox.doors.mcp.definitions import Definition, definitions
from kernel_sandbox.service.authenticator import Authenticator
from kernel_sandbox.service.saved import SavedTranscripts
from kernel_sandbox.service.service import SessionService
from kernel_sandbox.service.settings import ServerSettings
from kernel_sandbox.service.settings_table import ROWS
from kernel_sandbox.service.storage import Store

MAGIC_COMMANDS = frozenset(COMMANDS) - {"status"}
"""Those of `%sandbox` that are about one session."""
Name = tuple[str, str]
"""Where it stands, and the name with underscores between its words."""


@cache
def python() -> set[Name]:
    """Name the parameters, the members and the classes and functions that can be imported."""
    return {*_module("", kernel_sandbox), *_module("agents.", agents)}


def _module(prefix: str, module: ModuleType) -> Iterator[Name]:
    for name in module.__all__:
        value = getattr(module, name)
        yield prefix + name, name
        if inspect.isclass(value):
            for member in (member for member in vars(value) if not member.startswith("_")):
                yield f"{prefix}{name}.{member}", member
                yield from _parameters(f"{prefix}{name}.{member}", getattr(value, member))
        if inspect.isclass(value) or inspect.isfunction(value):
            yield from _parameters(prefix + name, value)


def _parameters(place: str, function: Any) -> Iterator[Name]:
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        return
    for name in inspect.signature(function).parameters:
        if name not in ("self", "args", "kwargs"):
            yield f"{place}({name})", name


@cache
def command_line() -> set[Name]:
    """Name the commands, their options and arguments."""
    return set(_command("", cli))


def _command(path: str, command: click.Command) -> Iterator[Name]:
    for option in command.params:
        for word in (*option.opts, *option.secondary_opts):
            if not word.startswith("-") or word.startswith("--"):
                yield f"{path} {word}".strip(), _plain(word)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield f"{path} {name}".strip(), _plain(name)
            yield from _command(f"{path} {name}".strip(), found)


def _plain(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


@cache
def magic() -> set[Name]:
    """Name the magics' commands and options, and the settings of %config."""
    found = {name for parser in (cell_parser(), ask_parser(), line_parser()) for name in _parser(parser)}
    return found | {(f"%config {name}", name) for name in KernelSandboxMagics.class_trait_names(config=True)}


def _parser(parser: argparse.ArgumentParser) -> Iterator[Name]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, made in action.choices.items():
                yield f"{parser.prog} {name}", name
                yield from _parser(made)
        else:
            words = [word for word in action.option_strings if word.startswith("--")] or [action.dest]
            yield from ((f"{parser.prog} {word}", _plain(word)) for word in words)


@cache
def settings() -> set[Name]:
    """Name the settings of the service."""
    return {(key, key.rpartition(".")[2]) for key in ROWS}


@cache
def openapi() -> dict[str, Any]:
    """Describe the service's own routes; nothing is opened."""
    chosen, store = ServerSettings(), Store("unused")
    service = SessionService(SessionPool(), store, chosen, SavedTranscripts(store, Path("unused"), days=None))
    described: dict[str, Any] = create_app(service, Authenticator(chosen, store)).openapi()
    described["paths"] = {path: found for path, found in described["paths"].items() if path.startswith("/v1/")}
    return described


@cache
def http() -> set[Name]:
    """Name the parts of the paths under /v1, the parameters, and the fields of what they take and give."""
    found: set[Name] = set()
    described = openapi()
    for path, operations in described["paths"].items():
        found |= {(path, part.strip("{}").partition(":")[0]) for part in path.split("/")[2:]}
        for operation in operations.values():
            found |= {(f"{path}?{each['name']}", each["name"]) for each in operation.get("parameters", ())}
    for model in sorted(_models(described, described["paths"])):
        fields = described["components"]["schemas"][model].get("properties", {})
        found |= {(f"{model}.{name}", name) for name in fields}
    return found


def _models(described: dict[str, Any], value: Any) -> set[str]:
    """Name the models that a part of the description refers to, and those that they refer to."""
    if isinstance(value, list):
        return {name for each in value for name in _models(described, each)}
    if not isinstance(value, dict):
        return set()
    found = {name for each in value.values() for name in _models(described, each)}
    if isinstance(value.get("$ref"), str):
        name = value["$ref"].rpartition("/")[2]
        found |= {name, *_models(described, described["components"]["schemas"][name])}
    return found


def tools() -> dict[str, Definition]:
    """Give the tools of MCP by their names."""
    return {tool.name: tool for tool in definitions(max_timeout=60, takes_identifiers=True)}


@cache
def mcp() -> set[Name]:
    """Name MCP's tools, their arguments, and the fields of their data."""
    found: set[Name] = set()
    for name, tool in tools().items():
        found |= {(name, name)} | {(f"{name}({argument})", argument) for argument in tool.arguments["properties"]}
        found |= {(f"{name} -> {field}", field) for field in _fields(tool.data)}
    return found


def _fields(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, inner in schema.get("properties", {}).items():
            yield name
            yield from _fields(inner)
        yield from _fields(schema.get("items"))


FACES = {"python": python, "command line": command_line, "magic": magic, "settings": settings, "/v1": http, "mcp": mcp}
