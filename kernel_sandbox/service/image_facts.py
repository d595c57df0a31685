"""What an image holds, as a session of it tells: for `GET /metadata`.

Asked of the image itself, not of a lock, so that it is true of any image. The answer is untrusted, and bounded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kernel_sandbox.errors import KernelNotReady
from kernel_sandbox.pool import PooledSession
from kernel_sandbox.session.outputs import StreamOutput

PROBE = Path(__file__).parents[1] / "inside" / "packages.py"
PATIENCE = 30.0
MOST_PACKAGES, LONGEST_WORD = 10_000, 200


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image holds."""

    python: str
    """The version of its Python."""
    packages: tuple[tuple[str, str], ...]
    """Names and versions, by name."""
    kernel: str
    """The name of its kernel's implementation."""
    kernel_version: str
    read_at: datetime


async def read_image_facts(pooled: PooledSession) -> ImageFacts:
    """Ask a fresh session. Raises KernelNotReady where it does not answer as it should."""
    execution = await pooled.execute(PROBE.read_text(encoding="utf-8"), timeout=PATIENCE)
    said = "".join(output.text for output in execution.outputs if isinstance(output, StreamOutput))
    try:
        told = json.loads(said)
        packages = [(_word(name), _word(version)) for name, version in told["packages"][:MOST_PACKAGES]]
        python = _word(told["python"])
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise KernelNotReady("The image did not say what it holds.") from exc
    info = pooled.session.kernel_info
    kernel, version = _word(info.get("implementation")), _word(info.get("implementation_version"))
    return ImageFacts(python, tuple(packages), kernel, version, datetime.now(UTC))


def _word(value: object) -> str:
    return value[:LONGEST_WORD] if isinstance(value, str) else ""
