"""The plans that compare groups: "which groups are highest in X", and where the rows concentrate."""

from __future__ import annotations

from collections.abc import Generator

from kernel_sandbox.agents.offline.facts import Column, Outcome
from kernel_sandbox.agents.offline.notebook_cells import NotebookCell
from kernel_sandbox.agents.offline.steps import NUMERIC, Plan, Scene, as_number, closing, draw, need
from kernel_sandbox.agents.offline.wording import answer, how_many, num, numbered, one_line, rows, share
from kernel_sandbox.agents.offline.words import TIME_PARTS, content, tokens

ANY_GROUP = frozenset({"group", "category", "segment", "class", "kind", "one"})
Name = Generator[NotebookCell, Outcome, str]


def compare(scene: Scene) -> Plan:
    """Name the groups that are highest (or lowest) in a target."""
    groups = yield from _find_groups(scene)
    column = _find_target(scene, groups[0])
    target = "" if column is None else (yield from as_number(scene, column))
    parts = []
    for group in groups:
        name = yield from _as_group(scene, group)
        parts.append((yield from _values(scene, name, target) if target else _counts(scene, name)))
    return answer(*parts, how_many(scene.table.rows), closing(scene))


def concentrations(scene: Scene) -> Plan:
    """Answer where the rows concentrate, when the rows themselves are what is to be explained."""
    grouping = [column for column in scene.table.of_kind("category", "boolean") if 2 <= column.unique <= 100]
    groups = sorted(grouping, key=lambda column: -column.unique)[:3]  # the finer ones tell more
    parts = []
    for group in groups:
        parts.append((yield from _counts(scene, group.name)))
    for date in scene.table.of_kind("date")[:1]:
        hours = yield from date_part(scene, date, "hour")
        parts.append((yield from _counts(scene, hours)))
    if not parts:
        raise scene.stop("Each row is one event, and no column sorts them into groups: I cannot say what matters.")
    return answer(
        "Each row is one event, so there is no number per place or time to correlate or regress. What the table shows "
        "is where they concentrate, which is no rate: it does not say how many could have happened.",
        *parts,
        closing(scene),
    )


def _find_groups(scene: Scene) -> Generator[NotebookCell, Outcome, list[Column]]:
    phrase = scene.question.by
    dates = scene.table.of_kind("date")
    part = part_of(phrase) if dates else ""
    column = scene.find(phrase, ("category", "boolean"))
    if column is not None and (not part or set(tokens(column.name)) & set(tokens(phrase)) & set(TIME_PARTS)):
        return [column]
    if part:
        name = yield from date_part(scene, dates[0], part)
        return [Column(name, "category", dates[0].missing, 24)]
    if set(content(tokens(phrase))) <= ANY_GROUP and (chosen := _any_groups(scene)):
        return chosen
    raise scene.unknown(phrase)


def _any_groups(scene: Scene) -> list[Column]:
    """Return up to two columns that sort the rows into groups; numbers of few values where there are no others."""
    target = scene.find(scene.question.target, NUMERIC)
    categories = [column for column in scene.table.of_kind("category", "boolean") if 2 <= column.unique <= 200]
    numbers = [column for column in scene.table.of_kind("number") if 2 <= column.unique <= 24]
    return [column for column in categories or numbers if column != target][:2]


def _find_target(scene: Scene, group: Column) -> Column | None:
    """Return the column that is compared; None where rows are counted."""
    phrase = scene.question.target
    if not content(tokens(phrase)) and not phrase:
        raise scene.unknown(phrase)
    column = scene.find(phrase, NUMERIC, but=group.name)
    if column is not None and (column.kind in NUMERIC or (column.kind == "category" and column.unique == 2)):
        return column
    if scene.means_rows(phrase):
        return None
    if column is not None:
        return column  # `as_number` says what it is instead of a number
    raise scene.unknown(phrase)


def part_of(phrase: str) -> str:
    """Return the part of a date that a phrase names."""
    return next((TIME_PARTS[word] for word in tokens(phrase) if word in TIME_PARTS), "")


def date_part(scene: Scene, date: Column, part: str) -> Name:
    """Make a part of a date a column, and return its name."""
    taken = yield from need(scene, NotebookCell("date_part", {"column": date.name, "part": part}))
    return str(taken.facts.get("column", date.name))


def _as_group(scene: Scene, column: Column) -> Name:
    if column.kind == "date":
        return (yield from date_part(scene, column, part_of(scene.question.by) or "month"))
    if column.kind == "number" and column.unique > 24:
        binned = yield from need(scene, NotebookCell("bins", {"column": column.name}))
        return str(binned.facts.get("column", column.name))
    return column.name


def _counts(scene: Scene, group: str) -> Name:
    asked = scene.question
    values: dict[str, str | int | list[str]] = {
        "group": group,
        "ascending": int(asked.ascending),
        "number": asked.number,
    }
    counted = yield from need(scene, NotebookCell("group_counts", values))
    yield from draw(scene, NotebookCell("bars", {"title": f"Rows by {group}"}))
    total, missing = counted.count("counted"), counted.count("missing")
    lines = (f"{one_line(name)}: {num(row[0])} ({share(row[0] / max(total, 1))})" for name, row in counted.table(1))
    which = "fewest" if asked.ascending else "most"
    without = f" {missing:,} rows have no {one_line(group)}." if missing else ""
    head = f"The {which} rows by {one_line(group)} ({counted.count('groups'):,} groups, {total:,} rows):{without}"
    return f"{head}\n{numbered(lines)}"


def _values(scene: Scene, group: str, target: str) -> Name:
    asked = scene.question
    order = asked.order or "mean"
    values: dict[str, str | int | list[str]] = {
        "group": group,
        "target": target,
        "order": order,
        "ascending": int(asked.ascending),
        "number": asked.number,
    }
    compared = yield from need(scene, NotebookCell("group_values", values))
    yield from draw(scene, NotebookCell("bars", {"title": f"{target} by {group}"}))
    way = f"{'lowest' if asked.ascending else 'highest'} {'total' if order == 'sum' else 'mean'} of {one_line(target)}"
    head = f"The groups of {one_line(group)} with the {way} ({compared.count('groups'):,} groups):"
    return f"{head}\n{group_lines(compared)}\n{of_share(compared, group, target)}"


def group_lines(compared: Outcome) -> str:
    """Word the rows of a comparison."""
    return numbered(
        f"{one_line(name)}: total {num(total)}, mean {num(mean)}, median {num(median)}, {rows(count)}"
        for name, (count, total, mean, median) in compared.table(4)
    )


def of_share(compared: Outcome, group: str, target: str) -> str:
    """Word how much the grouping explains."""
    if compared.count("groups") > compared.count("used") / 2:
        return "Nearly each row is a group of its own, so this says nothing about the groups in general."
    return (
        f"Which {one_line(group)} it is accounts for {share(compared.number('share'))} of the variance of "
        f"{one_line(target)} ({compared.count('used'):,} rows used, {compared.count('left_out'):,} left out)."
    )
