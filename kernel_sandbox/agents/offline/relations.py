"""The plans for two columns, or one: "how does X influence Y", "plot X by Y", "histogram of X"."""

from __future__ import annotations

from collections.abc import Generator

from kernel_sandbox.agents.offline.facts import Column, Outcome
from kernel_sandbox.agents.offline.groups import compare, date_part, group_lines, of_share, part_of
from kernel_sandbox.agents.offline.notebook_cells import NotebookCell
from kernel_sandbox.agents.offline.steps import NUMERIC, Plan, Scene, as_number, closing, draw, need
from kernel_sandbox.agents.offline.wording import (
    NOT_A_CAUSE,
    answer,
    bullets,
    how_many,
    num,
    one_line,
    rows,
    signed,
    strength,
)


def relate(scene: Scene) -> Plan:
    """Answer how one column goes with another."""
    phrase = scene.question.target
    column = scene.find(phrase, NUMERIC)
    if column is None and scene.means_rows(phrase):
        return (yield from compare(scene))
    if column is None:
        raise scene.unknown(phrase)
    factor = scene.find(scene.question.by, but=column.name)
    if factor is None:
        raise scene.unknown(scene.question.by)
    for one in (factor, column):
        if one.unique < 2:
            raise scene.stop(f"{one_line(one.name)} is the same in every row where it is known: nothing goes with it.")
    target = yield from as_number(scene, column)
    if factor.kind in NUMERIC:
        return (yield from _relate_numbers(scene, factor.name, target))
    return (yield from _relate_groups(scene, factor, target))


def _relate_numbers(scene: Scene, factor: str, target: str) -> Plan:
    found = yield from need(scene, NotebookCell("relate", {"factor": factor, "target": target}))
    name, other = one_line(target), one_line(factor)
    pearson, spearman, slope = (found.number(key) for key in ("pearson", "spearman", "slope"))
    way = "higher" if slope > 0 else "lower" if slope < 0 else "unchanged"
    curved = abs(abs(spearman) - abs(pearson)) > 0.1
    return answer(
        f"Higher {other} goes with {way} {name}. The relation is {strength(pearson)} (Pearson {signed(pearson)}, "
        f"Spearman {signed(spearman)}; {pearson * pearson:.1%} of the variance, {found.count('used'):,} rows).",
        f"Along the line of best fit, one more of {other} goes with {num(slope)} more of {name}."
        + (" Pearson and Spearman differ, so the relation is not a straight line, or has outliers." if curved else ""),
        f"Mean of {name} by {other}:\n"
        + bullets(f"{one_line(group)}: {num(mean)} ({rows(count)})" for group, (mean, count) in found.table(2)),
        how_many(found.count("used")),
        f"{NOT_A_CAUSE} Other columns are not held fixed here; ask which factors contribute to {name} for that.",
        closing(scene),
    )


def _relate_groups(scene: Scene, factor: Column, target: str) -> Plan:
    if factor.kind == "date":
        group = yield from date_part(scene, factor, part_of(scene.question.by) or "month")
    elif factor.kind == "category" or (factor.kind == "text" and factor.unique < scene.table.rows / 2):
        group = factor.name
    else:
        raise scene.stop(
            f"{one_line(factor.name)} is different in nearly each row (kind: {factor.kind}): nothing can be compared."
        )
    compared = yield from _group_figure(scene, group, target, 10)
    name, other = one_line(target), one_line(group)
    return answer(
        f"{name} is highest on average where {other} is “{compared.text('highest')}” and lowest where it is "
        f"“{compared.text('lowest')}”. {of_share(compared, group, target)}",
        f"The groups with the highest mean:\n{group_lines(compared)}",
        how_many(compared.count("used")),
        NOT_A_CAUSE,
        closing(scene),
    )


def _group_figure(scene: Scene, group: str, target: str, number: int) -> Generator[NotebookCell, Outcome, Outcome]:
    cell = NotebookCell("group_values", {"group": group, "target": target, "order": "mean", "number": number})
    compared = yield from need(scene, cell)
    yield from draw(scene, NotebookCell("bars", {"title": f"Mean of {target} by {group}"}))
    return compared


def plot(scene: Scene) -> Plan:
    """Draw one column by another, or one alone."""
    target, by = scene.question.target, scene.question.by
    if not by and " and " in target:
        by, _, target = target.partition(" and ")
    across = scene.find(by) if by else None
    if by and (across is None or part_of(by)):
        return (yield from compare(scene))
    column = scene.find(target, NUMERIC, but=across.name if across else "")
    if column is None and not (across and scene.means_rows(target)):
        raise scene.unknown(target)
    if across is None:
        assert column is not None
        return (yield from _plot_one(scene, column))
    if across.kind == "date":
        return (yield from _plot_over_time(scene, across, column))
    if column is not None and across.kind == "number" and across.unique > 12:
        return (yield from _plot_points(scene, across, column))
    return (yield from compare(scene))


def _plot_one(scene: Scene, column: Column) -> Plan:
    name = one_line(column.name)
    if column.kind == "date":
        return (yield from _plot_over_time(scene, column, None))
    if column.kind != "number":
        counted = yield from need(scene, NotebookCell("group_counts", {"group": column.name, "number": 10}))
        yield from draw(scene, NotebookCell("bars", {"title": f"Rows by {column.name}"}))
        lines = bullets(f"{one_line(group)}: {rows(row[0])}" for group, row in counted.table(1))
        return answer(f"The figure shows how many rows each {name} has. The commonest:\n{lines}", closing(scene))
    spread = yield from need(scene, NotebookCell("histogram", {"column": column.name}))
    mean, median, low, high = (num(spread.number(key)) for key in ("mean", "median", "lowest", "highest"))
    return answer(
        f"The figure shows the distribution of {name} in {spread.count('used'):,} rows: mean {mean}, median {median}, "
        f"from {low} to {high}.",
        closing(scene),
    )


def _plot_over_time(scene: Scene, date: Column, column: Column | None) -> Plan:
    target = "" if column is None else (yield from as_number(scene, column))
    drawn = yield from need(scene, NotebookCell("over_time", {"date": date.name, "target": target}))
    what = f"the mean of {one_line(target)}" if target else "the number of rows"
    low, high = num(drawn.number("lowest")), num(drawn.number("highest"))
    return answer(
        f"The figure shows {what} per {drawn.text('unit')} of {one_line(date.name)}, from {drawn.text('first')} to "
        f"{drawn.text('last')}. It lies between {low} and {high}, with its peak at {drawn.text('peak')}.",
        closing(scene),
    )


def _plot_points(scene: Scene, across: Column, column: Column) -> Plan:
    target = yield from as_number(scene, column)
    drawn = yield from need(scene, NotebookCell("scatter", {"across": across.name, "up": target}))
    points, used = drawn.count("drawn"), drawn.count("used")
    sample = f" (a random sample of {used:,})" if points < used else ""
    return answer(
        f"The figure shows {one_line(target)} by {one_line(across.name)}, {points:,} points{sample}. Their correlation "
        f"is {strength(drawn.number('pearson'))} (Pearson {signed(drawn.number('pearson'))}).",
        how_many(used),
        closing(scene),
    )
