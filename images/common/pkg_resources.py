"""Which packages there are, by the names of setuptools' pkg_resources, for code that still asks it.

A small part of it, on importlib.metadata. An image has it where setuptools is absent.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from packaging.requirements import Requirement
from packaging.version import Version

parse_version = Version


class ResolutionError(Exception):
    """A requirement is not met."""


class DistributionNotFound(ResolutionError):
    """No package of this name is installed."""


class VersionConflict(ResolutionError):
    """It is installed in another version."""


def safe_name(name: str) -> str:
    """Return a name in which all but letters, digits and dots is dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)


class Distribution:
    """One installed package."""

    def __init__(self, found: importlib.metadata.Distribution) -> None:
        self.project_name = found.metadata["Name"]
        self.key = safe_name(self.project_name).lower()
        self.version = found.version
        self.location = str(found.locate_file(""))
        self._found = found

    @property
    def parsed_version(self) -> Version:
        return Version(self.version)

    def requires(self, extras: Iterable[str] = ()) -> list[Requirement]:
        """Return what it needs here, and what its extras need."""
        wanted = [Requirement(text) for text in self._found.requires or ()]
        scopes = [{"extra": extra} for extra in ("", *extras)]
        return [one for one in wanted if one.marker is None or any(map(one.marker.evaluate, scopes))]

    def __str__(self) -> str:
        return f"{self.project_name} {self.version}"


class WorkingSet:
    """All packages on the path, as they are when it is asked."""

    @property
    def by_key(self) -> dict[str, Distribution]:
        found: dict[str, Distribution] = {}
        for one in importlib.metadata.distributions():
            if one.metadata["Name"]:  # a directory that is half removed has none
                distribution = Distribution(one)
                found.setdefault(distribution.key, distribution)
        return found

    @property
    def entries(self) -> list[str]:
        return list(sys.path)

    def __iter__(self) -> Iterator[Distribution]:
        return iter(self.by_key.values())

    def __contains__(self, distribution: Distribution) -> bool:
        return distribution.key in self.by_key

    def find(self, requirement: Requirement) -> Distribution | None:
        """Return the package that a requirement names, or None. Raises VersionConflict."""
        found = self.by_key.get(safe_name(requirement.name).lower())
        if found is not None and not requirement.specifier.contains(found.version, prereleases=True):
            raise VersionConflict(found, requirement)
        return found

    def require(self, *requirements: str) -> list[Distribution]:
        """Return the packages that are named. Raises DistributionNotFound or VersionConflict."""
        return [get_distribution(requirement) for requirement in requirements]

    def iter_entry_points(self, group: str, name: str | None = None) -> Iterator[importlib.metadata.EntryPoint]:
        """Return the entry points of a group."""
        found = importlib.metadata.entry_points(group=group)
        return iter(found if name is None else found.select(name=name))


working_set = WorkingSet()
require = working_set.require
iter_entry_points = working_set.iter_entry_points


def get_distribution(requirement: str) -> Distribution:
    """Return an installed package. Raises DistributionNotFound or VersionConflict."""
    found = working_set.find(Requirement(requirement))
    if found is None:
        raise DistributionNotFound(requirement)
    return found


def declare_namespace(name: str) -> None:
    """Join the directories of a namespace package."""
    package = sys.modules[name]
    package.__path__ = pkgutil.extend_path(list(package.__path__), name)


def resource_filename(module: str, name: str) -> str:
    """Return the path of a file that lies beside a module."""
    return str(Path(str(importlib.import_module(module).__file__)).parent / name)


def resource_string(module: str, name: str) -> bytes:
    """Return what such a file holds."""
    return Path(resource_filename(module, name)).read_bytes()


def resource_stream(module: str, name: str) -> BinaryIO:
    """Open such a file."""
    return open(resource_filename(module, name), "rb")


def resource_exists(module: str, name: str) -> bool:
    """Return whether there is such a file or directory."""
    return Path(resource_filename(module, name)).exists()
