"""Given to the sandbox's python as `-c`: reads the guest's sources from standard input and runs them.

The input starts with a length (4 bytes, big-endian) and a JSON object: `sources` maps module names to their
text; `entry`, where it is there, names the module whose `run` is called instead of PID 1's, with `config`. What follows
on the same stream is the guest protocol, so nothing is read past it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

WRITABLE = ("/home/sandbox", "/mnt/data", "/tmp", "/dev/shm")
"""As in apart.py, which is not there yet."""


def read(count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = os.read(0, count - len(data))
        if not chunk:
            os._exit(0)  # the host went away before it had sent everything
        data += chunk
    return data


class SourceFinder:
    """Imports modules from a dictionary of texts."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources = sources

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.sources:
            return None
        package = name in ("kernel_sandbox", "kernel_sandbox.inside")
        return ModuleSpec(name, self, origin=name, is_package=package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        exec(compile(self.sources[name], f"<{name}>", "exec"), module.__dict__)


if __name__ == "__main__":
    # Where a cell could later leave a module for PID 1 to import: `-c` puts the working directory on the path, and
    # PYTHONPATH of an image may name a place like /mnt/data, which kernels then get back.
    sys.path[:] = [entry for entry in sys.path if entry and not entry.startswith(WRITABLE)]
    boot = json.loads(read(int.from_bytes(read(4), "big")))
    sys.meta_path.insert(0, SourceFinder(boot["sources"]))
    if "entry" in boot:
        importlib.import_module(boot["entry"]).run(boot["config"])
    else:
        from kernel_sandbox.inside import main

        main.run()
