"""Files, sessions and images as the session pools' API tells them, in both generations. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kernel_sandbox.sandbox.files import FileInfo
from kernel_sandbox.service.image_facts import ImageFacts
from kernel_sandbox.service.session_values import SessionView
from kernel_sandbox.spec.values import DATA_DIRECTORY


def moment(when: datetime) -> str:
    """Write a time as RFC 3339 has it, in UTC."""
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def first_generation_file(info: FileInfo) -> dict[str, Any]:
    properties = {"filename": info.name, "size": info.size, "lastModifiedTime": moment(info.modified_at)}
    return {"properties": properties}


def first_generation_files(files: Iterable[FileInfo]) -> dict[str, Any]:
    """List files by their paths below /mnt/data; this generation knows no directories."""
    return {"$id": "1", "value": [first_generation_file(info) for info in files if info.kind == "file"]}


def second_generation_file(info: FileInfo, directory: str = "") -> dict[str, Any]:
    """Write a file; its name is its path below `directory`."""
    name = info.name.removeprefix(f"{directory}/") if directory else info.name
    parent = info.name.rpartition("/")[0]
    return {
        "name": name,
        "type": "Directory" if info.kind == "directory" else "File",
        "contentType": None if info.kind == "directory" else "application/octet-stream",
        "sizeInBytes": info.size,
        "lastModifiedAt": moment(info.modified_at),
        "directory": f"{DATA_DIRECTORY}/{parent}".rstrip("/"),
    }


def second_generation_files(files: Iterable[FileInfo], directory: str, *, recursive: bool) -> dict[str, Any]:
    """List what is in a directory, and with `recursive` the whole tree below it."""
    depth = directory.count("/") + 1 if directory else 0
    shown = [info for info in files if recursive or info.name.count("/") == depth]
    return {"value": [second_generation_file(info, directory) for info in shown], "nextLink": None}


def session(view: SessionView) -> dict[str, Any]:
    """Write a session; its end has two names, since clients read one or the other."""
    times = (moment(view.created_at), moment(view.last_used_at), moment(view.expires_at))
    return {
        "identifier": view.address.identifier,
        "createdAt": times[0],
        "lastAccessedAt": times[1],
        "expireAt": times[2],
        "expiresAt": times[2],
        "etag": hashlib.sha256("|".join(times).encode()).hexdigest()[:16],
    }


def metadata(facts: ImageFacts) -> dict[str, Any]:
    """Write what an image holds."""
    return {
        "runtimes": [{"name": "python", "version": facts.python}],
        "preInstalledPackages": [{"name": name, "version": version} for name, version in facts.packages],
        "createdAt": moment(facts.read_at),
        "lastUpdatedAt": moment(facts.read_at),
        "jupyterKernel": {
            "name": facts.kernel,
            "version": facts.kernel_version,
            "projectUrl": "https://ipython.readthedocs.io",
            "description": "IPython, in a sandbox without a network.",
        },
    }
