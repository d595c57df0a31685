"""The offline analyst: its answers against numbers computed here, its honesty, and its determinism."""

from __future__ import annotations

import csv
import json
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernel_sandbox import Execution, Session
from kernel_sandbox.agents import AgentEvent, CellFinished, Completion, PythonExecAgent
from kernel_sandbox.agents.offline import OfflineAnalyst
from kernel_sandbox.agents.offline.conditions import ignored
from kernel_sandbox.agents.offline.conversation import read_conversation
from kernel_sandbox.agents.offline.notebook_cells import NotebookCell
from kernel_sandbox.agents.offline.questions import parse_question
from kernel_sandbox.session.outputs import StreamOutput
from tests.conftest import missing

DENVER = Path(__file__).parents[3] / "shared" / "data" / "denver_traffic_accidents.csv"
MAKE_TRAFFIC = Path(__file__).parents[2] / "notebooks" / "make_traffic_data.py"
CELLS = Path(__file__).parents[2] / "kernel_sandbox" / "agents" / "offline" / "cells"
LOAD = "# Load the table."
FACTORS = "What factors contribute the most to accident frequency?"
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "execute_python_code"}}]


class Asked:
    """An agent on one file, and the cells that it ran."""

    def __init__(self, session: Session, path: Path) -> None:
        self.cells: list[Execution] = []
        name = session.files.upload(path).name
        self.agent = PythonExecAgent(language_model_interface=OfflineAnalyst(), session=session, on_event=self._keep)
        self.agent.add_context(f"Copied {name} into the sandbox: /mnt/data/{name}.")

    def _keep(self, event: AgentEvent) -> None:
        if isinstance(event, CellFinished):
            self.cells.append(event.execution)

    def __call__(self, question: str) -> str:
        """Ask; what its cells wrote to stderr must be nothing: a warning would stand in the user's notebook."""
        self.cells.clear()
        answer = self.agent.task(question)
        outputs = [output for cell in self.cells for output in cell.outputs if isinstance(output, StreamOutput)]
        assert [output.text for output in outputs if output.name == "stderr"] == []
        assert "rule-based" in answer.splitlines()[0]
        assert "--model o3-mini" in answer.splitlines()[0]
        return answer

    @property
    def figures(self) -> list[bytes]:
        return [data for cell in self.cells for kind, data in cell.images if kind == "image/png"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Session]:
    if reason := missing("docker"):
        pytest.skip(reason)
    with Session(engine="docker", image="datascience") as opened:
        yield opened


@pytest.fixture(scope="module")
def traffic(sandbox: Session, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    path = tmp_path_factory.mktemp("data") / "traffic_accidents.csv"
    made = runpy.run_path(str(MAKE_TRAFFIC))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([made["COLUMNS"], *made["make_rows"]()])
    return Asked(sandbox, path)


@pytest.fixture(scope="module")
def denver(sandbox: Session) -> Asked:
    if not DENVER.exists():
        pytest.skip("the Denver data set is not beside this checkout")
    return Asked(sandbox, DENVER)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def complete(*messages: dict[str, Any], tools: list[dict[str, Any]] | None = TOOLS) -> Completion:
    return OfflineAnalyst().generate_completion("any", [{"role": "developer", "content": "…"}, *messages], tools)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def converse(question: str, *results: str) -> list[dict[str, Any]]:
    """A conversation in which cells had these results."""
    messages = [user("/mnt/data/t.csv"), user(question)]
    for number, result in enumerate(results, 1):
        function = {"name": "execute_python_code", "arguments": "{}"}
        call = {"id": f"c{number}", "type": "function", "function": function}
        messages += [{"role": "assistant", "content": None, "tool_calls": [call]}]
        messages += [{"role": "tool", "tool_call_id": f"c{number}", "content": result}]
    return messages


def report(step: str, rows: list[Any] | None = None, **facts: Any) -> str:
    return "shown first\nANALYST " + json.dumps({"step": step, "rows": rows or [], **facts})


LOADED = report("load", file="t.csv", names=["t.csv"], table_rows=500, others=[])
PROFILED = report("profile", [["sales", "number", 0, 90], ["city", "category", 0, 4]], table_columns=2)


def source_of(completion: Completion) -> str:
    return str(json.loads(completion.tool_calls[0].arguments)["python_code"])


def test_factors_are_ranked_by_numbers_that_numpy_finds_too(traffic: Asked) -> None:
    answer = traffic(FACTORS)
    made = runpy.run_path(str(MAKE_TRAFFIC))
    data, names = np.array(made["make_rows"](), dtype=float), made["COLUMNS"]
    standard = (data - data.mean(axis=0)) / data.std(axis=0)
    y, x = standard[:, 0], standard[:, 1:]
    coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
    r_squared = 1 - ((y - x @ coefficients) ** 2).sum() / (y**2).sum()
    assert f"Linear regression on all factors: R² = {r_squared:.3f}" in answer
    lines = re.findall(r"^\d\. (\w+): Pearson (\S+), Spearman \S+, standardised coefficient (\S+), ", answer, re.M)
    assert len(lines) == 8
    for name, pearson, coefficient in lines:
        column = names.index(name)
        assert float(pearson) == pytest.approx(np.corrcoef(data[:, column], data[:, 0])[0, 1], abs=6e-4)
        assert float(coefficient) == pytest.approx(coefficients[column - 1], abs=6e-4)
    assert "What goes with accidents most" in answer
    assert "held-out R² = 0." in answer
    assert "not proof of cause" in answer
    assert len(traffic.figures) == 1


def test_relation_has_direction_slope_and_correlation(traffic: Asked) -> None:
    answer = traffic("How does rain influence accidents?")
    made = runpy.run_path(str(MAKE_TRAFFIC))
    data, names = np.array(made["make_rows"](), dtype=float), made["COLUMNS"]
    rain = data[:, names.index("rain_intensity")]
    assert "Higher rain_intensity goes with higher accidents." in answer
    assert f"Pearson {np.corrcoef(rain, data[:, 0])[0, 1]:+.3f}" in answer
    assert f"goes with {np.polyfit(rain, data[:, 0], 1)[0]:.5g} more of accidents" in answer


def test_second_question_finds_the_table_loaded(traffic: Asked) -> None:
    traffic("describe the data")
    answer = traffic("Plot accidents by traffic density")
    assert len(traffic.cells) == 1
    assert "accidents by traffic_density, 8,756 points" in answer
    assert traffic.figures[0].startswith(b"\x89PNG")


def test_totals_of_groups_are_right(traffic: Asked) -> None:
    answer = traffic("Which hours of the day have the most accidents?")
    made = runpy.run_path(str(MAKE_TRAFFIC))
    totals: Counter[int] = Counter()
    for row in made["make_rows"]():
        totals[row[-1]] += row[0]
    found = re.findall(r"^\d\. (\d+): total ([\d,]+),", answer, re.M)
    assert [(int(hour), int(total.replace(",", ""))) for hour, total in found] == totals.most_common(5)


def test_neighborhoods_with_most_accidents_are_counted_in_rows(denver: Asked) -> None:
    answer = denver("Which neighborhoods have the most accidents?")
    with DENVER.open(newline="") as file:
        counts = Counter(row["NEIGHBORHOOD_ID"] for row in csv.DictReader(file) if row["NEIGHBORHOOD_ID"])
    found = re.findall(r"^\d\. (\S+): (\d+) ", answer, re.M)
    assert [(name, int(count)) for name, count in found] == counts.most_common(5)
    assert "each row is counted as one" in answer
    assert len(denver.figures) == 1


def test_factors_of_events_are_not_made_up(denver: Asked) -> None:
    answer = denver(FACTORS)
    assert "Each row is one event" in answer
    assert "R²" not in answer
    assert "baker" in answer


def test_small_table_with_spaces_and_accents_is_answered_with_a_warning(sandbox: Session, tmp_path: Path) -> None:
    path = write(tmp_path, "kleine tabelle.csv", "Stadt;Umsatz (€);Größe\nKöln;10;1\nBonn;30;3\nЖ город;20;2\n")
    ask = Asked(sandbox, path)
    answer = ask("What influences Umsatz?")
    assert "1. Größe: Pearson +1.000" in answer
    assert "only 3 rows: too few" in answer
    assert "No regression: 3 rows are too few" in answer
    assert "1. Bonn: total 30" in ask("Which stadt has the highest umsatz?")


def test_constant_and_empty_targets_are_named_as_such(sandbox: Session, tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 7},5,\n" for i in range(40))
    ask = Asked(sandbox, write(tmp_path, "odd.csv", f"x,y,same,nothing\n{rows}"))
    assert "same is the same in every row" in ask("What drives same?")
    assert "nothing holds no values at all" in ask("Which factors contribute to nothing?")
    assert "no column for “happiness”" in ask("What influences happiness?")


@pytest.mark.parametrize("suffix", ["tsv", "json", "jsonl", "xlsx", "parquet"])
def test_kinds_of_files_give_the_same_answer(sandbox: Session, suffix: str) -> None:
    writers = {"tsv": "to_csv(path, sep='\\t', index=False)", "json": "to_json(path, orient='records')"}
    writers |= {"jsonl": "to_json(path, orient='records', lines=True)", "xlsx": "to_excel(path, index=False)"}
    writer = writers.get(suffix, "to_parquet(path)")
    table = "pd.DataFrame({'shop': list('abcab') * 8, 'sales': range(40)})"
    sandbox.execute(f"import pandas as pd\npath = '/mnt/data/shops.{suffix}'\n{table}.{writer}").raise_for_error()
    agent = PythonExecAgent(language_model_interface=OfflineAnalyst(), session=sandbox)
    agent.add_context(f"It is in shops.{suffix}")
    answer = agent.task("average sales by shop")
    assert "1. b: total 320, mean 20, median 20, 16 rows" in answer


def test_broken_file_ends_in_an_honest_answer(sandbox: Session, tmp_path: Path) -> None:
    agent = PythonExecAgent(language_model_interface=OfflineAnalyst(), session=sandbox)
    sandbox.files.upload(write(tmp_path, "void.csv", ""))
    agent.add_context("/mnt/data/void.csv")
    answer = agent.task("describe the data")
    assert "could not load a table; a simpler way failed too" in answer


def test_large_table_is_sampled_for_the_forest_and_says_so(sandbox: Session) -> None:
    make = """
import numpy as np, pandas as pd
rng = np.random.default_rng(0)
big = pd.DataFrame({"charge": rng.normal(50, 10, 120_000), "plan": rng.choice(["a", "b"], 120_000)})
big["left"] = np.where(big["charge"] + rng.normal(0, 10, 120_000) > 50, "yes", "no")
big.to_csv("/mnt/data/big.csv", index=False)
"""
    sandbox.execute(make).raise_for_error()
    agent = PythonExecAgent(language_model_interface=OfflineAnalyst(), session=sandbox)
    answer = agent.task("Using big.csv, what are the drivers of left?")
    assert "random sample of 20,000 rows only" in answer
    assert "1 stands for “left = yes”" in answer
    assert "1. charge: " in answer


def test_nonsense_is_refused_without_a_cell() -> None:
    completion = complete(user("/mnt/data/t.csv"), user("What is the meaning of life?"))
    assert completion.tool_calls == ()
    assert "I cannot answer this" in completion.content
    assert "which factors contribute most to X" in completion.content
    assert "OPENAI_API_KEY" in completion.content


def test_without_the_tool_it_says_what_it_needs() -> None:
    assert "I need the sandbox's tool execute_python_code" in complete(user("describe the data"), tools=None).content


def test_same_conversation_has_the_same_completion() -> None:
    messages = converse(FACTORS.replace("accident frequency", "sales"), LOADED, PROFILED)
    first, second = complete(*messages), complete(*messages)
    assert first == second
    assert first.tool_calls[0].id == "call_offline_3"
    assert 'target = "sales"\nnumbers = []\ncategories = ["city"]' in source_of(first)


def test_condition_that_no_rule_applies_is_named_before_the_numbers() -> None:
    results = [LOADED, PROFILED, report("group_values", [["Oslo", 2, 7, 3.5, 3.5]], groups=4), report("bars")]
    for condition in ("in 2014", "since last May", "where it rains more than 5", "without the suites", "on weekends"):
        answer = complete(*converse(f"Which cities have the highest sales {condition}?", *results)).content
        assert answer.split("\n\n")[1].startswith(f"Not taken into account: “{condition}”."), answer
        assert "for all rows" in answer
    assert "“large”" in complete(*converse("average large sales by city", *results)).content
    assert (
        "Not taken into account" not in complete(*converse("Which 3 cities have the highest sales?", *results)).content
    )


@pytest.mark.parametrize(
    ("question", "used", "phrases"),
    [
        (FACTORS, ["accidents", "traffic.csv"], []),
        ("Using big.csv, what are the drivers of left?", ["left", "big.csv"], []),
        ("on which weekdays do most accidents happen", ["accidents"], []),
        ("How does rain influence speed when it is above 50?", ["rain_intensity", "speed"], ["when it is above 50"]),
        (
            "Which towns had the most fatal crashes during the winter?",
            ["town", "crashes"],
            ["fatal", "during the winter"],
        ),
        ("How many orders per customer did not arrive?", ["orders", "customer"], ["not arrive"]),
    ],
)
def test_words_without_a_part_in_the_answer_are_found(question: str, used: list[str], phrases: list[str]) -> None:
    assert ignored(question, used) == phrases


def test_rows_are_counted_though_the_phrase_has_a_condition() -> None:
    counted = report("group_counts", [["a", 3]], groups=1, counted=3)
    messages = converse("Which city has the most incidents in 2014?", LOADED, PROFILED, counted, report("bars"))
    answer = complete(*messages).content
    assert "Not taken into account: “in 2014”" in answer
    assert "1. a: 3 (100.0%)" in answer


def test_variables_are_loaded_again_once_where_the_kernel_says_that_they_went() -> None:
    question, before = "average sales by city", (LOADED, PROFILED)
    failed = "ValueError: the orders are lost, NameError"  # the data's own words decide nothing
    gone, there = report("variables", there=0), report("variables", there=1)
    assert source_of(complete(*converse(question, *before, failed))).startswith("# Are the variables")
    assert source_of(complete(*converse(question, *before, failed, gone))).startswith(LOAD)
    twice = converse(question, *before, failed, gone, *before, failed, gone)
    assert "lost its variables twice" in complete(*twice).content
    kept = complete(*converse(question, *before, failed, there))
    assert "ValueError: the orders are lost" in kept.content


def test_question_after_a_restart_loads_its_table_again(sandbox: Session, tmp_path: Path) -> None:
    ask = Asked(sandbox, write(tmp_path, "tides.csv", "hour,level\n1,10\n2,30\n3,20\n"))
    before = ask("Describe tides.csv")
    sandbox.restart()
    assert ask("Describe tides.csv") == before
    first_lines = [cell.source.splitlines()[0] for cell in ask.cells]
    assert first_lines[:3] == ["# Numbers in short.", "# Are the variables of the cells above still there?", LOAD]


def test_failing_cell_has_one_simpler_try_and_is_then_told() -> None:
    messages = converse("describe the data", "ParserError: bad line 3")
    assert source_of(complete(*messages)).startswith("# Read the file once more, as plain text")
    answer = complete(*converse("describe the data", "ParserError: bad line 3", "[Error] refused")).content
    assert "could not load a table" in answer
    assert "ParserError: bad line 3" in answer


@pytest.mark.parametrize("rows", [[[]], [["x", None]], [[{"a": 1}, "b", [], 10**400]], "no list", None])
def test_hostile_reports_do_not_break_it(rows: Any) -> None:
    odd = "ANALYST " + json.dumps({"step": "group_values", "rows": rows, "groups": "many", "used": 1e999})
    answer = complete(*converse("average sales by city", LOADED, PROFILED, odd, report("bars"))).content
    assert "The groups of city" in answer


def test_values_enter_cells_as_literals_only() -> None:
    name = 'a"); import os #\n\\ 日本 😀'
    source = NotebookCell("histogram", {"column": name}).source
    assignment = next(line for line in source.splitlines() if line.startswith("column = "))
    scope: dict[str, Any] = {}
    exec(compile(assignment, "cell", "exec"), scope)
    assert scope["column"] == name
    assert source.count("import os") == 1


@pytest.mark.parametrize("path", sorted(CELLS.glob("*.py")), ids=lambda path: path.stem)
def test_cells_read_like_a_notebook(path: Path) -> None:
    source = NotebookCell(path.stem).source
    assert source.startswith("# ")
    assert "# parameter" not in source
    assert "mypy" not in source
    assert len(source.splitlines()) <= 70
    compile(source, path.name, "exec")


@pytest.mark.parametrize(
    ("text", "kind", "target", "by"),
    [
        (FACTORS, "factors", "accident frequency", ""),
        ("which variables influence price the most?", "factors", "price the most", ""),
        ("Drivers of churn", "factors", "churn", ""),
        ("What most affects the temperature?", "factors", "temperature", ""),
        ("How does X influence Y?", "relation", "y", "x"),
        ("is there a correlation between age and income?", "relation", "income", "age"),
        ("How does income vary with age?", "relation", "income", "age"),
        ("which groups are highest in X", "groups", "in x", "groups"),
        ("give me the top 3 cities by sales", "groups", "sales", "cities"),
        ("rank the districts by accidents", "groups", "accidents", "districts"),
        ("Which city sold most?", "groups", "sold", "city"),
        ("which two shops earned the least", "groups", "earned", "two shops"),
        ("How are age and income related?", "relation", "income", "age"),
        ("Which feature is most important for price?", "factors", "price", ""),
        ("Please plot sales by month.", "plot", "sales", "month"),
        ("make a scatter plot of a vs b", "plot", "a", "b"),
        ("summarise", "describe", "", ""),
        ("What is in this file?", "describe", "", ""),
    ],
)
def test_questions_are_parsed(text: str, kind: str, target: str, by: str) -> None:
    question = parse_question(text)
    assert question is not None
    assert (question.kind, question.target, question.by) == (kind, target, by)


@pytest.mark.parametrize(
    "text", ["", "hello", "write a poem", "What is the capital of France?", "delete all files", "?" * 99]
)
def test_other_questions_are_not(text: str) -> None:
    assert parse_question(text) is None


def test_files_are_found_by_name_the_last_first() -> None:
    said = ["/mnt/data/my table.csv", "sales.xlsx\n1,2", "Describe “other.tsv”"]
    conversation = read_conversation([user(text) for text in said])
    assert conversation.files == ("other.tsv", "sales.xlsx", "my table.csv", "table.csv")


def test_as_file_agent_it_calls_the_file_tool() -> None:
    tools = [{"type": "function", "function": {"name": "safe_file_access"}}]
    completion = complete(user("Use the file traffic.csv"), tools=tools)
    assert json.loads(completion.tool_calls[0].arguments) == {"filename": "traffic.csv"}
