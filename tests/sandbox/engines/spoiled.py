"""An image in which a package is not what it should be: a copy of one, made of links, with files of an attacker's."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kernel_sandbox.sandbox.engines import environments


@contextmanager
def spoiled(name: str, files: Mapping[str, str], below: Path | None = None) -> Iterator[None]:
    """Have the image of this name with these files among its packages, by their paths there; `below` is where."""
    there = environments.find(name)
    with tempfile.TemporaryDirectory(dir=below or environments.prefix(), prefix="spoiled-") as prefix:
        os.chmod(prefix, 0o755)
        place = Path(prefix, "environments", there.directory.name)
        shutil.copytree(there.directory, place, symlinks=True, copy_function=_link)
        packages = next(place.glob("root/opt/venv/lib/python3*/site-packages"))
        for path, text in files.items():
            (packages / path).parent.mkdir(exist_ok=True)
            (packages / path).unlink(missing_ok=True)  # the link, or the image's own would be written
            (packages / path).write_text(text)
        before = os.environ.get(environments.PREFIX_VARIABLE)
        os.environ[environments.PREFIX_VARIABLE] = prefix
        try:
            yield
        finally:
            os.environ.pop(environments.PREFIX_VARIABLE)
            if before is not None:
                os.environ[environments.PREFIX_VARIABLE] = before


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)
