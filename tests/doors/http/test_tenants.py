"""Two tenants cannot see each other, on any route that there is: for one of them, the other's session is missing.

The routes are read off the application, so that a new one cannot be forgotten: it fails here until it has been thought
about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from kernel_sandbox.pool import PoolSettings
from tests.doors.http.routes import MISSING_TRANSCRIPT, OPERATIONS, REQUESTS, Names, call, comparable
from tests.doors.http.running import GEN1, GEN2, Running, issue_key, running

SHARED, MISSING = "the-shared-name", "a-missing-name"
SECRET = "what only alice knows"


@dataclass(frozen=True)
class Tenants:
    server: Running
    alice: str
    bob: str
    admin: str
    narrow: str
    """Another key of alice's, and one of the admin's: with prefixes that alice's session does not have."""
    narrow_admin: str
    execution: str
    transcript: str


@pytest.fixture(scope="module")
def tenants(server_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    directory = tmp_path_factory.mktemp("tenants")
    alice, bob = issue_key(directory, "alice"), issue_key(directory, "bob")
    admin = issue_key(directory, "root", roles=("admin",))
    narrow = issue_key(directory, "alice", prefixes=("team-",))
    narrow_admin = issue_key(directory, "root", roles=("admin",), prefixes=("team-",))
    with running(directory, engine=server_engine, keys="on", pool=PoolSettings(ready=2, sessions=8)) as server:
        with server.client(alice) as client:
            client.post("/v1/sessions", json={"identifier": SHARED}).raise_for_status()
            cell = {"source": f"secret = {SECRET!r}; print(secret)"}
            client.post(f"/v1/sessions/{SHARED}/execute", json=cell).raise_for_status()
            client.put(f"/v1/sessions/{SHARED}/files/secret.txt", content=SECRET.encode()).raise_for_status()
            query = {"identifier": SHARED, "api-version": GEN2}
            execution = client.post("/executions", params=query, json={"code": "secret"}).json()["id"]
            transcript = client.get("/v1/transcripts").json()["transcripts"][0]["id"]
        yield Tenants(server, alice, bob, admin, narrow, narrow_admin, execution, transcript)


def ask(tenants: Tenants, key: str | None, method: str, path: str, identifier: str) -> httpx.Response:
    """Call a route about a session, with all names that are alice's."""
    transcript = tenants.transcript if identifier == SHARED else MISSING_TRANSCRIPT
    names = Names(identifier, tenants.execution, transcript, owner="key:alice", file="secret.txt")
    with tenants.server.client(key) as client:
        answer = call(client, method, path, names)
        # What the caller itself has made by this must not be what the next call finds.
        if key == tenants.bob:
            client.delete("/session", params={"identifier": identifier, "api-version": GEN2})
    return answer


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_session_of_another_answers_as_a_missing_one(tenants: Tenants, method: str, path: str) -> None:
    for_shared = ask(tenants, tenants.bob, method, path, SHARED)
    for_missing = ask(tenants, tenants.bob, method, path, MISSING)
    assert SECRET not in for_shared.text
    assert "alice" not in for_shared.text
    assert comparable(for_shared, SHARED) == comparable(for_missing, MISSING)
    assert for_shared.status_code < 500


@pytest.mark.parametrize("key", ["narrow", "narrow_admin"])
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_key_with_a_prefix_learns_nothing_beyond_it(tenants: Tenants, method: str, path: str, key: str) -> None:
    answer = ask(tenants, getattr(tenants, key), method, path, SHARED)
    for told in (SECRET, tenants.transcript, *([] if "{identifier}" in path else [SHARED])):
        assert told not in answer.text
    assert answer.status_code in (200, 201, 403, 404, 405, 406)
    lists = path.endswith(("essions", "transcripts", "kept", "metrics", "metadata", "mcp"))
    assert answer.status_code >= 400 or lists


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_route_asks_who_it_is(tenants: Tenants, method: str, path: str) -> None:
    for wrong in (None, "ks_not-a-key", tenants.alice[:-1] + ("a" if tenants.alice[-1] != "a" else "b")):
        answer = ask(tenants, wrong, method, path, SHARED)
        assert answer.status_code == 401, path
        assert answer.json()["error"]["code"] == "Unauthorized"
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), [each for each in OPERATIONS if "/admin/" in each[1]])
def test_route_for_admins_is_for_admins(tenants: Tenants, method: str, path: str) -> None:
    assert ask(tenants, tenants.alice, method, path, SHARED).status_code == 403


@pytest.mark.parametrize("path", [path for method, path in OPERATIONS if method == "WEBSOCKET"])
def test_live_connection_asks_who_it_is(tenants: Tenants, path: str) -> None:
    address = tenants.server.address.replace("http", "ws")
    for key, identifier, status in ((tenants.bob, SHARED, 404), (tenants.bob, MISSING, 404), ("wrong", SHARED, 401)):
        url = address + path.replace("{identifier}", identifier)
        with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers={"x-api-key": key}):
            pass
        assert refused.value.response.status_code == status


def test_admin_sees_and_ends_what_is_anybodys_and_runs_nothing(tenants: Tenants) -> None:
    about = {"owner": "key:alice", "identifier": SHARED}
    with tenants.server.client(tenants.admin) as client:
        listed = client.get("/v1/admin/sessions").json()["sessions"]
        assert (SHARED, "key:alice") in [(each["identifier"], each["owner"]) for each in listed]
        assert client.get("/v1/admin/session", params=about).json()["cells"] >= 2
        assert SECRET in client.get("/v1/admin/session/transcript", params=about).text
        assert client.post("/v1/sessions", json={"identifier": SHARED}).status_code == 403
        assert client.get(f"/v1/sessions/{SHARED}").status_code == 403
        assert client.get("/v1/admin/session", params=about | {"owner": "key:bob"}).status_code == 404


def test_session_is_as_its_owner_left_it(tenants: Tenants) -> None:
    with tenants.server.client(tenants.alice) as client:
        told = client.post(f"/v1/sessions/{SHARED}/execute", json={"source": "print(secret)"}).json()
        assert told["outputs"][0]["text"] == f"{SECRET}\n"
        files = client.get(f"/v1/sessions/{SHARED}/files").json()["files"]
        assert [each["name"] for each in files] == ["secret.txt"]
        assert client.get(f"/v1/sessions/{SHARED}/files/secret.txt").text == SECRET
        assert [each["identifier"] for each in client.get("/v1/transcripts").json()["transcripts"]] == [SHARED]


def test_key_with_a_prefix_is_held_to_it(server_engine: str, tmp_path: Path) -> None:
    scoped = issue_key(tmp_path, "scoped", prefixes=("team-",))
    with running(tmp_path, engine=server_engine, keys="on") as server, server.client(scoped) as client:
        for path in ("/v1/sessions/other", "/v1/sessions/tea"):
            assert client.get(path).status_code == 403
        assert client.get("/v1/sessions/team-1").status_code == 404
        query = {"identifier": "other", "api-version": GEN1}
        assert client.post("/code/execute", params=query, json={"properties": {"code": "1"}}).status_code == 403
        query["identifier"] = "team-1"
        assert client.post("/code/execute", params=query, json={"properties": {"code": "1"}}).status_code == 200


def test_key_with_a_prefix_lists_what_it_may_use(server_engine: str, tmp_path: Path) -> None:
    whole, narrow = issue_key(tmp_path, "team"), issue_key(tmp_path, "team", prefixes=("team-",))
    admin = issue_key(tmp_path, "root", roles=("admin",), prefixes=("team-",))
    with running(tmp_path, engine=server_engine, keys="on") as server:
        with server.client(whole) as client:
            for name in ("team-1", "TEAM-2", "private"):
                client.post("/v1/sessions", json={"identifier": name}).raise_for_status()
                client.post(f"/v1/sessions/{name}/execute", json={"source": "1"}).raise_for_status()
            kept = {each["identifier"]: each["id"] for each in client.get("/v1/transcripts").json()["transcripts"]}
            assert kept.keys() == {"team-1", "TEAM-2", "private"}
            client.delete("/v1/sessions/private").raise_for_status()
        for key, own in ((narrow, "/v1"), (admin, "/v1/admin")):
            with server.client(key) as client:
                assert [each["identifier"] for each in client.get(f"{own}/sessions").json()["sessions"]] == ["team-1"]
                told = client.get(f"{own}/transcripts").json()["transcripts"]
                assert [each["identifier"] for each in told] == ["team-1"]
                status = [client.get(f"{own}/transcripts/{kept[name]}").status_code for name in sorted(kept)]
                assert status == [404, 404, 200]
