"""What a session keeps: the outputs of all its cells, and the transcript that they stand in.

Cells change after their end: a later one updates a display that they showed, a task that they started prints. Such
changes are only noted when they come, and taken into the transcript when it is next saved or asked for: a loop of
small updates must not join a large cell's outputs each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernel_sandbox.host import forks
from kernel_sandbox.session.cell import RunningCell
from kernel_sandbox.session.outputs import CellOutputs, SessionOutputs
from kernel_sandbox.session.transcript import Transcript
from kernel_sandbox.spec.languages import Language
from kernel_sandbox.spec.values import Limits, parse_size


class Recorder:
    """Makes a session's cells and records them when they are over. Saves after each, where there is a path."""

    def __init__(self, limits: Limits, transcript: Transcript) -> None:
        self._limits = limits
        self._outputs = SessionOutputs(limits, self._changed_by_another)
        self._transcript = transcript
        self._finished: dict[CellOutputs, RunningCell] = {}
        self._changed: set[RunningCell] = set()
        forks.tell(self)

    def after_fork(self) -> None:
        """Leave the file to the parent."""
        self._transcript.path = None

    @property
    def transcript(self) -> Transcript:
        """The transcript, with all that has reached its cells by now."""
        for cell in self._changed:
            self._transcript.update(cell.transcript_cell, cell.outputs.outputs)
        self._changed.clear()
        return self._transcript

    def describe(self, kernel_info: dict[str, Any], language: Language, provenance: dict[str, Any]) -> None:
        """Write down which kernel runs, and in what sandbox."""
        told = kernel_info.get("language_info")
        # Whatever kernel a notebook was of: Jupyter must not open what an agent or a stranger wrote on the host's.
        self._transcript.set_kernel(language.kernelspec, told if isinstance(told, dict) else {})
        self._transcript.set_provenance(provenance)

    def new_cell(self, source: str, metadata: Mapping[str, Any]) -> RunningCell:
        interrupts = self._limits.on_output_limit == "interrupt"
        cell = RunningCell(source, self._outputs.cell(), parse_size(self._limits.output_bytes), interrupts)
        cell.metadata = metadata
        cell.on_late = self._note_change
        return cell

    def conclude(self, cell: RunningCell) -> None:
        """Make the Execution of a cell that is over, and save. Raises TranscriptError where that fails."""
        if cell.transcript_cell is not None:
            return
        execution = cell.conclude()
        cell.transcript_cell = self._transcript.add_code_cell(
            cell.source,
            execution.outputs,
            execution_count=execution.execution_count,
            timing=cell.timing,
            outcome={"status": execution.status, "ran": execution.ran, "kept": execution.kept},
            metadata=cell.metadata,
        )
        self._finished[cell.outputs] = cell
        self.transcript.autosave()

    def forget_displays(self) -> None:
        """Stop updating what the kernel before a restart had displayed."""
        self._outputs.forget_displays()

    def _changed_by_another(self, outputs: CellOutputs) -> None:
        cell = self._finished.get(outputs)
        if cell is not None:
            self._note_change(cell)

    def _note_change(self, cell: RunningCell) -> None:
        if cell.transcript_cell is not None:
            self._changed.add(cell)
