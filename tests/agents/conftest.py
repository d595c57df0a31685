"""No test asks a real model by accident: requests are off, but for tests that name `requests_allowed`."""

from __future__ import annotations

import pytest

from kernel_sandbox.agents import models


@pytest.fixture(autouse=True)
def no_model_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "ALLOW_MODEL_REQUESTS", False)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_TIMEOUT", "OPENAI_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def requests_allowed(no_model_requests: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests whose server is on loopback."""
    monkeypatch.setattr(models, "ALLOW_MODEL_REQUESTS", True)
