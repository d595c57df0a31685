"""What plans are made of: the scene, running one cell, finding columns, and the answers that end a plan early."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from kernel_sandbox.agents.offline.columns import find_column, means_rows
from kernel_sandbox.agents.offline.conditions import without_condition
from kernel_sandbox.agents.offline.facts import VARIABLES, Column, Kind, Outcome, Table, tells_of_loss
from kernel_sandbox.agents.offline.notebook_cells import NotebookCell
from kernel_sandbox.agents.offline.questions import Question
from kernel_sandbox.agents.offline.wording import about_table, answer, column_list, one_line

Plan = Generator[NotebookCell, Outcome, str]
"""Yields cells, is sent their outcomes, returns the answer."""
Part = Generator[NotebookCell, Outcome, Outcome]

NUMERIC: tuple[Kind, ...] = ("number", "boolean")


class StateLostError(Exception):
    """The variables of earlier cells are gone: the plan must begin again, at loading."""


class StoppedError(Exception):
    """The plan cannot go on; the message is its answer."""


@dataclass(slots=True)
class Scene:
    """What a plan knows when it begins, and the remarks that it gathers."""

    question: Question
    table: Table
    context: str
    careful: bool = False
    """Whether variables were lost once already, perhaps for lack of memory."""
    remarks: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    """What phrases of the question were taken for."""

    def find(self, phrase: str, prefer: tuple[Kind, ...] = (), but: str = "") -> Column | None:
        """Find the column that a phrase means; remark on others that fit as well."""
        match = find_column(phrase, (column for column in self.table.columns if column.name != but), prefer)
        if match is None:
            return None
        if match.column.kind == "empty":
            raise self.stop(f"{one_line(match.column.name)} holds no values at all.")
        self.used[phrase] = match.column.name
        if match.rivals:
            rivals = ", ".join(one_line(name, 60) for name in match.rivals)
            self.remarks.append(f"I took “{one_line(phrase)}” for {one_line(match.column.name)}; it might be {rivals}.")
        return match.column

    def means_rows(self, phrase: str) -> bool:
        """Return whether a phrase means the rows themselves; remark on it."""
        if not means_rows(phrase, f"{self.table.file} {self.context}"):
            return False
        self.used[phrase] = f"{self.table.file} {without_condition(phrase).rpartition(' ')[2]}"
        self.remarks.append(
            f"No column holds “{one_line(phrase)}”, so each row is counted as one; no filter is applied."
        )
        return True

    def unknown(self, phrase: str) -> StoppedError:
        """Return the end for a phrase that names no column."""
        named = f"no column for “{one_line(phrase)}”" if phrase else "no column named in the question"
        return self.stop(
            f"I find {named}. The columns are: {column_list(self.table)}. Ask again with one of these names."
        )

    def stop(self, *parts: str) -> StoppedError:
        """Return an end, to be raised."""
        return StoppedError(answer(*parts, about_table(self.table)))

    def note_failure(self, what: str, outcome: Outcome) -> None:
        """Remark that a part of the analysis is missing."""
        self.remarks.append(f"{what} is missing, because its cell failed: {one_line(outcome.error)}")


def run(cell: NotebookCell, simpler: NotebookCell | None = None) -> Part:
    """Run a cell; where it fails, a simpler one, once. Raises StateLostError where the variables went meanwhile."""
    outcome = yield from _run_one(cell)
    if not outcome.ok and simpler is not None:
        outcome = yield from _run_one(simpler)
    return outcome


def _run_one(cell: NotebookCell) -> Part:
    """Run a cell; where it fails, ask the kernel whether the variables are still there."""
    outcome = yield cell
    if not outcome.ok and tells_of_loss((yield NotebookCell(VARIABLES))):
        raise StateLostError
    return outcome


def need(scene: Scene, cell: NotebookCell, simpler: NotebookCell | None = None) -> Part:
    """Run a cell without whose numbers there is no answer."""
    outcome = yield from run(cell, simpler)
    if not outcome.ok:
        tried = "a simpler way failed too" if simpler else "I know no simpler way"
        raise scene.stop(f"I could not answer: the cell “{cell.step}” failed ({one_line(outcome.error)}); {tried}.")
    return outcome


def draw(scene: Scene, cell: NotebookCell) -> Part:
    """Run a cell that draws; the answer stands without it."""
    outcome = yield from run(cell)
    if not outcome.ok:
        scene.note_failure("The figure", outcome)
    return outcome


def as_number(scene: Scene, column: Column) -> Generator[NotebookCell, Outcome, str]:
    """Return the name of the column to calculate with; one of two values is written as 0 and 1 first."""
    if column.kind in NUMERIC:
        return column.name
    name = one_line(column.name)
    if column.kind != "category" or column.unique > 2:
        what = {
            "category": f"has {column.unique} categories",
            "date": "holds dates",
            "identifier": "numbers the rows",
        }.get(column.kind, "is no number")
        raise scene.stop(
            f"{name} {what}, so there is nothing to calculate with. I can explain and compare numbers, and columns "
            f"with two values; try “which {name} have the most …” or “plot {name}”."
        )
    marked = yield from need(scene, NotebookCell("two_values", {"target": column.name}))
    scene.remarks.append(f"{name} has two values; 1 stands for “{marked.text('column')}”.")
    return str(marked.facts.get("column", column.name))


def closing(scene: Scene) -> str:
    """Return what the numbers rest on."""
    return "\n".join([*dict.fromkeys(scene.remarks), about_table(scene.table)])
