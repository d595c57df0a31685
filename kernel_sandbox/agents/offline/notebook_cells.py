"""A cell's source, from its file in cells/ and the values of its parameters. Pure but for reading the file."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Value = str | int | list[str]
"""These look the same in JSON and in Python; true, false and null do not."""

_PARAMETER = re.compile(r"^(\w+) = .*  # parameter$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NotebookCell:
    """A file of cells/, and values for its parameters."""

    name: str
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def step(self) -> str:
        """What its report is called."""
        return self.name.removesuffix("_simple")

    @property
    def source(self) -> str:
        """The source, in which each line `name = …  # parameter` has its value."""
        text = _read(self.name)
        unknown = set(self.values) - {match[1] for match in _PARAMETER.finditer(text)}
        if unknown:
            raise ValueError(f"cells/{self.name}.py has no parameter {sorted(unknown)}.")
        return _PARAMETER.sub(self._assignment, text)

    def _assignment(self, match: re.Match[str]) -> str:
        name = match[1]
        if name not in self.values:
            return match[0].removesuffix("  # parameter")
        # Python reads JSON's strings the same, but for pairs of \u surrogates, which ensure_ascii=False does not write.
        return f"{name} = {json.dumps(self.values[name], ensure_ascii=False)}"


@functools.cache
def _read(name: str) -> str:
    text = (Path(__file__).parent / "cells" / f"{name}.py").read_text(encoding="utf-8")
    return text.partition("\n# %%\n")[2].strip("\n")
