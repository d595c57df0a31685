"""What may come next on the line of a magic, or within a `%%sandbox` cell. Plain lists of texts; no IPython."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
from collections.abc import Iterable
from typing import Any

from kernel_sandbox.doors.magic.magic_options import COMMANDS, SAFETY, ask_parser, cell_parser
from kernel_sandbox.doors.magic.sessions import DEFAULT, Sessions
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.sandbox.engines.image_names import image_names
from kernel_sandbox.text.characters import hides

PATIENCE = 2.0
"""Seconds for the sandbox's kernel to complete: it can't while a cell runs. JupyterLab waits for one."""
MOST = 200
_MAGIC = re.compile(r"\s*(?P<cell>%%sandbox|%%ask|%sandbox|%ask)\s(?P<rest>.*)", re.DOTALL)
_NAME = re.compile(r"\.?[A-Za-z_][A-Za-z0-9_.\[\]'\" ()-]{0,200}")
_NAMES = "(lambda shell: ' '.join(n for n in shell.user_ns if n not in shell.user_ns_hidden))(get_ipython())"
_COMMAND_OPTIONS = {"start": ("--session", "--engine", "--image", "--memory", "--cpus", "--mount", "--save", "--help")}
_LINE_OPTIONS = ("--session", "--help")


def complete_line(line: str, sessions: Sessions, names: Iterable[str]) -> list[str] | None:
    """Complete the last word of a magic's line; None where the line is none of ours. `names` are the user's."""
    match = _MAGIC.fullmatch(line)
    if match is None:
        return None
    words = match["rest"].split(" ")
    word, before = words[-1], words[-2] if len(words) > 1 else ""
    found = _candidates(match["cell"], words[:-1], before, sessions, names)
    return sorted(name for name in found if name.startswith(word) and (word or not name.startswith("_")))[:MOST]


def _candidates(magic: str, words: list[str], before: str, sessions: Sessions, names: Iterable[str]) -> Iterable[str]:
    if before in ("-s", "--session"):
        return sessions.names or [DEFAULT]
    if before == "--engine":
        return NAMES
    if before == "--image":
        return image_names()
    if before == "--safety":
        return SAFETY
    if before in ("-i", "--in", "--data"):
        return names
    if before in ("-o", "--out"):
        return sandbox_names(sessions, _session_of(words))
    if magic == "%sandbox":
        command = words[0] if words else ""
        return _COMMAND_OPTIONS.get(command, _LINE_OPTIONS) if command in COMMANDS else (*COMMANDS, "--help")
    return _options_of(cell_parser() if magic == "%%sandbox" else ask_parser())


def _options_of(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings if name.startswith("--")]


def _session_of(words: list[str]) -> str:
    """Read the session off the first line of a cell."""
    for option, value in itertools.pairwise(words):
        if option in ("-s", "--session"):
            return value
    return DEFAULT


def sandbox_names(sessions: Sessions, session: str) -> list[str]:
    """List the variables of a sandbox, by an expression beside the cells: its kernel's completion is slow at first."""
    content = {"code": "", "silent": True, "store_history": False, "user_expressions": {"names": _NAMES}}
    content |= {"allow_stdin": False, "stop_on_error": False}
    reply: dict[str, Any] | None = None
    with contextlib.suppress(SandboxError):
        reply = sessions.find(session).session.request("execute_request", content, PATIENCE)
    try:
        text = (reply or {})["user_expressions"]["names"]["data"]["text/plain"]
        return [name for name in re.findall(r"[^\W\d]\w{0,200}", text)[:MOST] if not hides(name)]
    except (KeyError, TypeError):
        return []


def complete_cell(text: str, place: int, sessions: Sessions) -> tuple[list[str], int] | None:
    """Complete within a `%%sandbox` cell by its kernel: the texts, and how many characters they replace.

    None where `place` is not in the body of such a cell, or no such session is open.
    """
    first, newline, body = text.partition("\n")
    match = _MAGIC.match(f"{first} ")
    if not newline or place <= len(first) or match is None or match["cell"] != "%%sandbox":
        return None
    session = _session_of(match["rest"].split())
    if session not in sessions.names:
        return [], 0
    return _ask(sessions, session, body, place - len(first) - 1)


def _ask(sessions: Sessions, session: str, code: str, place: int) -> tuple[list[str], int]:
    reply: dict[str, Any] | None = None
    with contextlib.suppress(SandboxError):
        request = {"code": code, "cursor_pos": place}
        reply = sessions.find(session).session.request("complete_request", request, PATIENCE)
    matches, start = (reply or {}).get("matches"), (reply or {}).get("cursor_start")
    if not isinstance(matches, list) or type(start) is not int or not 0 <= start <= place:
        return [], 0
    # What the sandbox suggests is put into the user's cell: names and attributes only, on one line.
    return [match for match in matches[:MOST] if isinstance(match, str) and _NAME.fullmatch(match)], place - start
