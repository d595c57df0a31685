"""How the service is set: `ServerSettings`, read from a file, the environment and flags.

A later one of these wins over an earlier. All settings stand in one table (settings_table.py), from which files,
variables, flags and the documentation get the same names, bounds and texts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from kernel_sandbox.errors import PolicyError
from kernel_sandbox.pool import PoolSettings
from kernel_sandbox.service.identity import is_loopback, is_trustworthy
from kernel_sandbox.service.settings_table import NONE, ROWS, TABLE, Row, read_value
from kernel_sandbox.service.state import default_database, default_save_dir
from kernel_sandbox.spec.values import Limits, SandboxSpec
from kernel_sandbox.text.spelling import did_you_mean

T = TypeVar("T")
PREFIX = "KERNEL_SANDBOX_SERVER_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
"""Names the file, where no flag does."""
MAX_FILE_BYTES = 1024**2
PATHS = ("database", "save_dir", "tls_certificate", "tls_key")
"""Settings that may be paths. In a file they are beside it; a variable's must be absolute: the directory in which the
service happens to start must not bring the keys that open it."""


class SettingsError(PolicyError):
    """A setting that cannot be: the message names its place, and what is allowed."""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """Whose tokens are accepted, and what in them gives which role."""

    issuer: str
    """The provider, exactly as its tokens have it in `iss`; https, or http on this machine."""
    audience: str
    """What a token must have in `aud`: the name of this service at the provider."""
    role_claim: str = "roles"
    """The claim with roles: a list of texts, or a text with spaces between them. Dots lead into nested claims."""
    executor_role: str = "executor"
    """Its value that gives the role "executor"."""
    admin_role: str = "admin"
    """Its value that gives the role "admin"."""

    def __post_init__(self) -> None:
        if not is_trustworthy(self.issuer):
            raise SettingsError(f"oidc.issuer = {self.issuer!r}: give an https URL, or an http one of this machine.")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Everything that can be set. Sizes are bytes, times are seconds; settings_table.py says what each means.

    Raises SettingsError for a host beyond loopback that everybody could use.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    engine: str | None = None
    image: str = "datascience"
    runtime: str | None = None
    transport: Literal["ipc", "forward"] | None = None
    strict: bool | None = None
    limits: Limits = field(default_factory=Limits)
    pool: PoolSettings = field(default_factory=PoolSettings)
    database: str = field(default_factory=default_database, repr=False)
    save_dir: Path = field(default_factory=default_save_dir)
    transcript_days: float | None = None
    result_seconds: float = 3600.0
    max_upload_bytes: int = 128 * 1024**2
    max_body_bytes: int = 4 * 1024**2
    max_timeout: float = 220.0
    request_timeout: float = 240.0
    keep_alive: float = 75.0
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    proxy_prefix: str = ""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    quota_sessions: int = 0
    quota_requests: int = 64
    keys: Literal["auto", "on", "off"] = "auto"
    metrics: Literal["admin", "open", "off"] = "admin"
    oidc: OidcSettings | None = None
    trace_endpoint: str | None = field(default=None, repr=False)
    log_format: Literal["json", "text"] = "json"

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError("tls_certificate and tls_key belong together: give both, or neither.")
        if not self.is_loopback and self.keys == "off" and self.oidc is None:
            raise SettingsError(
                f"host = {self.host!r} lets others in, and keys = 'off' without a provider asks nobody who they are. "
                "Set keys to on, or oidc.issuer and oidc.audience; or host to 127.0.0.1."
            )

    @property
    def spec(self) -> SandboxSpec:
        """The sandbox of every session."""
        return SandboxSpec(
            image=self.image,
            limits=self.limits,
            runtime=self.runtime,
            transport=self.transport,
            strict=self.strict,
            door="service",
        )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class ServiceSetting:
    """One setting, as help and documentation show it."""

    key: str
    flag: str
    variable: str
    default: str
    allowed: str
    help: str


def describe() -> tuple[ServiceSetting, ...]:
    """List all settings, in the order of the table."""
    return tuple(
        ServiceSetting(row.key, _flag(row.key), _variable(row.key), _default(row), row.kind.allowed, row.help)
        for row in TABLE
    )


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> ServerSettings:
    """Read the settings: those of the file, over them those of the environment, over them the flags.

    Flags are named as Python names, as in `pool_ready`; None is a flag that was not given. Where no file is given,
    KERNEL_SANDBOX_SERVER_CONFIG may name one. Raises SettingsError.
    """
    named = file or (_absolute(CONFIG_VARIABLE, environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    given: dict[str, _Given] = {}
    for found in (*_of_file(named), *_of_environment(environ), *_of_flags(flags)):
        given[found.key] = found
    values = {key: found.value for key, found in given.items() if "." not in key}
    limits = _group("limits", given, Limits)
    pool = _group("pool", given, PoolSettings)
    oidc = _oidc(given)
    return ServerSettings(limits=limits, pool=pool, oidc=oidc, **values)


@dataclass(frozen=True, slots=True)
class _Given:
    """A value and where it stands."""

    key: str
    value: Any
    place: str


def _given(key: str, value: Any, place: str) -> _Given:
    try:
        return _Given(key, read_value(ROWS[key], value, place), place)
    except PolicyError as exc:
        raise SettingsError(str(exc)) from exc


def _of_file(path: Path | None) -> Iterator[_Given]:
    if path is None:
        return
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        tables = tomllib.loads(text[:MAX_FILE_BYTES].decode())
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read ({exc.strerror}).") from exc
    except (ValueError, RecursionError) as exc:  # the decoder's errors are ValueErrors, too
        raise SettingsError(f"{path} is not TOML: {exc}.") from exc
    for key, value in _flattened(tables):
        if key not in ROWS:
            raise SettingsError(f"{path}: {key}: there is no such setting.{_near(key, ROWS)}")
        if key in PATHS and _is_relative(value):
            value = str(path.absolute().parent / _plain_path(value, f"{path}: {key}"))
        yield _given(key, value, f"{path}: {key}")


def _is_relative(value: Any) -> bool:
    """Return whether a text is a path that means another place in each directory; a URL of SQLite may hold one."""
    if not isinstance(value, str) or value == NONE or not value.strip():
        return False
    if "://" in value:
        return re.match(r"sqlite[+\w]*:///(?![/:])", value) is not None
    return not value.strip().startswith(("/", "~"))


def _plain_path(value: str, place: str) -> str:
    if "://" in value:
        raise SettingsError(f"{place} = {value!r} is another place in each directory: give it an absolute path.")
    return value.strip()


def _absolute(name: str, value: str) -> Path:
    """Read a variable's path. Raises SettingsError for a relative one."""
    if _is_relative(value):
        raise SettingsError(f"{name} = {value!r} is another place in each directory: set an absolute path.")
    return Path(value).expanduser()


def _flattened(tables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    groups = {key.partition(".")[0] for key in ROWS if "." in key}
    for name, value in tables.items():
        if name in groups and isinstance(value, Mapping):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _of_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    variables = {_variable(key): key for key in ROWS}
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or _is_of_kubernetes(name, value):
            continue
        if name not in variables:
            raise SettingsError(f"{name}: there is no such setting.{_near(name, variables)}")
        if variables[name] in PATHS:
            _absolute(name, value)
        yield _given(variables[name], value, name)


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes set a variable, as it does in every pod for a service that is called kernel-sandbox-server."""
    rest = name.removeprefix(PREFIX)
    return bool(re.match(r"SERVICE_(HOST|PORT)|PORT_\d+_", rest)) or (rest == "PORT" and "://" in value)


def _of_flags(flags: Mapping[str, Any]) -> Iterator[_Given]:
    names = {key.replace(".", "_"): key for key in ROWS}
    for name, value in flags.items():
        if value is None:
            continue
        if name not in names:
            raise SettingsError(f"{_flag(name)}: there is no such setting.{_near(name, names)}")
        yield _given(names[name], value, _flag(name))


def _near(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) or " kernel-sandbox serve --help lists all."


def _group(name: str, given: Mapping[str, _Given], make: Callable[..., T]) -> T:
    members = [found for key, found in given.items() if key.startswith(f"{name}.")]
    try:
        return make(**{found.key.partition(".")[2]: found.value for found in members})
    except PolicyError as exc:
        raise SettingsError(f"{', '.join(found.place for found in members)}: {exc}") from exc


def _oidc(given: Mapping[str, _Given]) -> OidcSettings | None:
    if not any(key.startswith("oidc.") for key in given):
        return None
    for key in ("oidc.issuer", "oidc.audience"):
        if key not in given:
            raise SettingsError(f"{key} is missing: whose tokens are accepted, and for whom, belong together.")
    return _group("oidc", given, OidcSettings)


def _flag(key: str) -> str:
    return f"--{re.sub('[._]', '-', key)}"


def _variable(key: str) -> str:
    return f"{PREFIX}{key.replace('.', '_').upper()}"


_PLACES = {
    "database": "server.db in the state directory (XDG_STATE_HOME/kernel-sandbox; as root /var/lib/kernel-sandbox)",
    "save_dir": "transcripts in the state directory",
    **dict.fromkeys(("oidc.issuer", "oidc.audience"), "none"),
}


def _default(row: Row) -> str:
    group, _, name = row.key.rpartition(".")
    if row.key in _PLACES:
        return _PLACES[row.key]
    owners = {"": ServerSettings(), "limits": Limits(), "pool": PoolSettings(), "oidc": OidcSettings("https:", "")}
    return row.kind.show(getattr(owners[group], name))
