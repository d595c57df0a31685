"""The bytecode of an image's preload modules in one file, from which the zygote imports them in fewer steps.

Written once when an image is made: `python3 archive.py FILE MODULE…`. An image is read-only, so what is in it stays
true. Layout: the interpreter's magic number, the length of the index (4 bytes, big-endian), the index (marshal:
module name to file, whether it is a package, offset and length), the code objects as in .pyc files.
"""

from __future__ import annotations

import importlib
import importlib.util
import marshal
import mmap
import os
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

PLACE = "/opt/kernel-sandbox/modules"
PYC_HEADER = 16
"""Bytes before the code object in a .pyc file (PEP 552)."""


def write(path: str, names: list[str]) -> None:
    """Import modules, and put all that this needed into an archive."""
    for name in names:
        importlib.import_module(name)
    index: dict[str, tuple[str, bool, int, int]] = {}
    codes = bytearray()
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if spec is None or spec.name != name or not isinstance(spec.loader, SourceFileLoader) or not spec.cached:
            continue
        if os.path.exists(spec.cached) and spec.origin:
            with open(spec.cached, "rb") as file:
                code = file.read()[PYC_HEADER:]
            index[name] = (spec.origin, spec.submodule_search_locations is not None, len(codes), len(code))
            codes += code
    listed = marshal.dumps(index)
    with open(path, "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + len(listed).to_bytes(4, "big") + listed + codes)


class ArchiveLoader(SourceFileLoader):
    """Takes a module's code from the archive; afterwards the module looks like any other."""

    def __init__(self, name: str, path: str, code: memoryview) -> None:
        super().__init__(name, path)
        self.code = code

    def get_code(self, fullname: str) -> CodeType:
        return marshal.loads(self.code)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        loader = SourceFileLoader(module.__name__, self.path)
        module.__loader__ = loader
        if module.__spec__ is not None:
            module.__spec__.loader = loader


class ArchiveFinder:
    """Finds the modules of an archive, before the path is searched."""

    def __init__(self, path: str) -> None:
        """Raises OSError or ValueError where there is no archive for this interpreter."""
        with open(path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        magic = importlib.util.MAGIC_NUMBER
        if content[: len(magic)] != magic:
            raise ValueError("an archive of another interpreter")
        start = len(magic) + 4
        self.codes_at = start + int.from_bytes(content[len(magic) : start], "big")
        self.index: dict[str, tuple[str, bool, int, int]] = marshal.loads(content[start : self.codes_at])
        self.content = content

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        found = self.index.get(name)
        if found is None:
            return None
        origin, is_package, offset, length = found
        code = self.content[self.codes_at + offset : self.codes_at + offset + length]
        spec = ModuleSpec(name, ArchiveLoader(name, origin, code), origin=origin, is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(origin)]
        return spec


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2:])
