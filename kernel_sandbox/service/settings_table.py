"""All settings of the service in one table: their names, what values they take, and what they mean. Pure.

settings.py reads values by it. Defaults are where the values are: in `ServerSettings`, `Limits`, `PoolSettings` and
`OidcSettings`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kernel_sandbox.errors import PolicyError
from kernel_sandbox.sandbox.engines import NAMES as ENGINES
from kernel_sandbox.spec.values import SandboxSpec, parse_size
from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.clipping import shorten

NONE = "none"


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a setting takes."""

    allowed: str
    """In words."""
    read: Callable[[Any], Any]
    """Makes the value of a text, or of what TOML has. Raises ValueError for what is not allowed."""
    show: Callable[[Any], str] = str


@dataclass(frozen=True, slots=True)
class Row:
    """One setting."""

    key: str
    """As in a file; what stands before a dot is the name of a table there."""
    kind: Kind
    help: str


def whole(least: int, most: int | None = None) -> Kind:
    """Take whole numbers from `least` to `most`."""

    def read(value: Any) -> int:
        if isinstance(value, bool | float) or not least <= int(value) <= (math.inf if most is None else most):
            raise ValueError(value)
        return int(value)

    return Kind(f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}", read)


def number(unit: str, most: float = math.inf) -> Kind:
    """Take numbers that are more than 0, and at most `most`."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not 0 < float(value) <= most or math.isinf(float(value)):
            raise ValueError(value)
        return float(value)

    return Kind(f"{unit}, more than 0" + ("" if math.isinf(most) else f" and at most {most:g}"), read, "{:g}".format)


def choice(*values: str) -> Kind:
    """Take one of some texts."""

    def read(value: Any) -> str:
        if value not in values:
            raise ValueError(value)
        return str(value)

    return Kind(" or ".join(values), read)


def optional(kind: Kind) -> Kind:
    """Take what another kind takes, and "none" for nothing."""

    def read(value: Any) -> Any:
        return None if value == NONE else kind.read(value)

    return Kind(f"{kind.allowed}; or {NONE}", read, lambda value: NONE if value is None else kind.show(value))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(value)
    return value.strip()


def _size(value: Any) -> int:
    if not isinstance(value, int | str):
        raise ValueError(value)
    return parse_size(value)


def _names(value: Any) -> tuple[str, ...]:
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError(value)
    return tuple(_text(part) for part in parts)


def _prefix(value: Any) -> str:
    plain = "" if value == "" else _text(value).rstrip("/")
    if not re.fullmatch(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*", plain, re.ASCII):
        raise ValueError(value)
    return plain


def _networks(value: Any) -> tuple[str, ...]:
    return tuple(str(ip_network(name)) if "/" in name else str(ip_address(name)) for name in _names(value))


def _image(value: Any) -> str:
    return SandboxSpec(image=_text(value)).image


def _url(value: Any) -> str:
    if urlsplit(_text(value)).scheme not in ("http", "https") or not urlsplit(value).hostname:
        raise ValueError(value)
    return _text(value)


def _yes_or_no(value: Any) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


TEXT = Kind("a text", _text)
IMAGE = Kind("the name of an image", _image)
URL = Kind("an http or https URL", _url)
SIZE = Kind('a size in bytes, such as 1048576 or "128m"', _size, lambda value: format_size(parse_size(value)))
YES_OR_NO = Kind("true or false", _yes_or_no, lambda value: str(value).lower())
PATH = Kind("a path", lambda value: Path(_text(value)).expanduser().absolute())
NAMES = Kind("names, with commas between them in a text", _names, lambda value: ", ".join(value) or '""')
SECONDS = number("seconds")
PREFIX = Kind('a path such as "/sandboxes", or nothing', _prefix, lambda value: value or '""')
NETWORKS = Kind("addresses and networks, with commas between them in a text", _networks, ", ".join)

TABLE = (
    Row("host", TEXT, "The address to listen on. Beyond loopback, keys or a provider are needed."),
    Row("port", whole(0, 65_535), "The port to listen on; 0 takes a free one."),
    Row("engine", optional(choice(*ENGINES)), "What starts sandboxes; none takes what answers."),
    Row("image", IMAGE, "The image of the sessions."),
    Row("runtime", optional(TEXT), "The OCI runtime, such as runsc for gVisor; none: the engine's own."),
    Row(
        "transport",
        optional(choice("ipc", "forward")),
        "How to reach inside; none lets the engine decide.",
    ),
    Row("strict", optional(YES_OR_NO), "Whether a sandbox with a limit that this host cannot hold is refused."),
    Row("database", TEXT, "Where keys, results and the index of transcripts are kept: a path, or a SQLAlchemy URL."),
    Row("save_dir", PATH, "The directory in which the notebooks of sessions are saved."),
    Row("transcript_days", optional(number("days")), "How long a saved notebook is kept after its last cell."),
    Row("result_seconds", SECONDS, "How long the result of an asynchronous execution is kept."),
    Row("max_upload_bytes", SIZE, "The largest file that may be uploaded."),
    Row("max_body_bytes", SIZE, "The largest body of any other request, with the code in it."),
    Row(
        "max_timeout", number("seconds", 600), "The longest timeout of a cell or a command that a request may ask for."
    ),
    Row("request_timeout", SECONDS, "How long a whole request may take, waiting for a session and uploads included."),
    Row("keep_alive", SECONDS, "How long a connection may be idle; longer than a balancer before this keeps one."),
    Row("tls_certificate", optional(PATH), "The service's certificate with its chain, in PEM, to serve HTTPS itself."),
    Row("tls_key", optional(PATH), "The key of that certificate, in PEM and without a password."),
    Row("proxy_prefix", PREFIX, "The path at which a proxy shows the service, taken off by it or not; empty for none."),
    Row("trusted_proxies", NETWORKS, "Proxies whose X-Forwarded-Proto and X-Forwarded-Prefix are believed."),
    Row("quota_sessions", whole(0), "How many sessions one identity may have at once; 0 sets no bound of its own."),
    Row("quota_requests", whole(0), "How many requests of one identity may be under way; 0 sets no bound of its own."),
    Row("keys", choice("auto", "on", "off"), "Whether API keys are asked for; auto: from the first one on."),
    Row("metrics", choice("admin", "open", "off"), "Who may read /metrics: unscoped admins, everybody, nobody."),
    Row("trace_endpoint", optional(URL), "Where OpenTelemetry traces are sent (OTLP over HTTP, the full URL)."),
    Row("log_format", choice("json", "text"), "How log lines are written."),
    Row("oidc.issuer", TEXT, "The OpenID provider whose tokens are accepted: its URL, exactly as in their iss."),
    Row("oidc.audience", TEXT, "What tokens must have in aud."),
    Row("oidc.role_claim", TEXT, "The claim of a token that holds roles; dots lead into nested claims."),
    Row("oidc.executor_role", TEXT, "Its value for who may use sessions of their own."),
    Row("oidc.admin_role", TEXT, "Its value for who may see and shut down everybody's."),
    Row("pool.ready", whole(0), "How many sessions are held ready, with the libraries of the image loaded."),
    Row("pool.sessions", whole(1), "How many sessions there may be at once."),
    Row("pool.queue_timeout", SECONDS, "How long a request waits for a session when all are in use."),
    Row("pool.queue_length", whole(0), "How many requests may wait so."),
    Row("pool.idle_timeout", SECONDS, "A session that is not used for so long ends."),
    Row("pool.max_lifetime", optional(SECONDS), "A session ends at this age, used or not."),
    Row("pool.health_interval", SECONDS, "How often sessions that are held ready are checked."),
    Row("pool.preload", NAMES, "Modules that are imported before a session is handed out."),
    Row("limits.memory", SIZE, "Memory of one session, its files included."),
    Row("limits.cpus", number("processors"), "Processors' worth of time of one session."),
    Row("limits.pids", whole(1), "Processes and threads of one session."),
    Row("limits.data_size", optional(SIZE), "Room under /mnt/data; none: a quarter of the memory."),
    Row("limits.tmp_size", optional(SIZE), "Room under /tmp; none: an eighth of the memory."),
    Row("limits.home_size", optional(SIZE), "Room in the home directory; none: 1/32 of the memory."),
    Row("limits.shm_size", optional(SIZE), "Room under /dev/shm; none: 1/32 of the memory."),
    Row("limits.inodes", whole(1), "Files in each of these places."),
    Row("limits.open_files", whole(1), "Open files of one process."),
    Row("limits.start_timeout", SECONDS, "How long a sandbox may take to start."),
    Row("limits.cell_timeout", optional(SECONDS), "How long any cell may run; a request's own time ends it sooner."),
    Row("limits.interrupt_grace", SECONDS, "How long an interrupted cell may take to end."),
    Row("limits.output_bytes", SIZE, "What one cell may show."),
    Row("limits.session_output_bytes", SIZE, "What all cells of a session may show together."),
    Row("limits.on_output_limit", choice("truncate", "interrupt"), "What happens past these two."),
    Row("limits.table_rows", whole(1), "How many rows of a table travel as data."),
)
ROWS = {row.key: row for row in TABLE}
SECRET = ("database", "trace_endpoint")
"""URLs that may hold a password, and are shown nowhere."""


def read_value(row: Row, value: Any, place: str) -> Any:
    """Read a setting's value. Raises PolicyError, which names the place and what is allowed."""
    try:
        return row.kind.read(value)
    except (ValueError, TypeError, LookupError, OverflowError) as exc:
        shown = "what it says" if row.key in SECRET else shorten(repr(value), 60)
        raise PolicyError(f"{place}: {shown} is not allowed. Give {row.kind.allowed}.") from exc
