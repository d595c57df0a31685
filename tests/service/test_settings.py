"""Settings: where they come from, which wins, and what is said of those that cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox.pool import PoolSettings
from kernel_sandbox.service.settings import OidcSettings, ServerSettings, SettingsError, describe, load
from kernel_sandbox.service.settings_table import ROWS
from kernel_sandbox.spec.values import Limits, SandboxSpec

PREFIX = "KERNEL_SANDBOX_SERVER_"
GROUPS = {"limits": Limits, "pool": PoolSettings, "oidc": OidcSettings}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.toml"


def refusal(file: Path | None = None, environ: dict[str, str] | None = None, **flags: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(file, environ or {}, flags)
    return str(caught.value)


def test_table_has_every_setting_once() -> None:
    expected = {f.name for f in dataclasses.fields(ServerSettings)} - set(GROUPS)
    for group, kind in GROUPS.items():
        expected |= {f"{group}.{f.name}" for f in dataclasses.fields(kind)}
    keys = [setting.key for setting in describe()]
    assert sorted(keys) == sorted(expected)
    assert len({setting.variable for setting in describe()}) == len({s.flag for s in describe()}) == len(keys)


def test_every_setting_is_described() -> None:
    for setting in describe():
        assert setting.help.endswith("."), setting
        assert setting.allowed, setting
        assert setting.default, setting
    by_key = {setting.key: setting for setting in describe()}
    assert by_key["pool.queue_timeout"].flag == "--pool-queue-timeout"
    assert by_key["pool.queue_timeout"].variable == "KERNEL_SANDBOX_SERVER_POOL_QUEUE_TIMEOUT"
    assert by_key["max_upload_bytes"].default == "128 MB"
    assert by_key["port"].default == "8000"
    assert by_key["engine"].default == "none"


def test_defaults_that_are_shown_are_read_back() -> None:
    placeless = {"database", "save_dir", "oidc.issuer", "oidc.audience"}
    for setting in describe():
        if setting.key in placeless or setting.key.startswith("oidc."):
            continue
        flag = setting.key.replace(".", "_")
        text = "" if setting.default == '""' else setting.default
        assert load(None, {}, {flag: text}) == load(None, {}, {}), setting.key


def test_defaults_are_for_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    settings = load(None, {}, {})
    assert (settings.host, settings.port, settings.is_loopback) == ("127.0.0.1", 8000, True)
    assert settings.database == "/state/kernel-sandbox/server.db"
    assert settings.save_dir == Path("/state/kernel-sandbox/transcripts")
    assert settings.max_upload_bytes == 134_217_728
    assert settings.max_timeout == 220
    assert settings.oidc is None


def test_flags_win_over_environment_over_file(file: Path) -> None:
    file.write_text('port = 1\nimage = "file"\nlog_format = "text"\n[pool]\nready = 1\nsessions = 5\n')
    environ = {f"{PREFIX}PORT": "2", f"{PREFIX}IMAGE": "environment", f"{PREFIX}POOL_READY": "2", "PORT": "9"}
    settings = load(file, environ, {"port": 3, "pool_ready": None, "image": None})
    assert (settings.port, settings.image, settings.log_format) == (3, "environment", "text")
    assert (settings.pool.ready, settings.pool.sessions) == (2, 5)


def test_file_may_be_named_by_the_environment(file: Path, tmp_path: Path) -> None:
    file.write_text("port = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("port = 2\n")
    assert load(None, {f"{PREFIX}CONFIG": str(file)}, {}).port == 1
    assert load(other, {f"{PREFIX}CONFIG": str(file)}, {}).port == 2


def test_all_kinds_are_read_from_file_and_text(file: Path) -> None:
    file.write_text(
        'host = "::1"\nengine = "docker"\nmax_body_bytes = "2m"\nmax_upload_bytes = 1000\ntranscript_days = "none"\n'
        "[limits]\ncpus = 1\ncell_timeout = 10.5\ndata_size = '64m'\n"
        '[pool]\npreload = ["numpy", "pandas"]\n'
        '[oidc]\nissuer = "https://example.com"\naudience = "us"\n'
    )
    settings = load(file, {}, {})
    assert (settings.host, settings.is_loopback, settings.engine) == ("::1", True, "docker")
    assert (settings.max_body_bytes, settings.max_upload_bytes) == (2_097_152, 1000)
    assert settings.transcript_days is None
    assert (settings.limits.cpus, settings.limits.cell_timeout, settings.limits.data_size) == (1.0, 10.5, 67_108_864)
    assert settings.oidc == OidcSettings("https://example.com", "us")
    texts = {f"{PREFIX}POOL_PRELOAD": "numpy, pandas", f"{PREFIX}LIMITS_CELL_TIMEOUT": "none"}
    from_texts = load(None, texts, {})
    assert from_texts.limits.cell_timeout is None
    assert tuple(from_texts.pool.preload or ()) == tuple(settings.pool.preload or ()) == ("numpy", "pandas")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("port = 'x'", ["server.toml: port", "'x'", "from 0 to 65535"]),
        ("port = 70000", ["port", "70000"]),
        ("port = 1.5", ["port", "1.5"]),
        ("port = true", ["port", "True"]),
        ("log_format = 'yaml'", ["log_format", "json or text"]),
        ("keys = true", ["keys", "auto or on or off"]),
        ("max_timeout = 0", ["max_timeout", "more than 0"]),
        ("max_timeout = 601", ["max_timeout", "at most 600"]),
        ("request_timeout = inf", ["request_timeout"]),
        ("request_timeout = nan", ["request_timeout"]),
        ("max_body_bytes = '2 potatoes'", ["max_body_bytes", "128m"]),
        ("image = 'a b'", ["server.toml: image", "the name of an image"]),
        ("strict = 'perhaps'", ["server.toml: strict", "true or false"]),
        ("transport = 'tcp'", ["server.toml: transport", "ipc or forward"]),
        ("trace_endpoint = 'collector:4318'", ["trace_endpoint", "http or https URL"]),
        ("host = ''", ["host", "a text"]),
        ("host = 7", ["host", "a text"]),
        ("engine = 'podman'", ["engine", "docker or bubblewrap", "none"]),
        ("[limits]\nmemory = '1m'", ["server.toml: limits.memory", "at least 128 MB"]),
        ("[limits]\nmemory = '1g'\ndata_size = '2g'", ["limits.memory", "limits.data_size", "leave no memory"]),
        ("[limits]\ncpu = 1", ["limits.cpu:", "Did you mean limits.cpus?"]),
        ("pots = 1", ["server.toml: pots", "Did you mean port?"]),
        ("zzz = 1", ["zzz", "serve --help"]),
        ("[pool]\nraedy = 1", ["pool.raedy", "Did you mean pool.ready?"]),
        ("pool = 3", ["pool", "no such setting"]),
        ("[port]\nnumber = 3", ["port", "whole number"]),
        ("[oidc]\nissuer = 'https://example.com'", ["oidc.audience is missing"]),
        ("[oidc]\nissuer = 'http://example.com'\naudience = 'us'", ["server.toml: oidc.issuer", "https"]),
        ("port = = 1", ["server.toml is not TOML", "line 1"]),
        ("host = '0.0.0.0'\nkeys = 'off'", ["0.0.0.0", "Set keys to on"]),
    ],
)
def test_mistake_in_a_file_is_named(file: Path, text: str, parts: list[str]) -> None:
    file.write_text(text)
    message = refusal(file)
    assert [part for part in parts if part not in message] == [], message


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "none.toml cannot be read" in refusal(tmp_path / "none.toml")
    assert "cannot be read" in refusal(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "is not TOML" in refusal(binary)
    deep = tmp_path / "deep.toml"
    deep.write_text("a = " + "[" * 5000)
    assert "is not TOML" in refusal(deep)


def test_mistake_in_the_environment_is_named() -> None:
    message = refusal(environ={f"{PREFIX}PORT": "eighty"})
    assert message.startswith(f"{PREFIX}PORT: 'eighty' is not allowed.")
    assert f"Did you mean {PREFIX}POOL_READY?" in refusal(environ={f"{PREFIX}POOL_REDY": "1"})


def test_mistake_in_a_flag_is_named() -> None:
    assert refusal(pool_ready="many").startswith("--pool-ready: 'many' is not allowed.")
    assert "Did you mean" in refusal(pool_redy=1)


def test_value_that_is_overridden_must_be_right_too(file: Path) -> None:
    file.write_text("port = 'x'")
    assert "server.toml: port" in refusal(file, {}, port=1)


def test_variables_of_kubernetes_are_passed_over() -> None:
    # What a pod gets for a service called kernel-sandbox-server (its manual, "Environment variables").
    environ = {
        f"{PREFIX}SERVICE_HOST": "10.0.0.11",
        f"{PREFIX}SERVICE_PORT": "8000",
        f"{PREFIX}SERVICE_PORT_HTTP": "8000",
        f"{PREFIX}PORT": "tcp://10.0.0.11:8000",
        f"{PREFIX}PORT_8000_TCP": "tcp://10.0.0.11:8000",
        f"{PREFIX}PORT_8000_TCP_ADDR": "10.0.0.11",
    }
    assert load(None, environ, {}).port == 8000


def test_password_of_a_database_is_not_shown() -> None:
    settings = load(None, {}, {"database": "postgresql://user:hunter2@host/name"})
    assert settings.database == "postgresql://user:hunter2@host/name"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in refusal(database="postgresql://user:hunter2@host/name\n ")
    assert "hunter2" not in refusal(trace_endpoint="collector:hunter2")


def test_settings_make_the_sandbox(file: Path) -> None:
    file.write_text("image = 'python'\nruntime = 'runsc'\ntransport = 'forward'\nstrict = true\nlimits.pids = 64\n")
    spec = load(file, {}, {}).spec
    assert spec == SandboxSpec(
        image="python", runtime="runsc", transport="forward", strict=True, limits=Limits(pids=64)
    )
    assert load(None, {f"{PREFIX}STRICT": "False"}, {}).spec.strict is False
    assert load(None, {}, {}).spec == SandboxSpec()


def test_settings_are_values() -> None:
    assert load(None, {}, {"port": "1"}) == load(None, {f"{PREFIX}PORT": "1"}, {})
    assert ROWS["port"].kind.read("1") == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(None, {}, {}).port = 1  # type: ignore[misc]


@pytest.mark.parametrize("key", ["database", "save_dir", "tls_certificate"])
def test_relative_path_of_a_file_is_beside_it_and_of_a_variable_refused(file: Path, key: str) -> None:
    other = 'tls_key = "/k"' if key == "tls_certificate" else ""
    file.write_text(f'{key} = "here/x"\n{other}\n')
    assert Path(getattr(load(file, {}, {}), key)) == file.parent / "here" / "x"
    for value in ("x", "./x", "sqlite:///x"):
        refused = refusal(environ={f"{PREFIX}{key.upper()}": value})
        assert f"{PREFIX}{key.upper()} = '{value}' is another place in each directory" in refused
    assert "another place" in refusal(environ={f"{PREFIX}CONFIG": "server.toml"})
    file.write_text('database = "sqlite:///x.db"\n')
    assert "another place in each directory" in refusal(file)
