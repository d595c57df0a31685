"""%ask: an agent's steps on the page, against a model server on loopback and the fixed analyses."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox.doors.magic.ask_magic import interpolate
from kernel_sandbox.doors.magic.magic_options import BadOptions, HelpAsked, parse_ask
from tests.agents.model_server import Call, Fail, Hang, ModelServer, Say, Slow, model_server
from tests.doors.magic.host import Host, Ran

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def cell(source: str, text: str = "") -> Call:
    return Call([("execute_python_code", {"python_code": source})], text)


@pytest.fixture
def server(host: Host) -> Iterator[ModelServer]:
    """A model server that the notebook's kernel asks; the tests put its replies in."""
    with model_server() as made:
        host.run(f"import os\nos.environ['OPENAI_BASE_URL'] = {made.url!r}\nos.environ['OPENAI_API_KEY'] = 'none'")
        host.run("%sandbox start")
        yield made
        host.run("del os.environ['OPENAI_BASE_URL'], os.environ['OPENAI_API_KEY']")
        host.run("%sandbox shutdown")


def displays(ran: Ran) -> dict[str, dict[str, Any]]:
    """The last state of each display, by the end of its id, in the order of their first appearance."""
    last: dict[str, dict[str, Any]] = {}
    for _, kind, content in ran.messages:
        if kind in ("display_data", "update_display_data"):
            last[content["transient"]["display_id"].split("-", 2)[2]] = content["data"]
    return last


def test_steps_stream_and_end_with_the_answer(host: Host, server: ModelServer) -> None:
    server.replies += [
        Slow(cell("print(6 * 7)", "I shall **multiply**."), 0.05),
        Slow(Say("It is **42**, of course, as everybody knows."), 0.05),
    ]
    ran = host.run("%ask What is six times seven?")
    last = displays(ran)
    assert list(last) == ["status", "text-1", "cell-1", "text-2"]
    assert last["text-1"]["text/markdown"] == "I shall **multiply**."
    assert last["text-2"]["text/markdown"] == "It is **42**, of course, as everybody knows."
    assert "✓ o3-mini · 1 cell" in last["status"]["text/plain"]
    assert "220 tokens" in last["status"]["text/plain"]
    assert "<details><summary" in last["cell-1"]["text/html"]
    assert "print(6 * 7)" in last["cell-1"]["text/html"]
    assert ">42</pre>" in last["cell-1"]["text/html"]
    assert "42" in last["cell-1"]["text/plain"]
    texts = [c["data"].get("text/markdown", "") for _, k, c in ran.messages if k == "update_display_data"]
    assert any(text and text != last["text-2"]["text/markdown"] and "It is" in text for text in texts), "it streamed"
    assert server.requests[0]["messages"][-1]["content"] == "What is six times seven?"


def test_recipient_of_the_data_is_said_before_the_first_step(host: Host, server: ModelServer) -> None:
    server.replies += [Say("first"), Say("second")]
    ran = host.run("%ask --new one")
    assert f"o3-mini (default) at {server.url} (OPENAI_BASE_URL in the environment)" in ran.stream()
    kinds = [kind for _, kind, _ in ran.messages]
    assert kinds.index("stream") < kinds.index("display_data")
    host.run("os.environ['OPENAI_BASE_URL'] = 'http://127.0.0.1:1/v1'")
    assert f" at {server.url} " in host.run("%ask two").stream(), "the agent goes on with the server that it began with"
    assert len(server.requests) == 2


def test_running_cell_is_open_and_shows_output_before_its_end(host: Host, server: ModelServer) -> None:
    server.replies += [cell("import time\nfor n in range(3):\n    print('line', n)\n    time.sleep(0.5)"), Say("Done.")]
    ran = host.run("%ask go")
    seen = [
        c["data"]["text/html"] for _, k, c in ran.messages if "text/html" in c.get("data", {}) and "<details" in str(c)
    ]
    assert "<details open>" in seen[0]
    assert any("line 0" in html and "line 2" not in html for html in seen)


def test_hostile_words_and_outputs_are_text(host: Host, server: ModelServer) -> None:
    evil = "<img src=x onerror=alert(1)>"
    server.replies += [cell(f"print('{evil}')\n'''{evil}'''"), Say(f"{evil} \\` {evil} `")]
    last = displays(host.run("%ask go"))
    html = "".join(data.get("text/html", "") + data.get("text/markdown", "") for data in last.values())
    assert "<img" not in html
    assert "&lt;img" in html


def test_figures_are_below_the_folded_cell(host: Host, server: ModelServer) -> None:
    server.replies += [cell("import matplotlib.pyplot as plt\nplt.plot([1, 2]);"), Say("See the figure.")]
    html = displays(host.run("%ask plot"))["cell-1"]["text/html"]
    assert html.index("</details>") < html.index('src="data:image/png;base64,')


def test_fenced_cell_is_shown_and_handed_on_as_it_runs(host: Host, server: ModelServer) -> None:
    server.replies += [cell("```python\nprint(6 * 7)\n```"), Say("It is 42.")]
    ran = host.run("%ask --cells go")
    assert "```" not in displays(ran)["cell-1"]["text/html"]
    (payload,) = ran.reply["payload"]
    assert payload["text"] == "%%sandbox\nprint(6 * 7)"


def test_cells_go_into_a_new_cell(host: Host, server: ModelServer) -> None:
    server.replies += [cell("a = 1"), cell("1/0"), cell("print(a)"), Say("1")]
    (payload,) = host.run("%ask --cells go").reply["payload"]
    assert payload["source"] == "set_next_input"
    assert payload["text"] == "%%sandbox\n# %% 1\na = 1\n\n# %% 2\nprint(a)"
    assert host.run(payload["text"]).stream() == "1\n"


def test_variables_and_files_are_brought_in(host: Host, server: ModelServer, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text("city,sold\nOslo,3\n")
    server.replies += [cell("print(df['n'].sum(), k, open('sales.csv').readline())"), Say("ok")]
    host.run("import pandas as pd; df = pd.DataFrame({'n': [1, 2]}); k = {'a': 1}; who = 'you'")
    ran = host.run(f"%%ask --data df --data k --data {tmp_path}/sales.csv\nSum for {{who}}, {{nobody}}\nand more")
    assert "3 {&#x27;a&#x27;: 1} city,sold" in displays(ran)["cell-1"]["text/html"]
    said = [str(message["content"]) for message in server.requests[0]["messages"]]
    assert said[-1] == "Sum for you, {nobody}\nand more"
    assert any("DataFrame df is in the kernel as df, and in the file /mnt/data/df.parquet" in text for text in said)
    assert any("variable k (dict)" in text for text in said)
    assert any("/mnt/data/sales.csv" in text for text in said)
    assert "no variable and no file" in host.run("%ask --data nothing go").failure


def test_link_that_leads_out_of_the_directory_is_no_data(host: Host, server: ModelServer, tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "theirs"
    home.mkdir()
    here.mkdir()
    (home / "secret.csv").write_text("key\n4711\n")
    (here / "there").symlink_to(home)
    host.run(f"before = os.getcwd(); os.chdir({str(here)!r})")
    try:
        failed = host.run("%ask --data there/secret.csv go").failure
        assert f"{home}/secret.csv, by a link in this directory" in failed
        told = host.run("%sandbox upload there/secret.csv").stream()
        assert f"that is {home}/secret.csv, by a link in this directory" in told
    finally:
        host.run("os.chdir(before)")
    assert server.requests == []


def test_conversation_goes_on_until_it_is_new(host: Host, server: ModelServer) -> None:
    server.replies += [Say("first"), Say("second"), Say("third")]
    host.run("%ask one")
    host.run("%ask two")
    host.run("%ask --new three")
    assert [len(request["messages"]) for request in server.requests] == [2, 4, 2]


def test_transcript_keeps_question_cells_and_answer(host: Host, server: ModelServer, tmp_path: Path) -> None:
    server.replies += [cell("1 + 1", "Adding."), Say("Two.")]
    host.run("%ask add")
    host.run(f"%sandbox save {tmp_path}/kept.ipynb")
    cells = json.loads((tmp_path / "kept.ipynb").read_text())["cells"]
    assert [(one["cell_type"], "".join(one["source"])) for one in cells] == [
        ("markdown", "## add"),
        ("markdown", "Adding."),
        ("code", "1 + 1"),
        ("markdown", "Two."),
    ]


def kept_cells(host: Host, place: Path) -> list[str]:
    host.run(f"%sandbox save {place}/kept.ipynb")
    return ["".join(one["source"]) for one in json.loads((place / "kept.ipynb").read_text())["cells"]]


def test_slow_page_does_not_change_what_the_transcript_keeps(host: Host, server: ModelServer, tmp_path: Path) -> None:
    server.replies += [cell("1 + 1", "Adding."), cell("2 + 2", "Again."), Say("Two and four.")]
    host.run(
        "def slow(message):\n    import time; time.sleep(0.3)\n    return message\n"
        "get_ipython().display_pub.register_hook(slow)"
    )
    host.run("%%ask\nadd\n\ntwice")
    host.run("get_ipython().display_pub.unregister_hook(slow)")
    kept = kept_cells(host, tmp_path)
    assert kept == ["## add twice", "Adding.", "1 + 1", "Again.", "2 + 2", "Two and four."]


def test_transcript_keeps_why_there_is_no_answer(host: Host, server: ModelServer, tmp_path: Path) -> None:
    server.replies += [Fail(400), cell("x = 1"), Hang()]
    host.run("%ask one")
    pressed: list[str] = []

    def press(kind: str, content: dict[str, Any]) -> None:
        if not pressed and "110 tokens" in str(content) and "thinking" in str(content):
            pressed.append(kind)
            host.interrupt()

    host.run("%ask two", on_message=press)
    kept = kept_cells(host, tmp_path)
    assert kept[1].startswith("*No answer came: The server refused the request")
    assert kept[2:] == ["## two", "x = 1", "*The question was given up.*"]


def test_answer_that_cannot_be_kept_is_shown(host: Host, server: ModelServer, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    host.run(f"%sandbox save {tmp_path}/gone/out.ipynb")
    shutil.rmtree(tmp_path / "gone")
    server.replies += [Say("It is 42.")]
    ran = host.run("%ask How much?")
    assert displays(ran)["text-1"]["text/markdown"] == "It is 42."
    assert "out.ipynb' cannot be written" in ran.failure


def test_model_without_an_end_has_no_answer(host: Host, server: ModelServer) -> None:
    server.replies += [Call([("list_files", {})])] * 30
    last = displays(host.run("%ask go"))
    assert "Stopped without a final answer" in last["answer"]["text/markdown"]
    assert last["status"]["text/plain"].startswith("✗ ")
    assert len(server.requests) == 25


def test_second_press_gives_up_a_question_whose_cell_goes_on(host: Host, server: ModelServer) -> None:
    server.replies += [
        cell("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('on', flush=True)\nwhile True: pass"),
        cell("6 * 7"),
        Say("It is 42."),
    ]
    pressed: list[float] = []

    def press(kind: str, content: dict[str, Any]) -> None:
        begun = pressed or ">on</pre>" in str(content)
        if begun and len(pressed) < 2 and (not pressed or time.monotonic() - pressed[0] > 0.3):
            pressed.append(time.monotonic())
            host.interrupt()

    assert "The question was given up" in host.run("%ask loop", on_message=press).failure
    assert len(pressed) == 2
    last = displays(host.run("%ask again"))
    assert ">42</pre>" in last["cell-1"]["text/html"]
    assert "✓ o3-mini · 1 cell" in last["status"]["text/plain"]


def test_interrupt_stops_the_cell_and_the_agent_goes_on(host: Host, server: ModelServer) -> None:
    server.replies += [cell("print('on', flush=True)\nwhile True:\n    pass"), Say("It was stopped.")]
    pressed: list[str] = []

    def press(kind: str, content: dict[str, Any]) -> None:
        if not pressed and ">on</pre>" in str(content):
            pressed.append(kind)
            host.interrupt()

    last = displays(host.run("%ask loop", on_message=press))
    assert "KeyboardInterrupt" in last["cell-1"]["text/html"]
    assert last["text-1"]["text/markdown"] == "It was stopped."


def test_fresh_kernel_is_told_once_whoever_runs_the_cell(host: Host, server: ModelServer) -> None:
    server.replies += [cell("import os; os._exit(3)"), Say("It died."), cell("2"), cell("3"), Say("There.")]
    assert "fresh kernel" not in host.run("%ask die").stream("stderr")
    told = host.run("%ask go on").stream("stderr")
    assert told == "This cell ran in a fresh kernel, without earlier variables. The kernel exited with status 3.\n"
    assert host.run("%%sandbox\n1").stream("stderr") == ""


def test_interrupt_while_the_model_thinks_gives_the_question_up(host: Host, server: ModelServer) -> None:
    server.replies += [Hang()]
    pressed: list[str] = []

    def press(kind: str, content: dict[str, Any]) -> None:
        if not pressed and kind == "update_display_data":
            pressed.append(kind)
            host.interrupt()

    ran = host.run("%ask think", on_message=press)
    assert "The question was given up" in ran.failure
    assert "given up" in displays(ran)["status"]["text/plain"]
    server.replies += [Say("again")]
    assert displays(host.run("%ask again"))["text-1"]["text/markdown"] == "again"


def test_failures_of_the_model_are_one_line(host: Host, server: ModelServer) -> None:
    server.replies += [Fail(401)]
    ran = host.run("%ask hello")
    assert ran.failure.startswith("\x1b[31mModelError\x1b[0m: The server refused the key")
    assert "\n" not in ran.failure


@pytest.mark.parametrize(("word", "ran_it"), [("y", True), ("n", False)])
def test_approval_is_asked_for_each_cell(host: Host, server: ModelServer, word: str, ran_it: bool) -> None:
    server.replies += [cell("print('did it')"), Say("done")]

    def answer(kind: str, content: dict[str, Any]) -> None:
        if kind == "input_request":
            host.client.input(word)

    ran = host.run("%ask --approve go", on_message=answer)
    assert ("did it</pre>" in displays(ran)["cell-1"]["text/html"].replace("print(&#x27;did it", "")) is ran_it
    assert ("declined" in displays(ran)["cell-1"]["text/html"]) is not ran_it


def test_interrupt_while_a_cell_is_to_be_approved_gives_the_question_up(host: Host, server: ModelServer) -> None:
    server.replies += [cell("print('did it')"), Say("again")]

    def press(kind: str, content: dict[str, Any]) -> None:
        if kind == "input_request":
            host.interrupt()

    assert "The question was given up" in host.run("%ask --approve go", on_message=press).failure
    assert displays(host.run("%ask again"))["text-1"]["text/markdown"] == "again"


def test_cell_to_be_approved_hides_nothing_on_the_page(host: Host, server: ModelServer) -> None:
    hidden = "x = 1  # \u3164\u202e\u200b as told\rprint('it ' + 'ran')"
    headless = "print('it ' + 'ran')\n" + "# nothing\n" * 3000
    server.replies += [cell(hidden), cell(headless), Say("done")]
    asked: list[str] = []

    def answer(kind: str, content: dict[str, Any]) -> None:
        if kind in ("display_data", "update_display_data"):
            asked.append(content["data"].get("text/html", ""))
        elif kind == "input_request":
            asked.append("asked")
            host.client.input("y" if asked.count("asked") > 1 else "n")

    last = displays(host.run("%ask --approve go", on_message=answer))
    seen = next(html for html in asked if "<details open>" in html)
    assert "x = 1  # \\u3164\\u202e\\u200b as told␍\nprint(&#x27;it &#x27; + &#x27;ran&#x27;)</pre>" in seen
    assert asked.count("asked") == 1, "what cannot be seen as a whole is not asked about"
    assert "too long to be judged" in last["cell-2"]["text/html"]
    assert "it ran" not in json.dumps(last)


def test_safety_rules_refuse_a_cell(host: Host, server: ModelServer) -> None:
    server.replies += [cell("import subprocess"), Say("refused")]
    last = displays(host.run("%ask --safety rules go"))
    assert "shell (import subprocess)" in last["cell-1"]["text/html"]


def test_fixed_analysis_answers_without_a_key(host: Host) -> None:
    host.run("import pandas as pd; df = pd.DataFrame({'city': ['Oslo', 'Rome', 'Oslo'] * 20, 'sold': [3, 5, 4] * 20})")
    last = displays(host.run("%ask --data df what goes with sold?"))
    answer = next(data["text/markdown"] for name, data in last.items() if name.startswith("text"))
    assert "1. city: correlation ratio 0.866 (2 groups, 60 rows)" in answer
    assert answer.startswith("(A fixed analysis, “what goes with COLUMN”: no language model has read the question")
    assert any("data:image/png" in data.get("text/html", "") for data in last.values())
    refused = host.run("%ask Which city is highest in sold?")
    assert refused.failure.startswith("\x1b[31mNoAnswer\x1b[0m: This question needs a language model.")
    assert "  %env OPENAI_BASE_URL=http://127.0.0.1:" in refused.failure
    assert displays(refused) == {}
    host.run("%sandbox shutdown")


def test_no_question_is_an_error_and_help_is_help(host: Host) -> None:
    assert "examples:" in host.run("%ask").stream()
    assert "what is the question?" in host.run("%ask --new").stream("stderr")


def test_line_is_read_as_it_was_typed() -> None:
    options, question = parse_ask("--data df --data 'my file.csv' --cells What's \"it\" -- all about?")
    assert (options.data, options.cells) == (["df", "my file.csv"], True)
    assert question == 'What\'s "it" -- all about?'
    assert parse_ask("-- --data is a word?")[1] == "--data is a word?"
    with pytest.raises(BadOptions, match="--bogus"):
        parse_ask("--bogus what")
    with pytest.raises(HelpAsked, match="examples:"):
        parse_ask("--help me")


def test_interpolation_takes_names_and_nothing_else() -> None:
    names = {"x": 1, "Out": {3: "three"}, "In": ["", "one"], "long": "a" * 10**6}
    text = "{x} {Out[3]} {In[1]} {In[9]} {y} {x.__class__} {x!r} {} {{x}}"
    assert interpolate(text, names) == "1 three one {In[9]} {y} {x.__class__} {x!r} {} {1}"
    assert len(interpolate("{long}", names)) == 20_000
