"""What a container is shown of the host: the spec's mounts, the directory for sockets, names.

As mounts and not as binds: for a source that is missing, a bind would make a directory on the host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kernel_sandbox.inside.accounts import account_files
from kernel_sandbox.sandbox.engines.base import SOCKETS_INSIDE
from kernel_sandbox.spec.values import Mount


def input_mounts(mounts: tuple[Mount, ...], *, local: bool) -> list[dict[str, Any]]:
    """Show mounts read-only, with the file systems in them where the engine is on this machine.

    Each file system is a mount of its own: "read-only" holds for the topmost of a bind alone (mount(8), before Docker
    25), and a cell could write to those below.
    """
    shown = []
    for mount in mounts:
        source = Path(mount.source)
        below = _file_systems_in(source.resolve()) if local else []
        places = [(source, mount.target), *((path, f"{mount.target}/{rest}") for path, rest in below)]
        for path, target in places:
            bind = {"Type": "bind", "Source": str(path), "Target": target, "ReadOnly": True}
            shown.append(bind | {"BindOptions": {"NonRecursive": True}})
    return shown


def _file_systems_in(directory: Path) -> list[tuple[Path, Path]]:
    """Return the places below a directory at which something is mounted, and what they are called from there."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []  # not Linux
    places = {
        Path(line.split()[4].decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape"))
        for line in lines
    }
    below = sorted(place for place in places if directory in place.parents)
    return [(place, place.relative_to(directory)) for place in below]


def shared_mounts(shared: Path, user: int) -> list[dict[str, Any]]:
    """Show the directory for sockets, and names for the sandbox's user and host, which it cannot change."""
    mounts: list[dict[str, Any]] = [{"Type": "bind", "Source": str(shared), "Target": SOCKETS_INSIDE}]
    names = shared.with_name("etc")
    names.mkdir(exist_ok=True)
    names.chmod(0o755)
    for name, text in account_files(user).items():
        file = names / name
        file.write_text(text)
        file.chmod(0o644)
        mounts.append({"Type": "bind", "Source": str(file), "Target": f"/etc/{name}", "ReadOnly": True})
    return mounts
