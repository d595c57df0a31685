"""The plan for "which factors contribute most to X": clean, correlate, regress, a forest, one ranking."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

from kernel_sandbox.agents.offline.facts import Column, Outcome
from kernel_sandbox.agents.offline.groups import concentrations
from kernel_sandbox.agents.offline.notebook_cells import NotebookCell
from kernel_sandbox.agents.offline.steps import NUMERIC, Plan, Scene, as_number, closing, need, run
from kernel_sandbox.agents.offline.wording import (
    NOT_A_CAUSE,
    answer,
    bullets,
    how_many,
    num,
    numbered,
    one_line,
    signed,
)

MOST_NUMBERS, MOST_CATEGORIES, MOST_DATES = 40, 8, 2


@dataclass(frozen=True, slots=True)
class Findings:
    """What the cells found."""

    clean: Outcome
    ranked: Outcome
    regression: Outcome | None
    forest: Outcome | None


def explain(scene: Scene) -> Plan:
    """Rank what goes with a target."""
    column = scene.find(scene.question.target, (*NUMERIC, "category"))
    if column is None:
        if scene.means_rows(scene.question.target):
            return (yield from concentrations(scene))
        raise scene.unknown(scene.question.target)
    if column.unique < 2:
        raise scene.stop(f"{one_line(column.name)} is the same in every row where it is known: nothing can explain it.")
    target = yield from as_number(scene, column)
    findings = yield from _analyse(scene, column, target)
    return _word(scene, target, findings)


def _analyse(scene: Scene, column: Column, target: str) -> Generator[NotebookCell, Outcome, Findings]:
    clean = yield from _clean(scene, column, target)
    used, factors = clean.count("used"), clean.count("factors")
    if used < 3 or factors == 0 or clean.count("values") < 2:
        why = "no other column can serve as a factor" if factors == 0 else f"only {used} rows can be used"
        raise scene.stop(f"I cannot say what contributes to {one_line(target)}: {why}.")
    yield from need(scene, NotebookCell("correlate"))
    regression = yield from _regress(scene, used, factors)
    forest = yield from _grow(scene, used)
    ranked = yield from need(scene, NotebookCell("rank", {"target": target}))
    return Findings(clean, ranked, regression, forest)


def _clean(scene: Scene, column: Column, target: str) -> Generator[NotebookCell, Outcome, Outcome]:
    others = [other for other in scene.table.columns if other.name != column.name and other.unique > 1]
    most = min(60, scene.table.rows // 2)  # of categories: names of single rows explain nothing
    numbers = [other.name for other in others if other.kind in NUMERIC][:MOST_NUMBERS]
    categories = [other.name for other in others if other.kind == "category" and other.unique <= most][:MOST_CATEGORIES]
    dates = [other.name for other in others if other.kind == "date"][:MOST_DATES]
    whole = NotebookCell("clean", {"target": target, "numbers": numbers, "categories": categories, "dates": dates})
    clean = yield from need(scene, whole, NotebookCell("clean", {"target": target, "numbers": numbers}))
    left = [other.name for other in others if other.name not in (*numbers, *categories, *dates)]
    if left:
        names = ", ".join(one_line(name, 40) for name in left[:12])
        scene.remarks.append(f"Not used as factors (identifiers, texts, or too many to take all): {names}.")
    return clean


def _regress(scene: Scene, used: int, factors: int) -> Generator[NotebookCell, Outcome, Outcome | None]:
    if used < 2 * (factors + 1):
        scene.remarks.append(f"No regression: {used} rows are too few for {factors} factors.")
        return None
    outcome = yield from run(NotebookCell("regress"))
    if not outcome.ok:
        scene.note_failure("The regression", outcome)
    return outcome if outcome.ok else None


def _grow(scene: Scene, used: int) -> Generator[NotebookCell, Outcome, Outcome | None]:
    if used < 50:
        scene.remarks.append(f"No random forest: {used} rows are too few to hold some back for judging it.")
        return None
    small = NotebookCell("forest", {"trees": 30, "most_rows": 2000})
    outcome = yield from run(small if scene.careful else NotebookCell("forest"), small)
    if not outcome.ok:
        scene.note_failure("The random forest", outcome)
    return outcome if outcome.ok else None


def _word(scene: Scene, target: str, findings: Findings) -> str:
    name = one_line(target)
    ranked = findings.ranked.table(4)
    if not ranked:
        raise scene.stop("I could not read the ranking that the last cell printed; its table is in the notebook.")
    first = [one_line(factor) for factor, _ in ranked[:3]]
    used, factors = findings.clean.count("used"), findings.clean.count("factors")
    return answer(
        _of_nothing(name, ranked, findings),
        f"What goes with {name} most: {', '.join(first)} ({used:,} rows, {factors} factors; ordered by the mean of "
        "each factor's places in the measures below).",
        numbered(f"{one_line(factor)}: {_measures(values)}" for factor, values in ranked[:8]),
        bullets([_of_regression(findings), _of_forest(findings), _of_target(name, findings.clean)]),
        _of_copies(name, ranked),
        _of_opposites(ranked[:8]),
        how_many(used),
        NOT_A_CAUSE + " Factors that go together share their weight in the regression in an arbitrary way.",
        closing(scene),
    )


def _measures(values: list[float]) -> str:
    pearson, spearman, coefficient, importance = values
    parts = [f"Pearson {signed(pearson)}", f"Spearman {signed(spearman)}"]
    if math.isfinite(coefficient):
        parts.append(f"standardised coefficient {signed(coefficient)}")
    if math.isfinite(importance):
        parts.append(f"forest importance {importance:.3f}")
    return ", ".join(parts)


def _of_regression(findings: Findings) -> str:
    if findings.regression is None:
        return ""
    r_squared = findings.regression.number("r_squared")
    return f"Linear regression on all factors: R² = {r_squared:.3f} (on the rows that it was fitted to)."


def _of_forest(findings: Findings) -> str:
    forest = findings.forest
    if forest is None:
        return ""
    held_out, tested, trained = forest.number("held_out"), forest.count("tested"), forest.count("trained")
    sampled = f" It saw a random sample of {trained + tested:,} rows only." if forest.count("sampled") else ""
    useless = " It predicts nothing, so its importances mean little." if held_out < 0.05 else ""
    return (
        f"Random forest: held-out R² = {held_out:.3f}, on {tested:,} rows that it had not seen; importance is how much "
        f"R² falls when a factor's values are shuffled.{sampled}{useless}"
    )


def _of_target(name: str, clean: Outcome) -> str:
    mean, sd, low, high = (num(clean.number(key)) for key in ("mean", "sd", "lowest", "highest"))
    left_out, filled = clean.count("left_out"), clean.count("filled")
    parts = [f"{name}: mean {mean}, standard deviation {sd}, from {low} to {high}."]
    if left_out:
        parts.append(f"{left_out:,} rows without it were left out.")
    if filled:
        parts.append(f"{filled:,} missing values of factors were filled with medians.")
    if dropped := [one_line(str(row[0]), 40) for row in clean.rows]:
        parts.append(f"Dropped, as constant or mostly missing: {', '.join(dropped)}.")
    return " ".join(parts)


def _of_nothing(name: str, ranked: list[tuple[str, list[float]]], findings: Findings) -> str:
    """Return the sentence for a ranking in which no measure finds anything: what stands below it is noise."""
    closest = max(abs(value) for _, values in ranked for value in values[:2] if math.isfinite(value))
    held_out = findings.forest.number("held_out") if findings.forest else math.nan
    if closest >= 0.1 or held_out >= 0.05:
        return ""
    return f"Hardly anything in this table goes with {name}: no correlation is above {closest:.3f}."


def _of_copies(name: str, ranked: list[tuple[str, list[float]]]) -> str:
    copies = [one_line(factor) for factor, values in ranked if abs(values[0]) > 0.99]
    if not copies:
        return ""
    return f"{', '.join(copies)} and {name} are nearly the same thing: perhaps one was calculated from the other."


def _of_opposites(ranked: list[tuple[str, list[float]]]) -> str:
    """Name the factors whose sign changes when the others are held fixed: reading one measure alone misleads."""
    turned = [one_line(factor) for factor, (r, _, beta, _) in ranked if r * beta < 0 and min(abs(r), abs(beta)) >= 0.1]
    if not turned:
        return ""
    return (
        f"Correlation and regression disagree in sign on {', '.join(turned)}: taken alone, it goes with the target one "
        "way, and with the other factors held fixed, the other way."
    )
