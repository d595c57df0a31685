"""What draws random numbers in a process that was forked: seeded anew, so that no two copies draw the same.

Python's `random` and OpenSSL see to themselves where the process id tells them; here nothing rests on that.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def renew() -> None:
    """Seed whatever of them has been imported."""
    found: dict[str, Any] = {name: sys.modules.get(name) for name in ("random", "ssl", "tempfile", "uuid")}
    if found["random"] is not None:
        found["random"].seed()
    if found["ssl"] is not None:
        found["ssl"].RAND_add(os.urandom(32), 32.0)
    if found["tempfile"] is not None:
        found["tempfile"]._name_sequence = None
    if found["uuid"] is not None:
        found["uuid"]._last_timestamp = None
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
