"""Where the session pools' API begins in a path."""

from __future__ import annotations

import pytest

from kernel_sandbox.doors.http.prefixes import decoded, split_prefix

RESOURCE = "/subscriptions/s/resourceGroups/g/sessionPools"


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        ("/code/execute", "", "/code/execute"),
        ("/pool/code/execute", "/pool", "/code/execute"),
        ("/a/b/c/executions/id-1", "/a/b/c", "/executions/id-1"),
        (f"{RESOURCE}/p/files/upload", f"{RESOURCE}/p", "/files/upload"),
        (f"{RESOURCE}/files/files", f"{RESOURCE}/files", "/files"),
        (f"{RESOURCE}/session/files/a/content", f"{RESOURCE}/session", "/files/a/content"),
        ("/pool/files/content/d/a%20b%23.txt", "/pool", "/files/content/d/a%20b%23.txt"),
        ("/pool/files/session", "/pool", "/files/session"),
        ("/pool/.management/stopSession", "/pool", "/.management/stopSession"),
        ("//code/execute", "", "/code/execute"),
        ("/po%2Fol/session", "/po%2Fol", "/session"),
        ("/v1/sessions/x/files/session", "", "/v1/sessions/x/files/session"),
        ("/pool/nothing/here", "", "/pool/nothing/here"),
        ("/", "", "/"),
    ],
)
def test_prefix_ends_where_the_api_begins(path: str, prefix: str, rest: str) -> None:
    assert split_prefix(path) == (prefix, rest)


def test_identifier_stays_in_one_piece() -> None:
    assert decoded("/v1/sessions/a%2Fb/files/d%2Fe") == "/v1/sessions/a%2Fb/files/d/e"
    assert decoded("/files/d%2Fe") == "/files/d/e"
