"""From a conversation to a plan: loading the table first, then what the kind of question needs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping

from kernel_sandbox.agents.offline.conditions import ignored
from kernel_sandbox.agents.offline.conversation import Conversation
from kernel_sandbox.agents.offline.factors import explain
from kernel_sandbox.agents.offline.facts import Column, Outcome, Table, find_table, read_table
from kernel_sandbox.agents.offline.groups import compare
from kernel_sandbox.agents.offline.notebook_cells import NotebookCell
from kernel_sandbox.agents.offline.questions import Question, QuestionKind, parse_question
from kernel_sandbox.agents.offline.relations import plot, relate
from kernel_sandbox.agents.offline.steps import Plan, Scene, StateLostError, StoppedError, closing, need, run
from kernel_sandbox.agents.offline.wording import ABILITIES, answer, bullets, num, one_line, with_caveat


def make_plan(conversation: Conversation) -> Plan:
    """Answer the question of a conversation. Begin again once, where the variables of earlier cells are gone."""
    question = parse_question(conversation.question)
    if question is None:
        return answer("I cannot answer this: it is of no kind that I know rules for.", ABILITIES)
    try:
        try:
            return (yield from _attempt(conversation, question, _loaded(conversation), careful=False))
        except StateLostError:
            return (yield from _attempt(conversation, question, None, careful=True))
    except StateLostError:
        return answer("I could not finish: the sandbox lost its variables twice, perhaps for lack of memory.")
    except StoppedError as stopped:
        return str(stopped)


def _loaded(conversation: Conversation) -> Table | None:
    """Return the table that an earlier question has loaded, where this one means the same file."""
    table = find_table(conversation.earlier)
    if table is None or not conversation.files:
        return table
    same = conversation.files[0] == table.file or conversation.files == table.names
    return table if same else None


def _attempt(conversation: Conversation, question: Question, table: Table | None, careful: bool) -> Plan:
    if table is None:
        table = yield from _load(conversation)
    scene = Scene(question, table, conversation.context, careful)
    if not table.columns or not table.rows:
        raise scene.stop("The table has no rows or no columns: there is nothing to analyse.")
    said = yield from _PLANS[question.kind](scene)
    used = [*scene.used.values(), *conversation.files, table.file, question.asked_number]
    return with_caveat(said, ignored(conversation.question, used))


def _load(conversation: Conversation) -> Generator[NotebookCell, Outcome, Table]:
    names = list(conversation.files)
    first = yield NotebookCell("load", {"names": names})
    loaded = first if first.ok else (yield NotebookCell("load_simple"))
    if not loaded.ok:
        raise StoppedError(answer(f"I could not load a table; a simpler way failed too. {one_line(first.error, 300)}"))
    profiled = yield from run(NotebookCell("profile"))
    if not profiled.ok:
        raise StoppedError(answer(f"I loaded the table, but could not describe it: {one_line(profiled.error, 300)}"))
    return read_table(loaded, profiled)


def describe(scene: Scene) -> Plan:
    """Answer what the table holds."""
    numbers = [column.name for column in scene.table.of_kind("number")][:20]
    others = [column.name for column in scene.table.of_kind("category", "boolean", "text")][:15]
    numeric = (yield from need(scene, NotebookCell("describe", {"numbers": numbers}))) if numbers else Outcome(True)
    common = (yield from need(scene, NotebookCell("common_values", {"columns": others}))) if others else Outcome(True)
    table = scene.table
    kinds = bullets(_of_column(column) for column in table.columns[:40])
    more = f"\n… and {table.all_columns - 40} more columns." if table.all_columns > 40 else ""
    return answer(
        f"{table.file} has {table.rows:,} rows and {table.all_columns} columns:\n{kinds}{more}",
        f"Numbers:\n{_of_numbers(numeric)}" if numbers else "",
        f"Commonest values:\n{_of_values(common)}" if others else "",
        closing(scene),
    )


def _of_column(column: Column) -> str:
    missing = f", {column.missing:,} missing" if column.missing else ""
    return f"{one_line(column.name)}: {column.kind}, {column.unique:,} different values{missing}"


def _of_numbers(numeric: Outcome) -> str:
    return bullets(
        f"{one_line(name)}: mean {num(mean)}, standard deviation {num(sd)}, from {num(low)} over a median of "
        f"{num(median)} to {num(high)}"
        for name, (mean, sd, low, median, high) in numeric.table(5)
    )


def _of_values(common: Outcome) -> str:
    pairs = (row for row in common.rows if len(row) == 2)
    return bullets(f"{one_line(str(name))}: {one_line(str(values), 200)}" for name, values in pairs)


_PLANS: Mapping[QuestionKind, Callable[[Scene], Plan]] = {
    "factors": explain,
    "relation": relate,
    "groups": compare,
    "plot": plot,
    "describe": describe,
}
