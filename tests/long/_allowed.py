"""Where a sandboxed kernel may differ from the stock one, by test, and why."""

from __future__ import annotations

ALLOWED: dict[str, str] = {}
"""A test, by its id or a pattern of it, to the reason."""

NO_KERNEL: dict[str, str] = {
    f"papermill/tests/test_{name}.py": "a store of a cloud's: it starts no kernel, and wants that cloud's client"
    for name in ("abs", "adl", "gcs", "hdfs", "s3", "iorw")
}
"""What is left out for every kernel."""
