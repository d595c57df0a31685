"""Imports what an image was asked to hold, and tells what the image holds. Runs INSIDE the sandbox, as a cell.

`WANTED`, a list of packages' names, stands before it. Prints JSON: `python`, `packages` (name and version of each), and
`broken` (package, module, what its import said). A package's modules are those of its list of files: it need not be
imported by its own name.
"""

import importlib
import importlib.metadata
import json
import platform
import warnings

WANTED: list[str] = globals().get("WANTED", [])
MOST = 5


def modules_of(name: str) -> list[str]:
    """Return the top-level modules of a package, those with the package's own name first."""
    files = importlib.metadata.distribution(name).files or []
    found = {}
    for file in files:
        first = file.parts[0]
        if len(file.parts) > 1 and first.isidentifier() and file.suffix in (".py", ".so"):
            found[first] = True
        elif len(file.parts) == 1 and file.suffix in (".py", ".so") and first.partition(".")[0].isidentifier():
            found[first.partition(".")[0]] = True
    like = name.lower().replace("-", "").replace("_", "")
    ranked = sorted(found, key=lambda module: module.lower().replace("_", "") != like)
    return [module for module in ranked if module not in ("tests", "test", "docs", "examples")][:MOST]


def tried(name: str, module: str) -> list[tuple[str, str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except BaseException as exc:  # noqa: BLE001 (a package may end its import by anything)
        return [(name, module, f"{type(exc).__name__}: {exc}"[:400])]
    return []


broken = [problem for name in WANTED for module in modules_of(name)[:1] for problem in tried(name, module)]
print(
    json.dumps(
        {
            "python": platform.python_version(),
            "packages": sorted({(d.metadata["Name"] or "", d.version) for d in importlib.metadata.distributions()}),
            "broken": broken,
        }
    )
)
