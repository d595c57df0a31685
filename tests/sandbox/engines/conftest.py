"""What tests of one engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernel_sandbox.sandbox.engines.bubblewrap_shelf import SWITCH, shelf


@pytest.fixture
def from_templates(quick: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have each session of bubblewrap wait for a template, and leave none to the next test."""
    monkeypatch.setenv(SWITCH, "first")
    yield
    shelf().end_all()
