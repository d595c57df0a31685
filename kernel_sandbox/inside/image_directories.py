"""The image's directories on a kernel's path, in which the archive's modules are found without a look at the disk.

A kernel has no finder of its own before the path: what a user has put on it comes first, as anywhere. Where the search
comes to a directory of the image, whose content never changes, what is in the archive is taken from there.
"""

from __future__ import annotations

import os
import sys
from importlib import machinery
from importlib.machinery import FileFinder, ModuleSpec
from types import ModuleType

from kernel_sandbox.inside.archive import ArchiveFinder


class ImageDirectory(FileFinder):
    """Finds what is in one directory of the image."""

    def __init__(self, path: str, archived: ArchiveFinder) -> None:
        super().__init__(
            path,
            (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
            (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES),
            (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
        )
        self.archived = archived

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        origin, is_package, *_ = self.archived.index.get(fullname, ("", False))
        place = os.path.dirname(origin)
        if (os.path.dirname(place) if is_package else place) != self.path:
            return super().find_spec(fullname, target)
        if is_package:
            sys.path_importer_cache.setdefault(place, ImageDirectory(place, self.archived))
        return self.archived.find_spec(fullname)


def find_along_the_path(archived: ArchiveFinder, writable: tuple[str, ...]) -> None:
    """Have the image's directories on this process's path find the archive's modules in them."""
    for entry in sys.path:
        if type(sys.path_importer_cache.get(entry)) is FileFinder and not entry.startswith(writable):
            sys.path_importer_cache[entry] = ImageDirectory(entry, archived)
