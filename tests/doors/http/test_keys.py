"""API keys and who sends a request: the text of a key, its record, the authenticator, the command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import PolicyError
from kernel_sandbox.service.authenticator import ANONYMOUS, Authenticator
from kernel_sandbox.service.identity import Forbidden, Identity, Unauthenticated, is_local_request, is_loopback, require
from kernel_sandbox.service.keys import KeyRecord, is_valid, make_key, parse_key
from kernel_sandbox.service.settings import OidcSettings, ServerSettings, SettingsError, load
from kernel_sandbox.service.storage import Store
from tests.doors.http.running import running
from tests.service.provider import AUDIENCE, Provider, running_provider

COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
NOW = datetime(2030, 1, 1, tzinfo=UTC)


# The text and the record


def test_key_is_long_and_random_and_only_its_hash_is_kept() -> None:
    pairs = [make_key("alice") for _ in range(50)]
    texts = {text for text, _ in pairs}
    assert len(texts) == 50
    for text, record in pairs:
        assert re.fullmatch(r"ks_[0-9a-f]{16}_[0-9a-f]{64}", text)
        identifier, secret = text.split("_")[1:]
        assert record.id == identifier
        assert secret not in repr(record)
        assert record.digest not in repr(record)
        assert not any(secret in str(getattr(record, name)) for name in record.__slots__)


def test_key_opens_with_its_own_secret_only() -> None:
    text, record = make_key("alice")
    parts = parse_key(text)
    assert parts is not None
    secret = parts[1]
    now = datetime.now(UTC)
    assert is_valid(record, secret, now)
    assert not is_valid(None, secret, now)
    for wrong in ("", secret[:-1], secret + "0", secret.upper() + "x", "0" * 64, record.digest):
        assert not is_valid(record, wrong, now)


def test_secret_of_nothing_opens_nothing() -> None:
    # What a missing record is compared with must be the digest of no secret that could be sent.
    for secret in ("", "0" * 64):
        assert not is_valid(None, secret, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ks__",
        "ks_" + "0" * 16 + "_" + "0" * 63,
        "ks_" + "0" * 16 + "_" + "0" * 65,
        "KS_" + "0" * 16 + "_" + "0" * 64,
        " ks_" + "0" * 16 + "_" + "0" * 64,
        "ks_" + "0" * 16 + "_" + "0" * 64 + "\n",
        "ks_" + "g" * 16 + "_" + "0" * 64,
        "ks_" + "٠" * 16 + "_" + "0" * 64,
    ],
)
def test_text_that_is_no_key_is_told_apart(text: str) -> None:
    assert parse_key(text) is None


def test_key_expires_and_is_revoked() -> None:
    text, record = make_key("alice", expires_in=timedelta(days=30))
    secret = text.rpartition("_")[2]
    assert record.expires is not None
    assert abs((record.expires - datetime.now(UTC)) - timedelta(days=30)) < timedelta(minutes=1)
    assert is_valid(record, secret, record.expires - timedelta(seconds=1))
    assert not is_valid(record, secret, record.expires)
    assert record.state(record.expires) == "expired"
    revoked = replace(record, revoked=NOW)
    assert not is_valid(revoked, secret, datetime.now(UTC))
    assert revoked.state(NOW) == "revoked"


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "a\n"},
        {"name": "é"},
        {"name": "x" * 101},
        {"name": "a", "roles": ()},
        {"name": "a", "roles": ("root",)},
        {"name": "a", "prefixes": [""]},
        {"name": "a", "identifiers": ["x" * 257]},
        {"name": "a", "prefixes": [f"p{n}" for n in range(101)]},
        {"name": "a", "expires_in": timedelta(0)},
        {"name": "a", "expires_in": timedelta(days=-1)},
        {"name": "a", "expires_in": timedelta.max},
    ],
)
def test_key_that_cannot_be_held_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        make_key(**arguments)


# What an identity may do


def test_identity_uses_what_its_scope_names() -> None:
    free = Identity("key:a", frozenset({"executor"}))
    scoped = replace(free, prefixes=("team-1/", "x"), identifiers=("exact",))
    exact = replace(free, identifiers=("exact",))
    assert all(free.may_use(identifier) for identifier in ("", "anything", "\0"))
    assert [scoped.may_use(i) for i in ("team-1/a", "x", "xy", "exact")] == [True] * 4
    assert [scoped.may_use(i) for i in ("", "team-1", "team-10/a", "Team-1/a", "exact2", " exact")] == [False] * 6
    assert exact.may_use("exact")
    assert not exact.may_use("\0")
    assert not exact.may_use("exactly")


def test_role_is_required_by_name() -> None:
    executor = Identity("key:a", frozenset({"executor"}))
    require(executor, "executor")
    with pytest.raises(Forbidden, match="admin"):
        require(executor, "admin")
    admin = Identity("key:b", frozenset({"admin"}))
    assert admin.is_admin
    with pytest.raises(Forbidden, match="executor"):
        require(admin, "executor")


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:8000", None, True),
        ("localhost:8000", "http://localhost:8000", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("127.9.9.9", None, True),
        ("evil.example:8000", None, False),
        ("evil.example:8000", "http://evil.example:8000", False),
        ("localhost.evil.example", None, False),
        ("127.0.0.1:8000", "http://evil.example", False),
        ("127.0.0.1:8000", "http://localhost:8888", False),
        ("127.0.0.1:8000", "null", False),
        ("127.0.0.1:8000", "", False),
        ("127.0.0.1@evil.example", None, False),
        ("192.0.2.1", None, False),
        ("[::1", None, False),
        ("", None, False),
        (None, None, False),
    ],
)
def test_request_of_this_machine_is_told_by_its_headers(host: str | None, origin: str | None, expected: bool) -> None:
    assert is_local_request(host, origin) is expected


def test_loopback_is_addresses_and_one_name() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "example.com", "localhost.example.com", "", "127")))


# The authenticator


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path / "server.db") as opened:
        yield opened


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as running:
        yield running


async def kept(store: Store, name: str, **arguments: Any) -> tuple[str, KeyRecord]:
    text, record = make_key(name, **arguments)
    await store.add_key(record)
    return text, record


async def refused(who: Authenticator, authorization: str | None, api_key: str | None = None) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        await who.identify(authorization, api_key)
    return caught.value


@pytest.mark.anyio
async def test_loopback_without_keys_takes_everybody_as_one(store: Store) -> None:
    async with Authenticator(ServerSettings(), store) as who:
        assert who.modes == ("open",)
        for authorization in (None, "Bearer anything", "Basic eDp5", "", "Bearer ks_0_0"):
            identity = await who.identify(authorization, None)
            assert identity == ANONYMOUS
            assert identity.roles == {"executor", "admin"}


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
async def test_other_address_without_authentication_is_refused_at_start(store: Store, host: str) -> None:
    with pytest.raises(SettingsError, match="keys create"):
        async with Authenticator(ServerSettings(host=host), store):
            pass
    with pytest.raises(SettingsError, match="asks nobody"):
        ServerSettings(host=host, keys="off")
    await kept(store, "alice")
    async with Authenticator(ServerSettings(host=host), store) as who:
        assert who.modes == ("keys",)
        await refused(who, "Bearer anything")


@pytest.mark.anyio
async def test_key_is_taken_from_either_header(store: Store) -> None:
    text, _ = await kept(store, "alice", roles=["admin"], prefixes=["a/"], identifiers=["b"])
    async with Authenticator(ServerSettings(), store) as who:
        expected = Identity("key:alice", frozenset({"admin"}), ("a/",), ("b",))
        assert await who.identify(f"Bearer {text}", None) == expected
        assert await who.identify(f"bearer  {text}", None) == expected
        assert await who.identify(None, text) == expected
        assert await who.identify("Bearer of-another-kind", text) == expected


@pytest.mark.anyio
async def test_request_without_a_good_key_is_refused(store: Store) -> None:
    text, _ = await kept(store, "alice")
    other = make_key("mallory")[0]
    async with Authenticator(ServerSettings(keys="on"), store) as who:
        missing = await refused(who, None)
        assert missing.challenge == 'Bearer realm="kernel-sandbox"'
        for authorization in ("", "Bearer", "Bearer ", f"Basic {text}", text):
            assert "Say who you are" in str(await refused(who, authorization))
        swapped = f"{text[:20]}{other[20:]}"
        for credential in (other, swapped, text[:-1], text + "0", "x" * 100_000, "\x00", "é"):
            for headers in ((f"Bearer {credential}", None), (None, credential)):
                wrong = await refused(who, *headers)
                assert 'error="invalid_token"' in wrong.challenge
                assert credential not in f"{wrong} {wrong.challenge}"
                assert wrong.challenge.isascii()
                assert wrong.challenge.isprintable()


@pytest.mark.anyio
async def test_wrong_key_beside_a_good_one_is_refused(store: Store) -> None:
    text, _ = await kept(store, "alice")
    async with Authenticator(ServerSettings(), store) as who:
        await refused(who, f"Bearer {text}", make_key("mallory")[0])


@pytest.mark.anyio
async def test_revoked_and_expired_keys_are_refused_at_the_next_request(store: Store) -> None:
    text, record = await kept(store, "alice")
    late, _ = await kept(store, "bob", expires_in=timedelta(microseconds=1))
    async with Authenticator(ServerSettings(), store) as who:
        await refused(who, f"Bearer {late}")
        await who.identify(f"Bearer {text}", None)
        assert await store.revoke_key(record.id)
        assert not await store.revoke_key(record.id)
        await refused(who, f"Bearer {text}")


@pytest.mark.anyio
async def test_use_of_a_key_is_noted_once_a_minute(store: Store) -> None:
    text, record = await kept(store, "alice")
    async with Authenticator(ServerSettings(), store) as who:
        await who.identify(None, text)
        first = (await store.list_keys())[0].last_used
        assert first is not None
        assert abs(first - datetime.now(UTC)) < timedelta(seconds=30)
        await who.identify(None, text)
        assert (await store.list_keys())[0].last_used == first
        await store.touch_key(record.id, first - timedelta(seconds=61))
        await who.identify(None, text)
        assert ((await store.list_keys())[0].last_used or first) > first - timedelta(seconds=61)


@pytest.mark.anyio
async def test_tokens_and_keys_are_taken_side_by_side(store: Store, provider: Provider) -> None:
    text, _ = await kept(store, "alice")
    settings = ServerSettings(host="0.0.0.0", oidc=OidcSettings(provider.issuer, AUDIENCE))
    async with Authenticator(settings, store) as who:
        assert who.modes == ("keys", "oidc")
        assert (await who.identify(f"Bearer {text}", None)).name == "key:alice"
        assert (await who.identify(f"Bearer {provider.token()}", None)).name == f"oidc:{provider.issuer} user-1"
        await refused(who, f"Bearer {provider.token(aud='other')}")
        await refused(who, None, provider.token())
        await refused(who, f"Bearer {make_key('mallory')[0]}")


@pytest.mark.anyio
async def test_provider_alone_takes_no_keys(store: Store, provider: Provider) -> None:
    text, _ = await kept(store, "alice")
    settings = ServerSettings(host="0.0.0.0", keys="off", oidc=OidcSettings(provider.issuer, AUDIENCE))
    async with Authenticator(settings, store) as who:
        assert who.modes == ("oidc",)
        await refused(who, f"Bearer {text}")
        await refused(who, None, text)


# The command


def command(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "XDG_STATE_HOME": str(directory / "state"), **environment}
    return subprocess.run(
        [COMMAND, "keys", *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.anyio
async def test_command_makes_lists_and_revokes(tmp_path: Path) -> None:
    made = command(tmp_path, "create", "alice", "--prefix", "team/", "--expires", "90")
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    parts = parse_key(text)
    assert parts is not None
    assert "not shown again" in made.stderr
    assert text not in made.stderr
    place = tmp_path / "state" / "kernel-sandbox" / "server.db"
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    for path in place.parent.iterdir():
        assert parts[1].encode() not in path.read_bytes()
    listed = command(tmp_path, "list")
    assert [word in listed.stdout for word in ("alice", parts[0], "active", "executor", "team/")] == [True] * 5
    assert parts[1] not in listed.stdout
    async with Store(place) as store, Authenticator(ServerSettings(), store) as who:
        assert (await who.identify(None, text)).may_use("team/1")
        assert command(tmp_path, "revoke", parts[0]).returncode == 0
        await refused(who, None, text)
    assert "revoked" in command(tmp_path, "list").stdout
    assert command(tmp_path, "revoke", parts[0]).returncode == 2


def test_command_takes_a_database_from_flag_and_environment(tmp_path: Path) -> None:
    place = str(tmp_path / "other.db")
    assert command(tmp_path, "create", "alice", "--role", "admin", "--database", place).returncode == 0
    assert "admin" in command(tmp_path, "list", KERNEL_SANDBOX_SERVER_DATABASE=place).stdout
    assert "No keys." in command(tmp_path, "list").stdout


def test_key_opens_the_service_of_the_same_configuration(server_engine: str, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f"database = '{tmp_path}/of-the-file.db'\nsave_dir = '{tmp_path}/kept'\nkeys = 'on'\n")
    by_option = command(tmp_path, "create", "alice", "--config", str(file))
    by_variable = command(tmp_path, "create", "bob", KERNEL_SANDBOX_SERVER_CONFIG=str(file))
    settings = load(file, {}, {})
    with running(tmp_path, engine=server_engine, keys="on", database=settings.database) as server:
        for made in (by_option, by_variable):
            with server.client(made.stdout.strip()) as client:
                assert client.get("/v1/sessions").status_code == 200
    assert "nonsense" in command(tmp_path, "list", KERNEL_SANDBOX_SERVER_NONSENSE="1").stderr.lower()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("create", "a b"), "name of a key"),
        (("create", "a", "--role", "root"), "root"),
        (("create", "a", "--prefix", ""), "1 to 256"),
        (("create", "a", "--expires", "0"), "positive"),
        (("create", "a", "--expires", "nan"), "number of days"),
        (("create", "a", "--expires", "1e99"), "number of days"),
        (("revoke", "0123456789abcdef"), "no key"),
        (("list", "--database", "/proc/none/server.db"), "cannot be made"),
        (("list", "--database", "foo://user:hunter2@host/db"), "driver"),
    ],
)
def test_command_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = command(tmp_path, *arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
