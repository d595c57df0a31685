"""Whether what a caller gave has the right form, and how to say what that is. Pure; each public door asks once."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import Any

from kernel_sandbox.errors import PolicyError

Kinds = type | tuple[type, ...]


def require(name: str, value: Any, kinds: Kinds, form: str) -> None:
    """Raise TypeError, with the right form, for an argument of another type."""
    if not _is(value, kinds):
        raise TypeError(f"{name}={value!r:.100}: give {form}.")


def require_policy(name: str, value: Any, kinds: Kinds, form: str) -> None:
    """Raise PolicyError, with the right form, for a policy's value of another type."""
    if not _is(value, kinds):
        raise PolicyError(f"{name}={value!r:.100}: give {form}.")


def require_items(name: str, values: Any, kinds: Kinds, form: str) -> None:
    """Raise PolicyError unless `values` are a sequence (and no text) of which each is of these types."""
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise PolicyError(f"{name}={values!r:.100}: give {form}.")
    for value in values:
        require_policy(f"a member of {name}", value, kinds, form)


def require_seconds(name: str, value: Any) -> None:
    """Raise TypeError or ValueError unless `value` is a number of seconds above 0; infinity is None's to say."""
    require(name, value, numbers.Real, "seconds as a number, or None")
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r}: give seconds above 0, or None.")


def _is(value: Any, kinds: Kinds) -> bool:
    return isinstance(value, kinds) and not (isinstance(value, bool) and kinds is not bool)
