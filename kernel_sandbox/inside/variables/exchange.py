"""One transfer, done in the sandbox's kernel: `session/carried_variables` reads it as text.

Runs as an expression beside the cells, in a namespace of its own, so that nothing of it is left in the user's.
"""

from __future__ import annotations

import json
from typing import Any


class Carried(str):
    """Text whose repr is itself: a client reads it off an expression as it is."""

    def __repr__(self) -> str:
        return str(self)


def serve(request: dict[str, Any], namespace: dict[str, Any], values: dict[str, Any]) -> Carried:
    """Read the file `path` into the variable `name`, or write the variable to the file.

    `values` has the names of plain, packing and unpacking.
    """
    name, path = request["name"], request["path"]
    try:
        if request["do"] == "take":
            with open(path, "rb") as file:
                namespace[name] = values["unpack"](file.read())
            _keep_as_file(namespace[name], request.get("file"))
        elif name not in namespace:
            return Carried(json.dumps({"refused": "the kernel has no variable of this name", "why": "absent"}))
        else:
            packed = values["pack"](namespace[name], request["limit"])
            with open(path, "wb") as file:
                file.write(packed)
    except values["TooLarge"] as exc:
        return Carried(json.dumps({"refused": str(exc), "why": "large"}))
    except values["NotCarried"] as exc:
        return Carried(json.dumps({"refused": str(exc)}))
    except (ImportError, OSError, MemoryError) as exc:
        return Carried(json.dumps({"refused": f"in the sandbox: {type(exc).__name__}: {exc}"}))
    return Carried(json.dumps({"done": True}))


def _keep_as_file(frame: Any, path: str | None) -> None:
    """Write a DataFrame to a file too, for whoever looks for files."""
    if path is None:
        return
    if path.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
