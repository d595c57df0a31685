"""One notebook's kernel per module, with the extension loaded and sandboxes of the bubblewrap engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..conftest import missing
from .host import SETUP, Host, host_kernel


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    with host_kernel() as started:
        assert started.run(SETUP).status == "ok"
        yield started
