"""Unpacks packages of Debian into a directory, as dpkg does, without running anything that is in them.

`python3 debian_unpacker.py PACKAGES ROOT`, in the sandbox in which an environment is made: PACKAGES is a directory of
.deb files (deb(5)). What nobody reads in a sandbox stays away: manuals, translations, documents but licences.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Iterator

MAGIC = b"!<arch>\n"
HEADER = 60
"""Bytes before each member of an ar archive (ar(5))."""
MERGED = ("bin", "sbin")
"""Directories of the root that are links to those of /usr, by now everywhere."""
_LEFT_OUT = """usr/share/man/ usr/share/info/ usr/share/locale/ usr/share/lintian/ usr/share/bug/ usr/games/ var/
usr/share/bash-completion/ usr/share/icons/ usr/share/applications/"""
LEFT_OUT = tuple(_LEFT_OUT.split())


def main(packages: str, root: str) -> None:
    """Unpack all of them, in the order of their names. Raises ValueError for what is no package."""
    for name in sorted(os.listdir(packages)):
        if not name.endswith(".deb"):
            continue
        with open(os.path.join(packages, name), "rb") as file:
            files = io.BytesIO(contents(file.read(), name))
        with tarfile.open(fileobj=files) as archive:
            for member in archive:
                unpack(archive, member, root)


def contents(package: bytes, name: str) -> bytes:
    """Return the archive of a package's files."""
    if not package.startswith(MAGIC):
        raise ValueError(f"{name} is no package of Debian's")
    for member, data in members(package):
        if member.startswith("data.tar"):
            return data
    raise ValueError(f"{name} holds no files")


def members(package: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of an ar archive."""
    at = len(MAGIC)
    while at + HEADER <= len(package):
        header = package[at : at + HEADER]
        size = int(header[48:58])
        yield header[:16].decode("ascii", "replace").rstrip(" /"), package[at + HEADER : at + HEADER + size]
        at += HEADER + size + size % 2


def unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, root: str) -> None:
    """Write one file, directory or link; it takes the place of what is there."""
    inside = place(member.name)
    if inside is None or (inside + "/").startswith(LEFT_OUT) or is_document(inside):
        return
    target = os.path.join(root, inside)
    if member.isdir():
        if not os.path.isdir(target):
            remove(target)
            os.makedirs(target)
        return
    if os.path.isdir(target) and not os.path.islink(target):
        return  # the link to a directory that is one here
    os.makedirs(os.path.dirname(target), exist_ok=True)
    remove(target)
    if member.issym():
        os.symlink(member.linkname, target)
    elif member.islnk():
        first = place(member.linkname)
        if first is not None:
            os.link(os.path.join(root, first), target)
    elif member.isfile():
        source = archive.extractfile(member)
        if source is not None:
            with open(target, "wb") as file:
                file.write(source.read())
            os.chmod(target, member.mode & 0o755)


def place(name: str) -> str | None:
    """Return where a file goes, below the root; None for one that would leave it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    return "/".join(["usr", *parts] if parts[0] in MERGED else parts)


def is_document(inside: str) -> bool:
    """Whether a file is a package's documentation and not its licence."""
    return inside.startswith("usr/share/doc/") and not inside.endswith("/copyright")


def remove(target: str) -> None:
    """Make way for a file."""
    try:
        os.unlink(target)
    except FileNotFoundError:
        pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
