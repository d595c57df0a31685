"""One notebook's kernel per module, with the extension loaded and sandboxes of the bubblewrap engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.doors.magic.host import SETUP, Host, host_kernel


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    with host_kernel() as started:
        assert started.run(SETUP).status == "ok"
        yield started


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots are kept."""
    directory = Path(os.environ.get("KERNEL_SANDBOX_SCREENSHOTS") or tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    print("screenshots:", directory)
    return directory
