"""What a pool did: counters, and histograms of fixed size. Plain numbers; whoever exports them reads `as_dict`."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: the upper ends of a histogram's buckets; one more takes the rest."""


class Histogram:
    """How often something took how long: one count for each bucket, whatever comes."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def as_dict(self) -> dict[str, Any]:
        """Give the count and sum of seconds, and below each bound ("+Inf" last) how many were at most that."""
        total, buckets = 0, {}
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self.counts, strict=True):
            total += count
            buckets[bound] = total
        return {"count": total, "sum": self.sum, "buckets": buckets}


@dataclass
class PoolMetrics:
    """Counted since the pool was opened. Every count only grows; `sessions` is how it stands now."""

    states: Callable[[], Mapping[str, int]]
    """How many sessions are in each state: those handed out by their own, "ready" and "filling" for the rest."""
    acquire_seconds: Histogram = field(default_factory=Histogram)
    """From the call of `acquire` to a session, of acquires that needed a new one."""
    warm_seconds: Histogram = field(default_factory=Histogram)
    """The same, of those that found one ready."""
    refill_seconds: Histogram = field(default_factory=Histogram)
    """From the start of a session to its being ready."""
    warm_hits: int = 0
    """Sessions that were ready when they were wanted."""
    cold_starts: int = 0
    """Sessions that were waited for."""
    start_failures: int = 0
    """Sessions that did not start."""
    deaths: int = 0
    """Kernels and sandboxes that ended by themselves, ready ones too."""
    restarts: int = 0
    """Dead sessions that were started again when they were next wanted."""
    expired: int = 0
    """Sessions ended for being idle or old."""
    shut_down: int = 0
    """Sessions ended by `shutdown`."""
    refused: int = 0
    """Acquires that got PoolFull."""

    def note_acquired(self, seconds: float, *, warm: bool) -> None:
        """Count an acquire that got a session which nobody had before."""
        self.acquire_seconds.observe(seconds)
        if warm:
            self.warm_hits += 1
            self.warm_seconds.observe(seconds)
        else:
            self.cold_starts += 1

    @property
    def sessions(self) -> Mapping[str, int]:
        return self.states()

    def as_dict(self) -> dict[str, Any]:
        """Give all of it as plain values, by the names above."""
        found: dict[str, Any] = {"sessions": dict(self.sessions)}
        for name, value in vars(self).items():
            if name != "states":
                found[name] = value.as_dict() if isinstance(value, Histogram) else value
        return found
