"""What the service writes to its log: one line for each thing that happens, without anybody's data.

A line never holds an identifier, code, outputs, file names, tokens or keys. Sessions appear as digests, with a salt
that is gone with the process: they tell which lines belong together, and nothing else. What other libraries log is
cut down to their own words and numbers, since their other arguments are URLs and bodies now and then.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from kernel_sandbox.text.characters import visible_source

Field = str | int | float | bool | None

OURS = "kernel_sandbox.doors.http"
_logger = logging.getLogger(OURS)
_salt = secrets.token_bytes(16)
MAX_TEMPLATE = 200
MAX_FRAMES = 12
_CONVERSION = re.compile(r"%(?:\((?P<name>\w+)\))?[-#0 +]*\d{0,3}(?:\.\d{1,3})?[diouxXeEfFgGcrsa%]")
_FIELDS = "kernel_sandbox_fields"


def set_up(log_format: Literal["json", "text"]) -> None:
    """Write the log to stderr from now on, in place of what was set before.

    uvicorn must be started with log_config=None and access_log=False: its access log holds URLs.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in (OURS, "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").addFilter(_is_not_of_a_websocket)


def _is_not_of_a_websocket(record: logging.LogRecord) -> bool:
    """Drop what uvicorn writes about each WebSocket: all that would be left of it is a line without values."""
    template = str(record.msg)
    return record.levelno > logging.INFO or not ('"WebSocket ' in template or template.startswith("connection "))


def log_request(
    method: str,
    route: str,
    status: int,
    seconds: float,
    *,
    session: str | None = None,
    identity: str | None = None,
    tool: str | None = None,
    failed: bool | None = None,
) -> None:
    """Write the line of a request. `route` is its template, as in "/v1/sessions/{id}"; `session` the identifier.

    `tool` is the one that an MCP client called, and `failed` whether its result says so.
    """
    digest = None if session is None else session_digest(session)
    log_event(
        "request",
        method=method,
        route=route,
        tool=tool,
        failed=failed,
        status=status,
        ms=round(seconds * 1000, 1),
        session=digest,
        identity=identity,
    )


def log_event(event: str, *, level: int = logging.INFO, **fields: Field) -> None:
    """Write a line about something else; a field that is None is left out. No data in the fields."""
    given = {name: value for name, value in fields.items() if value is not None}
    _logger.log(level, event, extra={_FIELDS: given})


def log_failure(event: str, error: BaseException, **fields: Field) -> None:
    """Write a line about an error that nobody expected: its type and where it was raised, not what it says."""
    _logger.error(event, exc_info=error, extra={_FIELDS: fields})


def session_digest(identifier: str) -> str:
    """Return a session's name in this log: 8 hexadecimal digits."""
    return hashlib.blake2b(identifier.encode(errors="surrogatepass"), digest_size=4, key=_salt).hexdigest()


def _entry(record: logging.LogRecord) -> dict[str, object]:
    entry: dict[str, object] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": _event(record),
    }
    fields = getattr(record, _FIELDS, None)
    if isinstance(fields, Mapping):
        entry |= fields
    if record.name != OURS:
        entry["logger"] = record.name
    if record.exc_info and record.exc_info[0] is not None:
        entry |= _failure(record.exc_info[0], record.exc_info[2])
    return entry


def _event(record: logging.LogRecord) -> str:
    """Return a record's text as it stands in the source, with the numbers among its arguments; of any other, "…" stands
    there. Of asyncio's, the first line only.
    """
    template = str(record.msg) if isinstance(record.msg, str) else type(record.msg).__name__
    return _filled(template.strip().partition("\n")[0][:MAX_TEMPLATE], record.args)


def _filled(template: str, arguments: object) -> str:
    if not arguments:
        return template
    named = arguments if isinstance(arguments, Mapping) else {}
    following = iter(arguments if isinstance(arguments, tuple) else ())

    def fill(conversion: re.Match[str]) -> str:
        if conversion[0] == "%%":
            return "%"
        value = named.get(conversion["name"]) if conversion["name"] else next(following, None)
        if not isinstance(value, int | float):
            return "…"
        try:
            return conversion[0].replace(f"({conversion['name']})", "") % value
        except (TypeError, ValueError):
            return "…"

    return _CONVERSION.sub(fill, template)


def _failure(kind: type[BaseException], trace: TracebackType | None) -> dict[str, object]:
    frames = traceback.extract_tb(trace)[-MAX_FRAMES:]
    # No source lines, which are only read from files anyway, and no message of the exception.
    where = [f"{_module_path(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": f"{kind.__module__}.{kind.__qualname__}", "where": where}


def _module_path(filename: str) -> str:
    """Return the last three parts of a source file's path: enough to find it, and nothing of the machine."""
    return "/".join(filename.split("/")[-3:])


class JsonFormatter(logging.Formatter):
    """A JSON object in a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_entry(record), separators=(",", ":"), default=str)


class TextFormatter(logging.Formatter):
    """A line for people: the time, the event, and its fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        entry = _entry(record)
        head = f"{entry.pop('time')} {str(entry.pop('level')).upper()} {entry.pop('event')}"
        # As JSON, so that no value can end the line, or look like another field.
        pairs = (f"{name}={value if _is_plain(value) else json.dumps(value)}" for name, value in entry.items())
        return " ".join([_plain(head), *pairs])


def _is_plain(value: object) -> bool:
    text = str(value)
    return not isinstance(value, list) and text.isascii() and text.isprintable() and not set(text) & set(' "=')


def _plain(text: str) -> str:
    return visible_source(text).replace("\n", "\\n")
