"""One open server for the tests of a module; those that need another start their own with `running`."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from kernel_sandbox.sandbox.engines import NAMES
from tests.conftest import missing
from tests.doors.http.running import Running, running


@pytest.fixture(scope="session")
def server_engine() -> str:
    """An engine that there is: bubblewrap, whose sandboxes start faster, or Docker."""
    reasons = {name: missing(name) for name in reversed(NAMES)}
    usable = [name for name, reason in reasons.items() if not reason]
    if not usable:
        pytest.skip("; ".join(reasons.values()))
    return "bubblewrap" if "bubblewrap" in usable else usable[0]


@pytest.fixture(scope="module")
def server(server_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that takes everybody, as on loopback without keys."""
    with running(tmp_path_factory.mktemp("server"), engine=server_engine) as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client
