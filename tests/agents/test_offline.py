"""The two fixed analyses, against numbers computed here; what they refuse; and what a hostile table can do to them."""

from __future__ import annotations

import json
import math
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kernel_sandbox import Execution, NoAnswer, Session
from kernel_sandbox.agents import AgentEvent, CellFinished, Completion, PythonExecAgent
from kernel_sandbox.agents.offline import OfflineAnalyst
from kernel_sandbox.session.outputs import StreamOutput
from tests.conftest import missing

MAKE_TRAFFIC = Path(__file__).parents[2] / "notebooks" / "make_traffic_data.py"
CELLS = Path(__file__).parents[2] / "kernel_sandbox" / "agents" / "offline" / "cells"
SHOPS = pd.DataFrame(
    {
        "shop": list("abcab") * 8,
        "plan": [("old", "new")[n % 5 == 0 or n > 30] for n in range(40)],
        "sold": [n * 7 % 11 for n in range(40)],
        "paid": [None if n % 10 == 3 else n * 7 % 11 + n % 3 for n in range(40)],
        "note": [f"text {n}" for n in range(40)],
        "same": [1] * 40,
    }
)


class Asked:
    """An agent on one file, and the cells that it ran."""

    def __init__(self, session: Session, path: Path | None = None) -> None:
        self.cells: list[Execution] = []
        self.agent = PythonExecAgent(language_model_interface=OfflineAnalyst(), session=session, on_event=self._keep)
        if path is not None:
            self.bring(session, path)

    def bring(self, session: Session, path: Path) -> None:
        name = session.files.upload(path).name
        self.agent.add_context(f"Copied {name} into the sandbox: /mnt/data/{name} (1 KB).\nIt says /mnt/data/other.csv")

    def _keep(self, event: AgentEvent) -> None:
        if isinstance(event, CellFinished):
            self.cells.append(event.execution)

    def __call__(self, question: str) -> str:
        """Ask; what its cells wrote to stderr must be nothing: a warning would stand in the user's notebook."""
        self.cells.clear()
        answer = self.agent.task(question)
        outputs = [output for cell in self.cells for output in cell.outputs if isinstance(output, StreamOutput)]
        assert [output.text for output in outputs if output.name == "stderr"] == []
        assert [cell.status for cell in self.cells] == ["ok", "ok"]
        first = answer.splitlines()[0]
        assert first.startswith("(A fixed analysis, “")
        assert "no language model has read the question or the data" in first
        return answer

    @property
    def figures(self) -> list[bytes]:
        return [data for cell in self.cells for kind, data in cell.pictures if kind == "image/png"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Session]:
    if reason := missing("docker"):
        pytest.skip(reason)
    with Session(engine="docker", image="datascience") as opened:
        yield opened


@pytest.fixture(scope="module")
def shops(sandbox: Session, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    path = tmp_path_factory.mktemp("data") / "shops.csv"
    SHOPS.to_csv(path, index=False)
    return Asked(sandbox, path)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def compared(answer: str) -> list[tuple[str, float]]:
    """The columns of an answer and how closely they go with the one that was asked about, in its order."""
    found = re.findall(r"^\d+\. (.+?): (?:Pearson|correlation ratio|Cramér's V) ([-+.\d]+)", answer, re.MULTILINE)
    return [(name, float(value)) for name, value in found]


def test_table_is_described_by_what_pandas_finds_too(shops: Asked) -> None:
    answer = shops("Describe this table.")
    assert "Source: shops.csv, 40 rows, 6 columns." in answer
    for name in ("sold", "paid", "same"):
        values = SHOPS[name]
        line = re.search(
            rf"^- {name}: number, (\S+) to (\S+), median (\S+), mean (\S+), standard deviation ([.\d]+)", answer, re.M
        )
        assert line is not None
        wanted = [values.min(), values.max(), values.median(), values.mean(), values.std()]
        assert [float(text) for text in line.groups()] == pytest.approx(wanted, rel=1e-4)
    assert ", 4 missing\n" in answer
    assert "- shop: category, 3 different, most often a (16), b (16), c (8)\n" in answer
    assert "- note: text, 40 different, most often " in answer
    assert len(shops.figures) == 1


def test_numbers_are_compared_by_their_correlation(sandbox: Session, tmp_path: Path) -> None:
    runpy.run_path(str(MAKE_TRAFFIC))["write_csv"](tmp_path / "traffic.csv")
    data = pd.read_csv(tmp_path / "traffic.csv")
    ask = Asked(sandbox, tmp_path / "traffic.csv")
    answer = ask("What goes with accidents?")
    wanted = data.corr()["accidents"].drop("accidents").sort_values(key=abs, ascending=False)
    assert [name for name, _ in compared(answer)] == list(wanted.index)
    assert [value for _, value in compared(answer)] == pytest.approx(list(wanted), abs=6e-4)
    ranks = data.rank().corr()["accidents"]
    for name, value in re.findall(r"^\d\. (\w+): Pearson \S+, Spearman (\S+) \(8,756 rows\)$", answer, re.M):
        assert float(value) == pytest.approx(ranks.pop(name), abs=6e-4)
    assert list(ranks.index) == ["accidents"]
    assert "not proof of cause" in answer
    assert len(ask.figures) == 1


def test_groups_are_compared_by_what_lies_between_them(shops: Asked) -> None:
    """The correlation ratio squared is 1 less the share of the variance that is within the groups."""
    answer = shops("what goes with SOLD")
    found = dict(compared(answer))
    for name in ("shop", "plan"):
        groups = SHOPS.groupby(name)["sold"]
        within = sum(((values - values.mean()) ** 2).sum() for _, values in groups)
        whole = ((SHOPS["sold"] - SHOPS["sold"].mean()) ** 2).sum()
        assert found[name] == pytest.approx(math.sqrt(1 - within / whole), abs=6e-4)
    both = SHOPS.dropna()
    assert found["paid"] == pytest.approx(both["sold"].corr(both["paid"]), abs=6e-4)
    assert "(36 rows)" in answer
    assert "Not compared (2): note, same." in answer


def test_two_groupings_are_compared_by_cramers_v(shops: Asked) -> None:
    """Chi squared by its other formula: the sum of n² / (row · column), less 1, times the rows."""
    found = dict(compared(shops("What goes with shop?")))
    cells, rows, columns = (
        Counter(zip(SHOPS["shop"], SHOPS["plan"], strict=True)),
        Counter(SHOPS["shop"]),
        Counter(SHOPS["plan"]),
    )
    squares = sum(n**2 / (rows[shop] * columns[plan]) for (shop, plan), n in cells.items()) - 1
    assert found["plan"] == pytest.approx(math.sqrt(squares), abs=6e-4)
    assert found["sold"] == dict(compared(shops("What goes with sold?")))["shop"]


@pytest.mark.parametrize(
    ("text", "described", "refused"),
    [
        ("a,b\nx,y\nx,z\n", "- a: category, 1 different, most often x (2)\n", "can be compared with a"),
        ("a,b\n1,x\n", "- a: number, 1 to 1, median 1, mean 1, standard deviation unknown\n", "can be compared with a"),
        ("a,b\n", "Source: t.csv, 0 rows, 2 columns.", "can be compared with a"),
        ("a\n1\n2\n3\n4\n5\n", "- a: number, 1 to 5, median 3", "can be compared with a"),
        ("a,b\n1,\n2,\n3,\n4,\n5,\n", "- b: empty, 5 missing", "can be compared with a"),
    ],
    ids=["no numbers", "one row", "no rows", "one column", "an empty column"],
)
def test_small_tables_are_described_and_not_compared(
    sandbox: Session, tmp_path: Path, text: str, described: str, refused: str
) -> None:
    ask = Asked(sandbox, write(tmp_path, "t.csv", text))
    assert described in f"{ask('describe')}\n"
    with pytest.raises(NoAnswer, match=refused):
        ask("what goes with a")


def test_few_rows_are_warned_of(sandbox: Session, tmp_path: Path) -> None:
    ask = Asked(sandbox, write(tmp_path, "kleine tabelle.csv", "Größe;Umsatz (€)\n1;10\n2;20\n3;30\n4;40\n5;50\n"))
    answer = ask("What goes with Umsatz (€)?")
    assert compared(answer) == [("Größe", 1.0)]
    assert "There are only 5 rows: too few" in answer


@pytest.mark.parametrize(
    ("names", "question", "meant"),
    [
        ("sold,price", "What goes with sold, as sold as it is?", "sold"),
        ("Sold,price", "what goes with SOLD", "Sold"),
        ("sold,Sold", "what goes with Sold", "Sold"),
        ("rent,rent per room", "What goes with rent per room?", "rent per room"),
        ("rent,rent per room", "what goes with the  rent", "rent"),
        ("rent_net,rent", "What goes with rent?", "rent"),
        ("names,sold", "What goes with sold in names.csv?", "sold"),
        ("売上高,店", "What goes with 売上高?", "売上高"),
        ("with,goes", "What goes with with?", "with"),
    ],
)
def test_column_is_found_by_its_name(names: str, question: str, meant: str) -> None:
    columns = names.split(",")
    completion = complete(*converse(question, report("load", *([name] for name in columns), file="names.csv")))
    assert f"target = {meant!r}\n" in source_of(completion)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("What goes with happiness?", "“happiness?” names no column of the table, which has: sold, Sold, city"),
        ("What goes with resold goods?", "names no column"),
        ("What goes with sold in each city?", "more than one column: sold, city. Ask about one"),
        ("What goes with SOLD?", "more than one column: sold, Sold. Ask about one"),
    ],
)
def test_question_that_names_no_column_or_several_is_refused(question: str, said: str) -> None:
    with pytest.raises(NoAnswer) as refused:
        complete(*converse(question, report("load", ["sold"], ["Sold"], ["city"], file="t.csv")))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "question",
    [
        "Which city sold most?",
        "What factors contribute the most to accident frequency?",
        "describe the relation between rain and speed",
        "Tell me what goes with sold",
        "What goes with?",
        "what goes without saying",
        "",
    ],
)
def test_other_question_needs_a_model_and_runs_nothing(question: str) -> None:
    with pytest.raises(NoAnswer, match='two fixed analyses: "describe this table" and "what goes with COLUMN"'):
        complete(*converse(question))


@pytest.mark.parametrize(
    "name",
    [
        'a"); import os #',
        "line\nbreak",
        "\u202eevil\u200b",
        "$x^{",
        "![x](https://evil.example/)",
        "<b>&amp;",
        "x" * 300,
        "日本 😀",
    ],
    ids=ascii,
)
def test_hostile_name_of_a_column_is_a_name_and_nothing_else(sandbox: Session, tmp_path: Path, name: str) -> None:
    path = tmp_path / "hostile.csv"
    pd.DataFrame({name: [1, 2, 3, 4, 5, 6], "n": [2, 4, 6, 8, 10, 12]}).to_csv(path, index=False)
    ask = Asked(sandbox, path)
    assert len(re.findall(r"^- .*: number, ", ask("describe this table"), re.M)) == 2
    assert [value for _, value in compared(ask("what goes with n"))] == [1.0]
    assert compared(ask(f"What goes with {name}?")) == [("n", 1.0)]
    first = ask.cells[1].source.splitlines()[1]
    scope: dict[str, Any] = {}
    exec(compile(first, "cell", "exec"), scope)
    assert scope["target"] == name
    assert first.isprintable()


@pytest.mark.parametrize("suffix", ["tsv", "json", "jsonl", "xlsx", "parquet"])
def test_kinds_of_files_give_the_same_answer(sandbox: Session, shops: Asked, suffix: str) -> None:
    writers = {"tsv": "to_csv(path, sep='\\t', index=False)", "json": "to_json(path, orient='records')"}
    writers |= {"jsonl": "to_json(path, orient='records', lines=True)", "xlsx": "to_excel(path, index=False)"}
    made = f"import pandas as pd\npath = '/mnt/data/again.{suffix}'\npd.read_csv('shops.csv')"
    sandbox.execute(f"{made}.{writers.get(suffix, 'to_parquet(path)')}").raise_for_error()
    ask = Asked(sandbox)
    ask.agent.add_context(f"It is in /mnt/data/again.{suffix}")
    assert compared(ask("what goes with sold")) == compared(shops("what goes with sold"))


def test_lists_in_a_table_are_compared_as_texts(sandbox: Session, tmp_path: Path) -> None:
    rows = [{"tags": ["a"] if n % 2 else ["b", {}], "n": n % 2 * 3} for n in range(20)]
    ask = Asked(sandbox, write(tmp_path, "lists.json", json.dumps(rows)))
    assert compared(ask("what goes with n")) == [("tags", 1.0)]


def test_table_that_was_brought_last_is_meant_and_the_others_are_told(sandbox: Session, tmp_path: Path) -> None:
    ask = Asked(sandbox, write(tmp_path, "first.csv", "a\n1\n"))
    ask.bring(sandbox, write(tmp_path, "second.csv", "b\n1\n"))
    answer = ask("describe this table")
    assert re.search(r"Source: second\.csv, 1 row, 1 column\. I have not looked at \d+ other files?\.", answer)
    assert "- b: number" in answer


def test_table_that_nobody_names_is_the_newest(sandbox: Session, tmp_path: Path) -> None:
    sandbox.files.upload(write(tmp_path, "newest.csv", "c\n1\n"))
    assert "Source: newest.csv, 1 row" in Asked(sandbox)("describe this table")


def test_question_after_a_restart_has_the_same_answer(sandbox: Session, shops: Asked) -> None:
    before = shops("describe this table")
    sandbox.restart()
    assert shops("describe this table") == before


def test_file_that_is_no_table_ends_the_question(sandbox: Session, tmp_path: Path) -> None:
    ask = Asked(sandbox, write(tmp_path, "void.csv", ""))
    with pytest.raises(NoAnswer, match="The analysis failed: EmptyDataError: No columns to parse from file"):
        ask("describe this table")


def test_cell_that_did_not_run_ends_the_question() -> None:
    with pytest.raises(NoAnswer, match=r"failed: \[Not run\.\] The cell was refused: no"):
        complete(*converse("describe this table", "[Not run.] The cell was refused: no"))
    with pytest.raises(NoAnswer, match="failed: ValueError: odd"):
        complete(*converse("describe this table", report("load"), "ValueError: odd\n[Variables are kept.]"))


TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "execute_python_code"}}]


def complete(*messages: dict[str, Any]) -> Completion:
    return OfflineAnalyst().generate_completion("any", [{"role": "developer", "content": "…"}, *messages], TOOLS)


def converse(question: str, *results: str) -> list[dict[str, Any]]:
    """A conversation in which cells had these results."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": text} for text in ("/mnt/data/t.csv", question)]
    for number, result in enumerate(results, 1):
        function = {"name": "execute_python_code", "arguments": "{}"}
        call = {"id": f"c{number}", "type": "function", "function": function}
        messages += [{"role": "assistant", "content": None, "tool_calls": [call]}]
        messages += [{"role": "tool", "tool_call_id": f"c{number}", "content": result}]
    return messages


def report(step: str, *rows: list[Any], **facts: Any) -> str:
    """What a cell reports, among what it shows."""
    lines = [{"step": step, **facts}, *({"step": step, "row": row} for row in rows)]
    return "shown first\n" + "\n".join(f"ANALYST {json.dumps(line)}" for line in lines)


def source_of(completion: Completion) -> str:
    return str(json.loads(completion.tool_calls[0].arguments)["python_code"])


def test_same_conversation_has_the_same_completion() -> None:
    messages = converse("what goes with sold", report("load", ["sold"], file="t.csv"))
    first, second = complete(*messages), complete(*messages)
    assert first == second
    assert first.tool_calls[0].id == "call_offline_2"
    assert "file = 't.csv'\n" in source_of(complete(*messages[:2]))


ROW = ["city", "Pearson", 0.5, 0.4, None, 40]


@pytest.mark.parametrize(
    "row",
    [
        [],
        ["x", None],
        [{"a": 1}, "b", [], 10**400, "d", True],
        [None] * 6,
        ["a\nb", "Pearson\n\n# Yes", 1e999, 0, 0, 0],
    ],
)
def test_hostile_report_does_not_break_the_answer(row: list[Any]) -> None:
    found = report("goes_with", ROW, row, used="many", compared=1e999, left_out=[])
    answer = complete(*converse("what goes with sold", report("load", ["sold"], file={"a": 1}), found)).content
    assert "1. city: Pearson +0.500, Spearman +0.400 (40 rows)" in answer
    assert "\n# Yes" not in answer


def test_report_of_another_step_or_of_no_json_is_none() -> None:
    odd = "\n".join(["ANALYST {1}", "ANALYST " + "[" * 10_000, 'ANALYST {"step": "describe"}', "RuntimeError: x"])
    with pytest.raises(NoAnswer, match="RuntimeError: x"):
        complete(*converse("describe this table", odd))


@pytest.mark.parametrize("path", sorted(CELLS.glob("*.py")), ids=lambda path: path.stem)
def test_cells_read_like_a_notebook(path: Path) -> None:
    loaded = report("load", ["sold"], file="t.csv")
    questions = {"load": converse("describe"), "describe": converse("describe", loaded)}
    source = source_of(complete(*questions.get(path.stem, converse("what goes with sold", loaded))))
    assert source.startswith("# ")
    assert "# parameter" not in source
    compile(source, path.name, "exec")
