"""Holds a sandbox to its promises: looks from inside before the first cell, and at the limits as long as it lives."""

from __future__ import annotations

import asyncio
import logging

from kernel_sandbox.errors import EngineError
from kernel_sandbox.sandbox.engines.base import Sandbox
from kernel_sandbox.sandbox.engines.masked_paths import CONTAINER_MASKED
from kernel_sandbox.sandbox.link import GuestLink
from kernel_sandbox.sandbox.promises import Promise, judge
from kernel_sandbox.spec.values import SandboxSpec

LIMITS_READ_EVERY = 10.0
"""Seconds; it takes some 50 µs."""

logger = logging.getLogger(__name__)


async def check(sandbox: Sandbox, link: GuestLink, spec: SandboxSpec, engine: str) -> list[Promise]:
    """Look from inside, before any cell, and note in `sandbox` what is weakened; return what was found.

    Raises EngineError where the sandbox may not be used.
    """
    promises = judge(await link.inspect(list(spec.limits.tmpfs_sizes), CONTAINER_MASKED), spec)
    broken = [promise for promise in promises if not promise.kept]
    refused = [p for p in broken if spec.strict or (spec.strict is None and p.wall)]
    _, lost = await sandbox.renew_limits()
    weakened = list(dict.fromkeys([*sandbox.weakened, *(promise.detail for promise in broken), *lost]))
    if refused or (spec.strict and weakened):
        found = "; ".join(promise.detail for promise in refused) or "; ".join(weakened)
        raise EngineError(
            f"The engine {engine} does not keep what a sandbox promises here: {found}. What mends it: "
            "kernel-sandbox doctor. (strict=False runs all the same, and lists it as weakened.)"
        )
    sandbox.weakened = tuple(weakened)
    return promises


async def keep_limits(sandbox: Sandbox, session_id: str) -> None:
    """Read the limits again until cancelled; one that has gone is put back, and said in the log."""
    while True:
        await asyncio.sleep(LIMITS_READ_EVERY)
        mended, lost = await sandbox.renew_limits()
        for limit in mended:
            logger.warning("Session %s: its %s was gone, and was set again.", session_id, limit)
        for weakness in set(lost) - set(sandbox.weakened):
            sandbox.weakened += (weakness,)
            logger.warning("Session %s is weakened from now on: %s any more.", session_id, weakness)
