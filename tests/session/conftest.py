"""Which tests of sessions need an image that `tests/run` does not build."""

from __future__ import annotations

from tests.languages import TESTED

collect_ignore = [] if "r" in TESTED else ["test_r_tables.py"]
