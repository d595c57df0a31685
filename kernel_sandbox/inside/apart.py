"""Imports that read nothing of a cell's: for what the zygote imports once a cell may have run.

What a library reads when it is imported (matplotlib its rc file and its list of fonts) is in every later kernel, where
no restart would shake it off. So the home is the image's own skeleton then, which nobody can write, variables that
lead to where cells write are not there, and neither is a place for temporary files. What a library has noted of the
skeleton becomes the kernel's home in each kernel.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any

HOME, DATA = "/home/sandbox", "/mnt/data"
WRITABLE = (HOME, DATA, "/tmp", "/dev/shm")
SKELETON = "/opt/kernel-sandbox/home"
"""What an image has prepared for the home directory."""
NOWHERE = "/opt/kernel-sandbox/tmp"
"""Instead of /tmp: not there, and in a root that is read-only."""
LARGEST = 1000
"""Entries of a list or dictionary in which a library may have noted a path."""

_noted: list[tuple[Any, Any]] = []
"""Containers, and the keys in them, under which libraries keep a path of these."""


@contextlib.contextmanager
def from_cells() -> Iterator[None]:
    """Hide from the block all that a cell can write."""
    import tempfile

    before, kept, access = set(sys.modules), dict(os.environ), os.access

    def accessible(path: Any, mode: int, **given: Any) -> bool:
        # Libraries give a home up that they cannot write: matplotlib takes a new directory in /tmp.
        own = isinstance(path, str) and path.startswith(SKELETON)
        return access(path, mode & ~os.W_OK if own else mode, **given)

    _set_environment({name: value for name, value in kept.items() if not any(place in value for place in WRITABLE)})
    os.environ["HOME"] = SKELETON
    os.access, tempfile.tempdir = accessible, NOWHERE
    try:
        yield
    finally:
        os.access, tempfile.tempdir = access, None
        _set_environment(kept)
        for name in set(sys.modules) - before:
            if isinstance(module := sys.modules[name], ModuleType):
                _noted.extend(_find(vars(module)))


def _set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _is_noted(value: Any) -> bool:
    return isinstance(value, (str, PurePath)) and str(value).startswith((SKELETON, NOWHERE))


def _find(names: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield where a module keeps such paths: its names, its lists and dictionaries, and what its functions remember."""
    for name, value in list(names.items()):
        if _is_noted(value):
            yield names, name
        elif type(value) in (list, dict) and len(value) <= LARGEST:
            entries = enumerate(value) if isinstance(value, list) else list(value.items())
            yield from ((value, key) for key, entry in entries if _is_noted(entry))
        elif isinstance(value, FunctionType):
            for cell in value.__closure__ or ():
                with contextlib.suppress(ValueError):  # it is empty
                    if _is_noted(cell.cell_contents):
                        yield cell, None


def become_the_kernels() -> None:
    """Make what was noted the home of this process, which is a kernel now. Libraries go on as if imported here."""
    home, temporary = os.environ.get("HOME", HOME), os.environ.get("TMPDIR", "/tmp")
    for container, key in _noted:
        value = container.cell_contents if key is None else container[key]
        text = str(value).replace(SKELETON, home).replace(NOWHERE, temporary)
        if key is None:
            container.cell_contents = type(value)(text)
        else:
            container[key] = type(value)(text)


def restore_path() -> None:
    """Look for modules in the places of PYTHONPATH that PID 1 does without, see boot.py."""
    for entry in reversed(os.environ.get("PYTHONPATH", "").split(":")):
        if entry.startswith(WRITABLE) and entry not in sys.path:
            sys.path_importer_cache.pop(entry, None)  # PID 1 has found nothing there
            sys.path.insert(0, entry)
