"""Who is let in over HTTP: tokens of a provider, keys, and what is answered when neither can be checked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_sandbox.service.settings import OidcSettings
from tests.doors.http.running import Running, issue_key, running
from tests.service.provider import AUDIENCE, Provider, running_provider

CELL = {"source": "6 * 7", "create": True}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as started:
        yield started


@pytest.fixture
def server(tmp_path: Path, provider: Provider, server_engine: str) -> Iterator[Running]:
    """A server that takes tokens, and the keys that are made for it."""
    issue_key(tmp_path, "first")
    with running(tmp_path, engine=server_engine, oidc=OidcSettings(provider.issuer, AUDIENCE)) as started:
        yield started


def test_tokens_use_sessions_of_their_own(server: Running, provider: Provider) -> None:
    with server.client() as client:
        first, second, stranger, monitor = (
            {"authorization": f"Bearer {provider.token(sub=sub, roles=roles)}"}
            for sub, roles in (("a", ["executor"]), ("b", ["executor"]), ("c", []), ("d", ["admin"]))
        )
        assert client.post("/v1/sessions/mine/execute", json=CELL, headers=first).status_code == 200
        assert client.get("/v1/sessions/mine", headers=first).status_code == 200
        assert client.get("/v1/sessions/mine", headers=second).status_code == 404
        assert client.get("/v1/sessions/mine", headers=stranger).status_code == 403
        assert client.get("/v1/sessions/mine", headers=monitor).status_code == 403
        assert client.get("/v1/admin/sessions", headers=monitor).status_code == 200
        assert client.get("/v1/admin/sessions", headers=first).status_code == 403


def test_bad_token_is_told_what_is_wrong(server: Running, provider: Provider) -> None:
    with server.client() as client:
        bare = client.get("/v1/sessions/mine")
        late = client.get("/v1/sessions/mine", headers={"authorization": f"Bearer {provider.token(exp=1)}"})
    assert (bare.status_code, bare.headers["www-authenticate"]) == (401, 'Bearer realm="kernel-sandbox"')
    assert late.status_code == 401
    assert 'error="invalid_token"' in late.headers["www-authenticate"]
    assert "expired" in late.json()["error"]["message"]


def test_provider_that_is_down_is_503_and_keys_go_on(server: Running, provider: Provider, tmp_path: Path) -> None:
    key = issue_key(tmp_path, "second")
    provider.status = 500
    with server.client() as client:
        refused = client.get("/v1/sessions/mine", headers={"authorization": f"Bearer {provider.token()}"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert client.get("/v1/sessions/mine", headers={"x-api-key": key}).status_code == 404


def test_database_that_fails_lets_nobody_in_and_is_not_named(server: Running, tmp_path: Path) -> None:
    key = issue_key(tmp_path, "second")
    with server.client(key) as client:
        assert client.get("/v1/sessions/mine").status_code == 404
        database = sqlite3.connect(tmp_path / "server.db")
        with database:
            database.execute("alter table api_keys rename to gone")
        refused = client.get("/v1/sessions/mine")
        with database:
            database.execute("alter table gone rename to api_keys")
        database.close()
        assert client.get("/v1/sessions/mine").status_code == 404
    assert refused.status_code == 503
    assert str(tmp_path) not in refused.text
    assert "api_keys" not in refused.text
