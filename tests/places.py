"""Where a name of the package stands, in words: module:name, or module:Class.name."""

from __future__ import annotations

import pkgutil
from typing import Any


def owner_of(place: str) -> tuple[Any, str]:
    """Return the module or class that has the name, and the name. Raises ImportError or AttributeError for none."""
    module, _, path = place.partition(":")
    classes, _, name = path.rpartition(".")
    return pkgutil.resolve_name(f"{module}:{classes}"), name
