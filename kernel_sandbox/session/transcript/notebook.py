"""Transcript: the cells of a session as a notebook.

Each cell is kept as the very bytes that it has in the file, so that saving is joining them: a cell that stands costs
one copy, and nothing but itself is written anew when it changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from kernel_sandbox.errors import TranscriptError
from kernel_sandbox.session.outputs import Output, clean_json
from kernel_sandbox.session.transcript.cells import (
    Cell,
    cell_bytes,
    clean_cell_metadata,
    clean_kernelspec,
    clean_language_info,
    clean_notebook_metadata,
    clean_times,
    json_text,
    output_json,
    without_trust,
)
from kernel_sandbox.session.transcript.reading import check_notebook, new_cell_id, parse_notebook, read_notebook
from kernel_sandbox.session.transcript.writing import replace_file
from kernel_sandbox.text.quoting import quoted
from kernel_sandbox.text.utf8 import clean_text

_NAMESPACE = "kernel_sandbox"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_ORIGIN = ("session", "engine", "image")
"""What of its provenance a transcript's `repr` tells."""


@dataclass(slots=True)
class _Record:
    cell: Cell
    head: dict[str, Any]
    """The cell as JSON, without its outputs."""
    written: bytes = b""
    outputs: tuple[Output, ...] | None = None
    """Those not yet written: a display that changes a thousand times between two saves is written once."""

    def to_bytes(self) -> bytes:
        if self.outputs is not None:
            shown = [output_json(output) for output in self.outputs]
            self.written, self.outputs = cell_bytes(self.head | {"outputs": shown}), None
        return self.written


class Transcript:
    """The cells so far, as a notebook of format 4. One thread at a time; only save and load do I/O."""

    def __init__(self, *, path: str | Path | None = None, metadata: Mapping[str, Any] = _NOTHING) -> None:
        """Begin an empty notebook.

        `path` is where `autosave` writes; None keeps it in memory. `metadata` is the notebook's; what nbformat
        refuses, and marks of trust, are left out.
        """
        self.path = None if path is None else Path(path)
        self.private = False
        """Whether `autosave` keeps a new file from everybody but its owner, whatever the umask says."""
        self._metadata = clean_notebook_metadata(metadata)
        self._records: list[_Record] = []
        self._ids: set[str] = set()
        self._minor = 5
        self._others: dict[str, Any] = {}
        """Keys of a loaded file that no format has."""
        self._next: int | None = None
        """The cell whose place the next one takes."""

    def __repr__(self) -> str:
        """Name the number of cells, what made them (as the notebook says), and where they are kept."""
        if "_next" not in vars(self):  # the last that is set: its constructor has failed
            return f"<{type(self).__name__}>"
        cells, told = len(self._records), self._metadata.get(_NAMESPACE)
        made = told if isinstance(told, Mapping) else {}
        facts = [f"{name} {quoted(made[name])}" for name in _ORIGIN if isinstance(made.get(name), str)]
        facts += [] if self.path is None else [f"path {quoted(str(self.path))}"]
        return f"<{type(self).__name__}: {', '.join([f'{cells} cell' + 's' * (cells != 1), *facts])}>"

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a notebook of version 3 or 4, of up to 100 MB, with its outputs and all that it has but marks of trust.

        The transcript has no `path`: the file is not written to unless `save` names it. Raises TranscriptError,
        which names the file and says what is wrong with it.
        """
        notebook = read_notebook(Path(path))
        transcript = cls()
        transcript._metadata = without_trust(notebook.pop("metadata"))
        transcript._minor = notebook.pop("nbformat_minor")
        for cell in notebook.pop("cells"):
            transcript._add_loaded(cell)
        transcript._others = {key: value for key, value in notebook.items() if key != "nbformat"}
        return transcript

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells without their outputs, markdown and raw ones too, in order."""
        return tuple(record.cell for record in self._records)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of the code cells, in order: what a replay runs."""
        return tuple(record.cell.source for record in self._records if record.cell.kind == "code")

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The notebook's metadata, a copy."""
        copy: dict[str, Any] = clean_json(self._metadata)
        return copy

    @property
    def notebook(self) -> Any:
        """The notebook as nbformat's NotebookNode, made anew each time. Imports nbformat."""
        return parse_notebook(self.to_bytes().decode())

    def to_bytes(self) -> bytes:
        """Write the notebook as the file has it (UTF-8 JSON, as nbformat writes it). Does not import nbformat."""
        return b"".join(self._chunks())

    def cells_as_json(self, first: int = 0, most: int | None = None) -> list[dict[str, Any]]:
        """Give `most` cells from a position on as the file has them, outputs included."""
        last = None if most is None else first + most
        return [json.loads(record.to_bytes()) for record in self._records[first:last]]

    @property
    def last_status(self) -> str | None:
        """How the last code cell ended ("ok" while it runs); None where there is none."""
        heads = (record.head for record in reversed(self._records) if record.cell.kind == "code")
        head = next(heads, None)
        return None if head is None else str(head["metadata"].get(_NAMESPACE, {}).get("status", "ok"))

    def add_code_cell(
        self,
        source: str,
        outputs: Iterable[Output] = (),
        *,
        execution_count: int | None = None,
        timing: Mapping[str, datetime | str] = _NOTHING,
        outcome: Mapping[str, str] = _NOTHING,
        metadata: Mapping[str, Any] = _NOTHING,
    ) -> int:
        """Add a cell that runs or ran, and give its position, by which `update` finds it.

        `timing` has the header dates of its messages (cells.TIMES; datetimes or ISO text). `outcome` has its
        `status`, `ran` and `kept`; it is stored where the status is not "ok". `metadata` is the cell's own (tags);
        times and outcome in it are replaced.
        After `fill_next` the cell that stands takes all but the metadata.
        """
        if self._next is not None:
            position, self._next = self._next, None
            self.clear(position)
            self._records[position].head["execution_count"] = execution_count
        else:
            cell = Cell("code", clean_text(source), clean_cell_metadata(metadata))
            self._records.append(_Record(cell, self._head(cell) | {"execution_count": execution_count}))
            position = len(self._records) - 1
        self.update(position, outputs, timing=timing, outcome=outcome)
        return position

    def fill_next(self, position: int) -> None:
        """Make the next code cell that is added fill this one, which is the same: its id and all else of it stay."""
        self._next = position

    def clear(self, position: int) -> None:
        """Make a code cell one that has not run: without outputs, count, times and outcome."""
        record = self._records[position]
        record.head = record.head | {"execution_count": None, "metadata": dict(record.head["metadata"])}
        self.update(position, (), timing={}, outcome={})

    def insert_code_cell(self, position: int, source: str, metadata: Mapping[str, Any], *, replace: bool) -> None:
        """Put a code cell that has not run before a position, or in the place of the one that is there."""
        cell = Cell("code", clean_text(source), clean_cell_metadata(metadata))
        record = _Record(cell, self._head(cell) | {"execution_count": None}, outputs=())
        self._records[position : position + replace] = [record]

    def update(
        self,
        position: int,
        outputs: Iterable[Output],
        *,
        execution_count: int | None = None,
        timing: Mapping[str, datetime | str] | None = None,
        outcome: Mapping[str, str] | None = None,
    ) -> None:
        """Put other outputs in the place of a code cell's; what is None stays as it is.

        Raises TranscriptError for a cell that is not code, IndexError for one that there is not.
        """
        record = self._records[position]
        if record.cell.kind != "code":
            raise TranscriptError(f"Cell {position} is {record.cell.kind}: only code cells have outputs.")
        metadata = record.head["metadata"]
        if execution_count is not None:
            record.head["execution_count"] = execution_count
        if timing is not None:
            metadata["execution"] = clean_times(timing)
        if outcome is not None:
            metadata[_NAMESPACE] = {name: clean_text(value) for name, value in outcome.items()}
        _drop_empty(metadata)
        record.outputs = tuple(outputs)

    def add_markdown(self, source: str) -> int:
        """Add a cell of prose, and give its position."""
        return self.add_cell(Cell("markdown", source))

    def add_cell(self, cell: Cell) -> int:
        """Add a cell as it is, with its metadata and attachments, and give its position.

        For the prose of a notebook that is replayed; a code cell added so has not run, and has no outputs.
        """
        if cell.kind == "code":
            return self.add_code_cell(cell.source, metadata=cell.metadata)
        clean = Cell(cell.kind, clean_text(cell.source), clean_cell_metadata(cell.metadata), cell.attachments)
        head = self._head(clean)
        if clean.attachments:
            head["attachments"] = clean_json(clean.attachments)
        self._records.append(_Record(clean, head, cell_bytes(head)))
        return len(self._records) - 1

    def set_kernel(self, kernelspec: Mapping[str, Any], language_info: Mapping[str, Any] = _NOTHING) -> None:
        """Name the kernel: name, display_name and language of its spec, and language_info as it sent it.

        What nbformat refuses is left out; a kernelspec without a name leaves none.
        """
        cleaned = {"kernelspec": clean_kernelspec(kernelspec), "language_info": clean_language_info(language_info)}
        for key, value in cleaned.items():
            self._metadata.pop(key, None)
            if value:
                self._metadata[key] = value

    def set_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Record where the outputs come from (engine, image, limits, session), as metadata.kernel_sandbox."""
        self._metadata[_NAMESPACE] = clean_json(provenance)

    def autosave(self) -> None:
        """Write the notebook to `path`, if there is one, without waiting for the disk.

        Whoever reads the file sees it whole. Raises TranscriptError.
        """
        if self.path is not None:
            replace_file(self.path, self._chunks(), durable=False, private=self.private)

    def save(self, path: str | Path | None = None, *, validate: bool = False) -> Path:
        """Write the notebook to `path` (or to its own), wait until it is on the disk, and give the path.

        An existing file is replaced at once and keeps its mode. `validate` has nbformat check it first. Raises
        TranscriptError.
        """
        target = self.path if path is None else Path(path)
        if target is None:
            raise TranscriptError("The transcript has no path of its own: give one to save().")
        if validate:
            check_notebook(self.to_bytes().decode())
        replace_file(target, self._chunks(), durable=True)
        return target

    def _head(self, cell: Cell) -> dict[str, Any]:
        cell_id = new_cell_id(self._ids)
        self._ids.add(cell_id)
        head = {"cell_type": cell.kind, "id": cell_id, "metadata": dict(cell.metadata), "source": cell.source}
        return head if self._minor >= 5 else {key: value for key, value in head.items() if key != "id"}

    def _add_loaded(self, loaded: dict[str, Any]) -> None:
        metadata = without_trust(loaded["metadata"])
        cell = Cell(loaded["cell_type"], loaded["source"], metadata, loaded.get("attachments", {}))
        head = {key: value for key, value in loaded.items() if key != "outputs"} | {"metadata": dict(metadata)}
        self._ids.add(loaded.get("id", ""))
        self._records.append(_Record(cell, head, cell_bytes({**loaded, "metadata": metadata})))

    def _chunks(self) -> list[bytes]:
        """The file, in the order of nbformat's sorted keys."""
        rest = self._others | {"metadata": self._metadata, "nbformat": 4, "nbformat_minor": self._minor}
        before = "".join(f" {_entry(key, rest[key])},\n" for key in sorted(rest) if key < "cells")
        after = "".join(f",\n {_entry(key, rest[key])}" for key in sorted(rest) if key > "cells")
        cells = [f'{{\n{before} "cells": ['.encode("utf-8", "replace")]
        for record in self._records:
            cells += [b"\n  ", record.to_bytes(), b","]
        if self._records:
            cells[-1] = b"\n "
        return [*cells, f"]{after}\n}}\n".encode("utf-8", "replace")]


def _entry(key: str, value: Any) -> str:
    return f"{json_text(key)}: {json_text(value, level=1)}"


def _drop_empty(metadata: dict[str, Any]) -> None:
    if not metadata.get("execution", True):
        del metadata["execution"]
    if metadata.get(_NAMESPACE, {}).get("status", "ok") == "ok":
        metadata.pop(_NAMESPACE, None)
