"""Parameters of a notebook as papermill has them: what the command line gives, and the cell that sets them.

`run` calls it. A value is written into the cell as a Python literal, never as it was typed.
"""

from __future__ import annotations

import functools
import json
import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kernel_sandbox.session.transcript import Transcript

TAG, INJECTED_TAG = "parameters", "injected-parameters"
"""The tags of the cell with the defaults, and of the one that sets what was given (papermill's)."""
_PAIRS = ("-p", "--parameters", "-r", "--parameters-raw")
_WORDS = {"True": True, "False": False, "None": None}


class ParametersCommand(click.Command):
    """A command whose parameters are given as `-p NAME VALUE`, as papermill's are, or as `-p NAME=VALUE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        joined: list[str] = []
        rest = iter(args)
        for argument in rest:
            joined.append(argument)
            if argument == "--":
                break
            if argument in _PAIRS and (name := next(rest, None)) is not None:
                value = None if name.partition("=")[0].isidentifier() and "=" in name else next(rest, None)
                joined.append(name if value is None else f"{name}={value}")
        return super().parse_args(ctx, [*joined, *rest])


def parameter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets `parameters`, a mapping."""
    pair: Any = {"multiple": True, "metavar": "NAME VALUE", "type": str}

    @functools.wraps(command)
    def with_parameters(
        *args: Any,
        parameters: Sequence[str],
        parameters_raw: Sequence[str],
        parameters_file: Sequence[Path],
        parameters_yaml: Sequence[str],
        **options: Any,
    ) -> Any:
        given: dict[str, Any] = {}
        for path in parameters_file:
            given |= _read_mapping(path.read_bytes().decode("utf-8-sig", "replace"), str(path))
        for text in parameters_yaml:
            given |= _read_mapping(text, "--parameters-yaml")
        given |= {name: typed(value) for name, value in map(_split, parameters)}
        given |= dict(map(_split, parameters_raw))
        for name in given:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise click.UsageError(f"{name!r} cannot be a parameter: it is no name of a Python variable.")
        return command(*args, parameters=given, **options)

    decorators = [
        click.option("-p", "--parameters", **pair, help="Set a parameter (or NAME=VALUE). Repeatable."),
        click.option("-r", "--parameters-raw", **pair, help="Set a parameter to a text, whatever it looks like."),
        click.option(
            "-f",
            "--parameters-file",
            metavar="FILE",
            multiple=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Set the parameters that a JSON or YAML file has.",
        ),
        click.option("-y", "--parameters-yaml", metavar="TEXT", multiple=True, help="Set those of a YAML text."),
    ]
    for decorator in reversed(decorators):
        with_parameters = decorator(with_parameters)
    return with_parameters


def _split(pair: str) -> tuple[str, str]:
    name, sign, value = pair.partition("=")
    if not sign:
        raise click.UsageError(f"The parameter {pair!r} has no value: give NAME VALUE or NAME=VALUE.")
    return name, value


def typed(value: str) -> Any:
    """Read a value as papermill does: True, False and None, a number where it is one, else a text."""
    if value in _WORDS:
        return _WORDS[value]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


def _read_mapping(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = _read_yaml(text, where)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise click.UsageError(f"{where} has no parameters: it is no mapping of names to values.")
    return found


def _read_yaml(text: str, where: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as exc:
        raise click.UsageError(f"{where} is not JSON; YAML needs PyYAML: pip install pyyaml.") from exc
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise click.UsageError(f"{where} is neither JSON nor YAML: {' '.join(str(exc).split())[:200]}.") from exc


def inject(transcript: Transcript, parameters: Mapping[str, Any]) -> bool:
    """Put the cell that sets the parameters where papermill does; return whether a cell says which there are.

    In the place of one from an earlier run, else after the cell tagged `parameters`, else before all others.
    """
    places = {tag: n for tag in (TAG, INJECTED_TAG) for n, cell in _reversed(transcript) if cell.is_tagged(tag)}
    source = "\n".join(["# Parameters", *(f"{name} = {literal(value)}" for name, value in parameters.items())])
    position = places.get(INJECTED_TAG, places[TAG] + 1 if TAG in places else 0)
    transcript.insert_code_cell(position, source, {"tags": [INJECTED_TAG]}, replace=INJECTED_TAG in places)
    return bool(places)


def _reversed(transcript: Transcript) -> list[tuple[int, Any]]:
    return list(enumerate(transcript.cells))[::-1]


def literal(value: Any) -> str:
    """Write a value as a Python literal; what is no JSON (a date of YAML's) as its text."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value if value is None or isinstance(value, (bool, int, float, str)) else str(value))
