"""What is said where packages cannot be had: one message for each thing that goes wrong, with what to do. Pure.

The fetcher tells what pip found (`inside/package_fetcher.py`); names and versions in it are whatever an index has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kernel_sandbox.sandbox.known_packages import near_package
from kernel_sandbox.text.characters import visible

LONGEST = 200
MOST = 6


def explain(told: Mapping[str, Any], base: str, said: Sequence[str]) -> str:
    """Write why packages could not be had. `said` is the last that pip wrote."""
    kind = told.get("kind")
    if kind == "address":
        return (
            f"{_word(told, 'by')} wants {_word(told, 'name')} from an address of its own. Packages come from your "
            "index only: get that one yourself, and give its wheel with --with ./FILE.whl."
        )
    causes = [cause for cause in _list(told, "causes") if isinstance(cause, Mapping)]
    if kind == "conflict" and causes:
        return _cause(causes, base, _no_index(told))
    last = "\n".join(visible(line)[:LONGEST] for line in said)
    return f"pip could not get the packages:\n{last}\nIts settings: pip config list"


def _no_index(told: Mapping[str, Any]) -> str:
    """Write which indexes did not give their pages; nothing where all did."""
    closed, unreachable = (
        ", ".join(visible(str(place))[:LONGEST] for place in _list(told, name)) for name in ("closed", "unreachable")
    )
    if closed:
        return (
            f"The package index wants a login ({closed}), or another than the one that it was given. Name and password "
            "come from pip's settings, in the index's address: pip config list."
        )
    if unreachable:
        return (
            f"No package index answers ({unreachable}). Where the index is comes from pip's settings: pip config list."
        )
    return ""


def _cause(causes: list[Mapping[str, Any]], base: str, no_index: str) -> str:
    first = causes[0]
    name, wants, by = (_word(first, key) for key in ("name", "wants", "by"))
    versions = [visible(str(each))[:LONGEST] for each in _list(first, "versions")]
    wanted = f", which {by} needs" if by else ""
    if first.get("kind") == "python":
        return f"{by or name} is not for the Python of {base} ({wants}). Ask for an older version of it."
    if not versions and no_index:
        return no_index
    if not versions:
        near = near_package(name)
        meant = f" Did you mean {near}?" if near else ""
        return f"There is no package {name}{wanted}.{meant} Looked for where pip's settings say: pip config list."
    if len(causes) == 1 and not first.get("held"):
        there = ", ".join(versions[-MOST:])
        return f"There is no {wants}{wanted} for this Python: the newest versions of {name} are {there}."
    return _conflict(causes, base)


def _conflict(causes: list[Mapping[str, Any]], base: str) -> str:
    lines = []
    for cause in causes[:MOST]:
        by, wants, held = (_word(cause, key) for key in ("by", "wants", "held"))
        line = f"  {by} needs {wants}" if by else f"  you ask for {wants}"
        lines.append(f"{line}, and {base} has {held.lstrip('=')}" if held else line)
    listed = "\n".join(dict.fromkeys(lines))
    held_back = any(cause.get("held") for cause in causes)
    other = " Or build on a smaller image: --from python." if held_back and base != "python" else ""
    return f"These packages do not go together:\n{listed}\nAsk for other versions of them.{other}"


def _word(told: Mapping[str, Any], name: str) -> str:
    return visible(str(told.get(name) or ""))[:LONGEST]


def _list(told: Mapping[str, Any], name: str) -> list[Any]:
    value = told.get(name)
    return value if isinstance(value, list) else []
