"""Run the long tests: all of them, or those that are named."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests import long


def entries() -> list[str]:
    """Name the entries, in order."""
    return sorted(found.name for found in pkgutil.iter_modules(long.__path__) if not found.name.startswith("_"))


def about(name: str) -> str:
    """Return what an entry finds out: its docstring's first line."""
    return (importlib.import_module(f"tests.long.{name}").__doc__ or "").split("\n")[0]


def run(name: str, cache: Path) -> list[str]:
    """Run an entry, and return what is wrong."""
    print(f"\n== {name}: {about(name)}\n", flush=True)
    cache.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        wrong: list[str] = importlib.import_module(f"tests.long.{name}").run(cache)
    except Exception as exc:  # noqa: BLE001 (an entry that breaks is wrong, and the others run all the same)
        traceback.print_exc()
        wrong = [f"it broke off: {type(exc).__name__}: {exc}"]
    print(f"\n{name}: {len(wrong) or 'nothing'} wrong, in {time.monotonic() - started:.0f} s", flush=True)
    return [f"{name}: {sentence}" for sentence in wrong]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help="an entry; all of them where none is named")
    parser.add_argument("--list", action="store_true", help="list the entries and what each finds out")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="keep there what is fetched, and find it there")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:<20}{about(name)}" for name in entries()))
        return 0
    if unknown := sorted(set(options.names) - set(entries())):
        parser.error(f"no entry {', '.join(unknown)}: --list names them")
    with tempfile.TemporaryDirectory(prefix="ks-long-") as made:
        cache = (options.cache or Path(made)).resolve()
        wrong = [sentence for name in options.names or entries() for sentence in run(name, cache / name)]
    print("\n".join(["", *wrong]) if wrong else "\nAll is well.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
