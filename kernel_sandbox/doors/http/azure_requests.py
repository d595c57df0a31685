"""What clients of the session pools' API send, read leniently where they differ and strictly where it matters. Pure."""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernel_sandbox.errors import FileNameRefused
from kernel_sandbox.service.failures import InvalidRequest, InvalidVersion
from kernel_sandbox.spec.values import DATA_DIRECTORY

VERSIONS = {
    "2024-02-02-preview": 1,
    "2024-08-02-preview": 1,
    "2024-10-02-preview": 2,
    "2025-02-02-preview": 2,
    "2025-10-02-preview": 2,
}
"""The api-versions, and of which generation each is."""
SHELL_TIMEOUT = 180.0
"""Seconds of a shell command that names none."""
LARGEST_CUT = 64 * 1024 * 1024
MOST_WORDS = 10_000


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """What is to run, and how it is to be told."""

    code: str = ""
    command: str | Sequence[str] | None = None
    """A shell command instead of code: its text, or its words."""
    posix: bool = False
    """Whether a command's text is for sh."""
    asynchronous: bool = False
    timeout: float | None = None
    longest: int | None = None
    """Characters of stdout and of stderr; None for all."""
    bundle: bool = False
    """Whether the result is wanted as a MIME bundle."""


def generation(version: str | None) -> int:
    """Which generation an api-version is of. Raises InvalidVersion with the list of those that there are."""
    found = VERSIONS.get(version or "")
    if found is None:
        raise InvalidVersion(VERSIONS)
    return found


def read_execution(body: Any, *, max_timeout: float) -> ExecutionRequest:
    """Read the body of `code/execute`, `executions` or `python/execute`; any of them may be in a `properties` envelope.

    Raises InvalidRequest, which names the field.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body is a JSON object with the code to run.")
    inner = body.get("properties")
    fields = inner if isinstance(inner, Mapping) else body
    common: dict[str, Any] = {
        "timeout": _seconds(fields.get("timeoutInSeconds"), max_timeout),
        "longest": _length(fields.get("outputStreamsMaxLength")),
    }
    if "shellCommand" in fields or "execCommandAndArgs" in fields:
        return _shell_request(fields, common)
    if fields.get("useEmptyKernel") is True:
        raise InvalidRequest("An empty kernel is a session of another identifier here.", target="useEmptyKernel")
    code = fields.get("code", fields.get("pythonCode"))
    if not isinstance(code, str):
        raise InvalidRequest("Give the code to run as a text.", target="code")
    kind = _choice(fields, "codeInputType", ("inline", "inlinetext", "inlinebase64"))
    execution = _choice(fields, "executionType", ("synchronous", "asynchronous"))
    return ExecutionRequest(
        _from_base64(code) if kind == "inlinebase64" else code,
        asynchronous=execution == "asynchronous",
        bundle=fields.get("returnJupyterFormatExecutionResult") is True,
        **common,
    )


def _shell_request(fields: Mapping[str, Any], common: dict[str, Any]) -> ExecutionRequest:
    for name in ("codeInputType", "executionType"):
        if name in fields:
            raise InvalidRequest("A shell command has no such field.", target=name)
    command, words = fields.get("shellCommand"), fields.get("execCommandAndArgs")
    if (command is None) == (words is None):
        raise InvalidRequest("Give either shellCommand or execCommandAndArgs.", target="shellCommand")
    if command is not None and (not isinstance(command, str) or not command.strip() or "\0" in command):
        raise InvalidRequest("Give the command as a text that is not empty.", target="shellCommand")
    if words is not None and not _are_words(words):
        raise InvalidRequest("Give the command and its arguments as a list of texts.", target="execCommandAndArgs")
    posix = _choice(fields, "shellType", ("bash", "sh")) == "sh"
    common["timeout"] = common["timeout"] or SHELL_TIMEOUT
    return ExecutionRequest(command=command if words is None else words, posix=posix, **common)


def _are_words(words: Any) -> bool:
    return (
        isinstance(words, list)
        and 0 < len(words) <= MOST_WORDS
        and all(isinstance(word, str) and "\0" not in word for word in words)
        and bool(words[0])
    )


def _choice(fields: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    """Read a word whose case does not count; the first of the allowed ones where it is missing."""
    value = fields.get(name)
    if value is None:
        return allowed[0]
    if not isinstance(value, str) or value.lower() not in allowed:
        raise InvalidRequest(f"Give one of: {', '.join(allowed)} (in any case).", target=name)
    return value.lower()


def _seconds(value: Any, longest: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= longest:
        raise InvalidRequest(f"Give a number of seconds above 0, and at most {longest:g}.", target="timeoutInSeconds")
    return float(value)


def _length(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST_CUT:
        named = f"Give a number of characters from 1 to {LARGEST_CUT}."
        raise InvalidRequest(named, target="outputStreamsMaxLength")
    return value


def _from_base64(code: str) -> str:
    try:
        return base64.b64decode(code, validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest("The code is not UTF-8 in base64.", target="code") from exc


def file_path(name: str) -> str:
    """Read a file's name as clients give it: `x`, `sub/x` or `/mnt/data/x`. Raises FileNameRefused for any other."""
    plain = name.removeprefix(f"{DATA_DIRECTORY}/")
    parts = plain.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(unicodedata.category(c) == "Cc" for c in plain):
        raise FileNameRefused(f"A file's name is a path below {DATA_DIRECTORY}, without '..' and control characters.")
    return plain


def uploaded_name(filename: str) -> str:
    """Read the file name of a multipart part; a quote and line ends in it are encoded (HTML, section 4.10.22.8)."""
    return file_path(filename.replace("%22", '"').replace("%0A", "\n").replace("%0D", "\r"))


def directory_path(path: str) -> str:
    """Read the `path` of a listing or an upload: "" for /mnt/data itself."""
    plain = path.removeprefix(DATA_DIRECTORY).strip("/") if _is_rooted(path) else path.strip("/")
    return file_path(plain) if plain else ""


def _is_rooted(path: str) -> bool:
    if path.startswith("/") and path != "/" and path != DATA_DIRECTORY and not path.startswith(f"{DATA_DIRECTORY}/"):
        raise FileNameRefused(f"Files are below {DATA_DIRECTORY}: give a path there.")
    return path.startswith(DATA_DIRECTORY)


def below(directory: str, name: str) -> str:
    """Join a directory, as `directory_path` gives it, and a name."""
    return f"{directory}/{name}" if directory else name


def skipped(value: str | None) -> int:
    """Read how many sessions of a list to skip."""
    try:
        number = int(value or 0)
    except ValueError:
        number = -1
    if not 0 <= number <= 10**9:
        raise InvalidRequest("Give the number of sessions to skip.", target="skip")
    return number
