"""Run the long tests: all of them, or those that are named."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

from kernel_sandbox.sandbox.engines import NAMES
from tests import long
from tests.long._asked import Asked


def entries() -> list[str]:
    """Name the entries, in order."""
    return sorted(found.name for found in pkgutil.iter_modules(long.__path__) if not found.name.startswith("_"))


def about(name: str) -> str:
    """Return what an entry finds out: its docstring's first line."""
    return (importlib.import_module(f"tests.long.{name}").__doc__ or "").split("\n")[0]


def run(name: str, asked: Asked) -> list[str]:
    """Run an entry, and return what is wrong."""
    print(f"\n== {name}: {about(name)}\n", flush=True)
    asked.cache.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        wrong: list[str] = importlib.import_module(f"tests.long.{name}").run(asked)
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
    parser.add_argument("--engine", choices=NAMES, help="this one instead of both")
    parser.add_argument("--count", metavar="N", type=int, help="so many sessions: many_at_once, one_after_another")
    parser.add_argument("--minutes", metavar="N", type=float, help="so long: soak")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:<20}{about(name)}" for name in entries()))
        return 0
    if unknown := sorted(set(options.names) - set(entries())):
        parser.error(f"no entry {', '.join(unknown)}: --list names them")
    engines = (options.engine,) if options.engine else NAMES
    try:
        with tempfile.TemporaryDirectory(prefix="ks-long-") as made:
            asked = Asked((options.cache or Path(made)).resolve(), engines, options.count, options.minutes)
            wrong = [
                sentence
                for name in options.names or entries()
                for sentence in run(name, replace(asked, cache=asked.cache / name))
            ]
    except KeyboardInterrupt:
        print("\nEnded by Ctrl-C; what was open is closed.", flush=True)
        return 130
    print("\n".join(["", *wrong]) if wrong else "\nAll is well.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
