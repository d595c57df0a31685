"""Print what an image holds, as JSON: its Python, and its packages. Runs INSIDE the sandbox, as a cell."""

import importlib.metadata
import json
import platform

print(
    json.dumps(
        {
            "python": platform.python_version(),
            "packages": sorted({(d.metadata["Name"] or "", d.version) for d in importlib.metadata.distributions()}),
        }
    )
)
