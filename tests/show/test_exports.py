"""Exports: hostile notebooks in, and what a real browser does with what comes out."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import mistune
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbconvert.exporters.html import HTMLExporter
from playwright.sync_api import Browser, Dialog, Frame, Page, Request, sync_playwright
from playwright.sync_api import Error as BrowserError

from kernel_sandbox import Session, Transcript, TranscriptError, export_notebook
from kernel_sandbox.session.transcript import Cell, join_percent_script, split_percent_script
from kernel_sandbox.session.transcript.reading import parse_notebook
from kernel_sandbox.show.exports import FORMATS, ExportFormat
from kernel_sandbox.show.policy import POLICY
from kernel_sandbox.show.rendering import render
from kernel_sandbox.show.scrubbed import MAX_CELLS, scrub
from kernel_sandbox.show.tags import PLACEHOLDER
from tests.hostile_notebook import ATTACKS, JSON, Attack, code, display, hostile, html, notebook, prose

COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
CHROMIUM = "/usr/bin/chromium"  # tests/run installs it
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run"]
GIF = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


class Witness:
    """A web server on loopback that gives out one page at a time, and notes every other request."""

    def __init__(self) -> None:
        self.page, self.asked = "", list[str]()
        witness = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path == "/page.html"
                if not known and self.path != "/favicon.ico":
                    witness.asked.append(self.path)
                body = witness.page.encode() if known else b""
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,)).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Seen:
    """What a page did while it was open."""

    flags: set[int] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    @property
    def harm(self) -> list[Any]:
        return [*self.flags, *self.requests, *self.moves, *self.dialogs]


@pytest.fixture(scope="module")
def witness() -> Iterator[Witness]:
    made = Witness()
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def look(browser: Browser, witness: Witness, url: str, *, settle: float = 300) -> Seen:
    """Open a page, click all that can be clicked, wait (milliseconds), and give what it did."""
    seen, already = Seen(), len(witness.asked)
    context = browser.new_context()
    page = context.new_page()
    page.route(lambda other: not other.startswith((url, "data:", "http://127.0.0.1")), lambda route: route.abort())
    watch(page, url, seen)
    page.goto(url)
    page.wait_for_timeout(settle)
    seen.flags |= flags(page)
    click_everything(page)
    page.wait_for_timeout(settle)
    seen.flags |= flags(page)
    seen.moves += [other.url for other in context.pages if other is not page]
    context.close()
    seen.requests += witness.asked[already:]
    return seen


def watch(page: Page, url: str, seen: Seen) -> None:
    def is_elsewhere(other: str) -> bool:
        return other.split("#")[0] != url

    def on_request(request: Request) -> None:
        if is_elsewhere(request.url) and not (
            request.url.startswith("data:image/") and request.resource_type == "image"
        ):
            seen.requests.append(request.url[:200])

    def on_move(frame: Frame) -> None:
        if is_elsewhere(frame.url):
            seen.moves.append(frame.url[:200])

    def on_dialog(dialog: Dialog) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("request", on_request)
    page.on("framenavigated", on_move)
    page.on("dialog", on_dialog)
    page.on("console", lambda message: seen.console.append(message.text))


def flags(page: Page) -> set[int]:
    try:
        names: list[str] = page.evaluate("Object.keys(window.top).filter(name => name.startsWith('pwned_'))")
    except BrowserError:  # it is on its way elsewhere, which is noted
        return set()
    return {int(name.removeprefix("pwned_")) for name in names}


CLICK = "element => element.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true, composed: true}))"


def click_everything(page: Page) -> None:
    """Click whatever takes clicks, but plain links to the web, which may go where they say."""
    for element in page.query_selector_all("a:not([href^=http]), area, button, input, summary, svg text, form, img"):
        try:
            element.evaluate(CLICK)
        except BrowserError:  # the page has gone, which is noted
            return


def works(browser: Browser, witness: Witness, page: str) -> bool:
    """Whether attack number 1 does what it is for; a slow browser gets more time."""
    aim = re.compile(rf"(:{witness.port}|^)/1(/|\?|$)")
    for settle in (10, 100, 1000):
        seen = look(browser, witness, served(witness, page), settle=settle)
        if 1 in seen.flags or any(map(aim.search, seen.requests + seen.moves)):
            return True
    return False


def served(witness: Witness, page: str) -> str:
    witness.page = page
    return f"http://127.0.0.1:{witness.port}/page.html"


def written(folder: Path, content: JSON) -> Path:
    path = folder / "hostile.ipynb"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def page_of_all(witness: Witness, tmp_path_factory: pytest.TempPathFactory) -> str:
    return export_notebook(written(tmp_path_factory.mktemp("all"), hostile(witness.port)))


def page_of(*cells: JSON) -> str:
    """The page of some cells, by the library's way."""
    with tempfile.TemporaryDirectory() as folder:
        return export_notebook(written(Path(folder), notebook(list(cells))))


# A browser opens it


def test_page_runs_nothing_and_loads_nothing(browser: Browser, witness: Witness, page_of_all: str) -> None:
    seen = look(browser, witness, served(witness, page_of_all), settle=1500)
    assert not seen.harm


def test_page_from_a_file_runs_nothing(browser: Browser, witness: Witness, page_of_all: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of_all)
    assert not look(browser, witness, path.as_uri(), settle=1500).harm


def test_page_is_harmless_without_its_policy(browser: Browser, witness: Witness, page_of_all: str) -> None:
    bare, found = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_of_all)
    assert found == 1
    seen = look(browser, witness, served(witness, bare), settle=1500)
    assert not seen.harm


def test_policy_blocks_nothing_that_the_page_has(browser: Browser, witness: Witness, page_of_all: str) -> None:
    assert not look(browser, witness, served(witness, page_of_all)).console


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack.works], ids=lambda attack: attack.name)
def test_attack_works_on_a_page_that_is_not_sanitised(browser: Browser, witness: Witness, attack: Attack) -> None:
    node = parse_notebook(json.dumps(notebook([attack.make(1, witness.port)])))
    exporter = HTMLExporter(raw_template="{% extends 'lab/base.html.j2' %}")  # type: ignore[no-untyped-call]
    page, _ = exporter.from_notebook_node(node)
    assert works(browser, witness, page)


RENDERERS: dict[str, Callable[[str], Any]] = {
    "mistune": mistune.create_markdown(
        renderer=mistune.HTMLRenderer(escape=False, allow_harmful_protocols=True), plugins=["table", "url", "math"]
    ),
    "commonmark": MarkdownIt("commonmark", {"html": True, "linkify": False}).render,
}
RENDERERS["commonmark"].__self__.validateLink = lambda url: True  # type: ignore[attr-defined]


@pytest.mark.parametrize("renderer", RENDERERS)
def test_markdown_is_harmless_in_a_renderer_that_allows_all(
    browser: Browser, witness: Witness, tmp_path: Path, renderer: str
) -> None:
    text = export_notebook(written(tmp_path, hostile(witness.port)), "md")
    assert not look(browser, witness, served(witness, RENDERERS[renderer](text)), settle=1000).harm


@pytest.mark.parametrize("renderer", RENDERERS)
def test_markdown_of_attacks_works_as_it_is(browser: Browser, witness: Witness, renderer: str) -> None:
    cells = [attack for attack in ATTACKS if attack.cell is prose and attack.works and "diagram" not in attack.name]
    for attack in cells:
        assert works(browser, witness, RENDERERS[renderer](attack.make(1, witness.port)["source"])), attack.name


def test_policy_alone_stops_scripts_and_requests(browser: Browser, witness: Witness) -> None:
    cells = [attack.make(n, witness.port) for n, attack in enumerate(ATTACKS, 1) if attack.name != "meta refresh"]
    exporter = HTMLExporter(raw_template="{% extends 'lab/base.html.j2' %}")  # type: ignore[no-untyped-call]
    node = parse_notebook(json.dumps(notebook([cell for cell in cells if "attachments" not in cell])))
    for cell in node.cells:
        cell.source = cell.source.replace("attachment:b", "b")  # nbconvert refuses what is not there
    page, _ = exporter.from_notebook_node(node)
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    already = len(witness.asked)
    seen = look(browser, witness, served(witness, f"<head>{policy}</head><body>{page}</body>"), settle=1000)
    assert not seen.flags
    assert set(witness.asked[already:]) <= {"/other.html"}  # a link, which no policy stops
    assert any("Content Security Policy" in line for line in seen.console)


# What stays


@pytest.fixture(scope="module")
def honest(science: Session) -> Transcript:
    """A session's own transcript: a table, figures, colours, prose, an error."""
    science.transcript.add_markdown(
        "# Sales\n\nSome **prose**, a [link](https://example.org/?a=1&b=2), $\\frac{a}{b}$."
    )
    science.execute("import pandas as pd; pd.DataFrame({'city': ['Oslo', 'Rome'], 'sold': [3, 5]})")
    science.execute("import matplotlib.pyplot as plt; plt.plot([1, 3, 2]); plt.show()")
    science.execute("%config InlineBackend.figure_formats = ['svg']\nplt.bar(['a', 'b'], [1, 2]); plt.show()")
    science.execute("print('\\x1b[32mgreen\\x1b[0m', 1 < 2); import sys; print('late', file=sys.stderr)")
    science.execute("1/0")
    return science.transcript


def test_page_of_an_honest_session_looks_as_it_should(browser: Browser, honest: Transcript, tmp_path: Path) -> None:
    path = tmp_path / "honest.html"
    path.write_text(export_notebook(honest))
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    assert page.title() == "Notebook"
    assert page.locator("table.dataframe td").all_inner_texts() == ["Oslo", "3", "Rome", "5"]
    right = "getComputedStyle(document.querySelector('table.dataframe tr')).textAlign"
    assert page.evaluate(right) == "right"
    assert page.evaluate("[...document.images].map(image => image.naturalWidth > 100)") == [True, True]
    assert page.locator(".ansi-green-fg").first.inner_text() == "green"
    assert page.locator("a[href^=https]").get_attribute("rel") == "noopener noreferrer"
    shown = page.locator("main").inner_text()
    assert all(text in shown for text in ("Sales", "late", "ZeroDivisionError", "In\xa0[1]:", "$\\frac{a}{b}$"))
    stderr = "[data-mime-type='application/vnd.jupyter.stderr']"
    assert (
        page.evaluate(f"getComputedStyle(document.querySelector(`{stderr}`)).backgroundColor") == "rgb(255, 221, 221)"
    )
    assert not said
    page.close()


def test_markdown_of_an_honest_session_stays_markdown(honest: Transcript) -> None:
    text = export_notebook(honest, "md")
    assert "# Sales\n\nSome **prose**, a [link](https://example.org/?a=1&b=2), $\\frac{a}{b}$." in text
    assert "```python\n1/0\n```" in text
    assert "```text\n   city  sold\n0  Oslo     3\n1  Rome     5\n```" in text
    assert "```text\ngreen True\n```" in text
    assert "ZeroDivisionError: division by zero\n```" in text
    assert text.count("![figure](data:image/") == 2


def test_script_of_an_honest_session_runs_again(honest: Transcript, tmp_path: Path) -> None:
    honest.save(tmp_path / "honest.ipynb")
    assert cli(tmp_path, "export", "honest.ipynb", "--to", "py").returncode == 0
    assert "# # Sales" in (tmp_path / "honest.py").read_text()
    again = cli(tmp_path, "run", "honest.py", "--image", "datascience", "--keep-going", "--save", "again.ipynb")
    assert "Cell 5 of 5 failed (ZeroDivisionError)" in again.stdout, again.stderr
    assert Transcript.load(tmp_path / "again.ipynb").sources == honest.sources


def test_page_keeps_harmless_html() -> None:
    kept = '<details open=""><summary>more</summary><p style="color: red">a<br>b<sub>2</sub></p></details>'
    page = page_of(html('<details open><summary>more</summary><p style="color: red; position: fixed">a<br>b<sub>2'))
    assert kept.replace(' open=""', "") in page
    assert "position: fixed" not in page.partition("<main>")[2]


RESULT = {"output_type": "execute_result", "execution_count": 7}


def test_page_says_what_it_leaves_out() -> None:
    page = page_of(
        code("x", {**display({"text/html": "<b>chart</b><script>f()</script>"}), **RESULT}),
        code("x", display({"application/javascript": "f()", "text/plain": "<Javascript>"})),
        prose("![chart](https://example.org/a.png)"),
    )
    assert "[The script that came with this output is left out.]" in page
    assert "[application/javascript: left out]" in page
    assert PLACEHOLDER in page
    assert "example.org" not in page


def test_page_shows_pictures_and_attachments() -> None:
    page = page_of(
        code(
            "x", display({"image/gif": GIF, "text/plain": "x"}, **{"image/gif": {"width": 30, "height": "9 onload=x"}})
        ),
        prose("![a picture](attachment:a.gif)", attachments={"a.gif": {"image/gif": GIF}}),
    )
    assert f'<img alt="figure" src="data:image/gif;base64,{GIF}" width="30">' in page
    assert f'<img src="data:image/gif;base64,{GIF}" alt="a picture">' in page


def test_markdown_shows_pictures_and_attachments(tmp_path: Path) -> None:
    cell = prose("![a picture](attachment:a.gif)", attachments={"a.gif": {"image/gif": GIF}})
    assert export_notebook(written(tmp_path, notebook([cell])), "md") == f"![figure](data:image/gif;base64,{GIF})\n"


# Nothing of the machine

SECRETS = ("alice", "/home", "6f1c2d3e", "2031-05-06", "9.9-engine")


@pytest.mark.parametrize("to", FORMATS)
def test_export_tells_nothing_of_the_machine(tmp_path: Path, to: ExportFormat) -> None:
    provenance = {"session": "6f1c2d3e", "engine": "9.9-engine", "user": "alice"}
    cells = [
        code("x", execution={"iopub.status.busy": "2031-05-06T00:00:00Z"}, kernel_sandbox=provenance, tags=["alice"]),
        prose("y", metadata={"path": "/home/alice"}, attachments={"/home/alice": {"image/gif": GIF}}),
    ]
    kernel = {"name": "alice-kernel", "display_name": "/home/alice/venv", "language": "python"}
    machine = {"kernelspec": kernel, "kernel_sandbox": provenance, "vscode": {"path": "/home/alice"}}
    (folder := tmp_path / "home" / "alice").mkdir(parents=True)
    text = export_notebook(written(folder, notebook(cells, title="Kept", **machine)), to)
    assert not [secret for secret in SECRETS if secret in text]
    assert str(tmp_path) not in text
    assert to != "html" or "<title>Kept</title>" in text


# Markdown, as text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b, <br>, 2<3", "a < b, &lt;br>, 2<3"),
        ("[x](https://a.b/c) [y](page.md) [z](#top)", "[x](https://a.b/c) [y](page.md) [z](#top)"),
        ("[x](javascript:f) [x] (\nvbscript:f)", "[x]&#40;javascript:f) [x] &#40;\nvbscript:f)"),
        ("[x](java\\script:f) [x](&#106;s:f)", "[x]&#40;java\\script:f) [x]&#40;&#106;s:f)"),
        ("[x]: data:text/html,y", "[x]&#58; data:text/html,y"),
        ("d[k](x), d[k]: v", "d[k](x), d[k]: v"),
        ("\\![x](https://a.b)", "\\&#33;[x](https://a.b)"),
        ('[x](#){: onclick="f()" href="y"}', '[x](#){: onclick&#61;"f()" href&#61;"y"}'),
        ("once = 1; f(action=2)", "once = 1; f(action=2)"),
        ("$\\href{javascript:f}{x} \\frac{a}{b}$", "$&#92;href{javascript:f}{x} \\frac{a}{b}$"),
        ("<\x00script>a\rb\x1b[31m<\x1b[0mb>", "<\\x00script>a\nb&lt;b>"),
    ],
)
def test_markdown_prose_has_nothing_live(tmp_path: Path, source: str, expected: str) -> None:
    assert export_notebook(written(tmp_path, notebook([prose(source)])), "md") == expected + "\n"


def test_markdown_fences_what_is_plain_and_escapes_what_is_not(tmp_path: Path) -> None:
    cells = [code("x = '````'"), code("'<b>' & 1")]
    text = export_notebook(written(tmp_path, notebook(cells)), "md")
    assert text == "`````python\nx = '````'\n`````\n\n<pre>\n'&lt;b>' &amp; 1\n</pre>\n"


@given(st.lists(st.text("<>[]():!`~\\&;#$={} \n\r\x00\x1b/aimgsrconjvt-", max_size=60), max_size=4))
def test_markdown_has_no_tag_and_no_picture_whatever_comes(sources: list[str]) -> None:
    transcript = Transcript()
    for source in sources:
        transcript.add_markdown(source)
        transcript.add_code_cell(source)
    text = export_notebook(transcript, "md").replace("<pre>\n", "").replace("\n</pre>", "")
    assert not re.search(r"<[a-zA-Z/!?]|!\[|[\x00\x1b\r]", text)


# Scripts

PIECES = ["\n# %%\n", "\n%%\n", "# .%%\n", "\\%% a\n", '"""', "'''", "\\\n", "[raw]", "tags=[1]"]
TEXTS = st.text("#% [markdown]raw\n\r\x0b\x0c\u2028\x85\x00\"'\\ax=1coding:utf-7+AAo", max_size=60) | st.lists(
    st.sampled_from(PIECES) | st.text("#%.\\\"' a\n", max_size=3), max_size=12
).map("".join)


@given(st.lists(TEXTS, max_size=5))
def test_prose_never_leaves_its_comments(sources: list[str]) -> None:
    script = join_percent_script([Cell("raw" if n % 2 else "markdown", text) for n, text in enumerate(sources)])
    assert not ast.parse(script.encode()).body


@given(st.lists(st.tuples(st.sampled_from(["code", "markdown", "raw"]), TEXTS), max_size=5))
def test_script_splits_into_the_cells_that_it_was_made_of(drawn: list[tuple[Any, str]]) -> None:
    cells = [Cell(kind, text) for kind, text in drawn]
    script = join_percent_script(cells)
    again = split_percent_script(script)
    expected = [split_percent_script(join_percent_script([cell])) for cell in cells]
    assert again == [cell for alone in expected for cell in alone]
    assert join_percent_script(again) == script
    code = [cell.source for cell in again if cell.kind == "code"]
    assert code == [plain for cell in cells if cell.kind == "code" and (plain := plainly(cell.source))]


def plainly(source: str) -> str:
    """Code with Python's line ends, without blank ones around it."""
    return re.sub(r"\r\n|\r", "\n", source).strip("\n").rstrip()


def test_script_keeps_cells_and_disarms_markers() -> None:
    cells = [
        Cell("code", '%%bash\necho 1 \'"""\''),
        Cell("markdown", "a  \n%% [raw]\n\\%%\n\n# b"),
        Cell("code", "x = 1\n# %% [markdown]\n# .%%\nimport os", {"tags": ["raises-exception"]}),
        Cell("code", "y = '''\n# %% [raw]\n'''  # '\nz = 'a\\\n# %%\n'"),
        Cell("code", "what = '''that does not end\n# %%"),
        Cell("code", "# a comment first\n%time x"),
    ]
    assert split_percent_script(join_percent_script(cells)) == cells


def test_exported_script_is_the_program_that_the_notebook_was(tmp_path: Path) -> None:
    cells = [code("text = '''a\n# %%\nb'''"), code("# %% not a cell\nprint(text)")]
    script = export_notebook(written(tmp_path, notebook(cells)), "py")
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == "a\n# %%\nb\n"


def test_script_cannot_be_given_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(join_percent_script([Cell("markdown", "coding: utf-7\n+AAo-print(1)")]))
    assert subprocess.run([sys.executable, path], capture_output=True, check=True).stdout == b""


def test_script_is_made_of_python_only(tmp_path: Path) -> None:
    path = written(
        tmp_path, notebook([code("x <- 1")], kernelspec={"name": "ir", "display_name": "R", "language": "R"})
    )
    with pytest.raises(TranscriptError, match=r"written in r: .* --to md"):
        export_notebook(path, "py")
    assert "```r\nx <- 1\n```" in export_notebook(path, "md")


# Bounds


def test_export_has_a_limit_of_cells() -> None:
    transcript = Transcript()
    for _ in range(MAX_CELLS + 1):
        transcript.add_code_cell("")
    with pytest.raises(TranscriptError, match="10001 cells, limit 10000: split it"):
        export_notebook(transcript, "py")


def test_page_that_takes_too_long_is_given_up() -> None:
    transcript = Transcript()
    transcript.add_markdown(f"a{' ' * 400_000}b")  # quadratic in the Markdown parser
    started = time.monotonic()
    with pytest.raises(TranscriptError, match="not made within 4 s: clear"):
        render(scrub(transcript, ""), deadline=4)
    assert time.monotonic() - started < 10


def test_page_of_long_outputs_is_cut() -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": "0123456789" * 300_000}
    page = page_of(code("x", stream))
    assert "cut here]" in page
    assert len(page) < 2_000_000


def test_export_refuses_a_format_that_it_has_not() -> None:
    with pytest.raises(TranscriptError, match="no format 'pdf': choose one of html, py, md"):
        export_notebook(Transcript(), "pdf")  # type: ignore[arg-type]


# The command


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=170, check=False)


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["hostile.ipynb"], "hostile.html"),
        (["hostile.ipynb", "--to", "md"], "hostile.md"),
        (["hostile.ipynb", "-o", "other.py"], "other.py"),
        (["hostile.ipynb", "-o", "page", "--to", "html"], "page"),
    ],
)
def test_command_makes_what_it_is_asked_for(tmp_path: Path, arguments: list[str], made: str) -> None:
    written(tmp_path, notebook([code("print(1)")]))
    done = cli(tmp_path, "export", *arguments)
    assert done.returncode == 0, done.stderr
    assert made in done.stdout
    assert "print" in (tmp_path / made).read_text()


def test_command_replaces_a_file_only_when_it_is_named(tmp_path: Path) -> None:
    written(tmp_path, notebook([code("print(1)")]))
    (tmp_path / "hostile.py").write_text("mine")
    done = cli(tmp_path, "export", "hostile.ipynb", "--to", "py")
    assert (done.returncode, (tmp_path / "hostile.py").read_text()) == (2, "mine")
    assert "hostile.py is there already: -o hostile.py replaces it" in done.stderr
    assert cli(tmp_path, "export", "hostile.ipynb", "-o", "hostile.py").returncode == 0
    assert "print(1)" in (tmp_path / "hostile.py").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "is not a notebook: it is not JSON"),
        ("[]", "has no cells"),
        ('{"cells": [{}], "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "is not a valid notebook"),
        ('{"cells": [], "nbformat": 9, "nbformat_minor": 5, "metadata": {}}', "has notebook format 9"),
        ("[" * 100_000, "nests too deeply"),
    ],
)
def test_command_refuses_what_is_no_notebook(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.ipynb").write_text(content)
    done = cli(tmp_path, "export", "a.ipynb")
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a.html").exists()


def test_command_does_not_write_over_its_notebook(tmp_path: Path) -> None:
    path = written(tmp_path, notebook([code("print(1)")]))
    before = path.read_bytes()
    done = cli(tmp_path, "export", "hostile.ipynb", "-o", "./hostile.ipynb")
    assert done.returncode == 2
    assert "would write over the notebook" in done.stderr
    assert path.read_bytes() == before


def test_command_says_when_it_cannot_write(tmp_path: Path) -> None:
    written(tmp_path, notebook([code("print(1)")]))
    done = cli(tmp_path, "export", "hostile.ipynb", "-o", "nowhere/page.html")
    assert done.returncode == 2
    assert "create its directory first" in done.stderr


@pytest.mark.parametrize("kind", ["html", "md"])
def test_export_hides_nothing(tmp_path: Path, kind: Literal["html", "md"]) -> None:
    hidden = "\u3164\u200b\u202e\u2028\U000e0041\x08\xad"
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": f"a{hidden}b\x1b[30;40mpaper"},
        display({"text/plain": f"a{hidden}b"}),
        {"output_type": "error", "ename": "E", "evalue": "", "traceback": [f"\x1b[41;31m{hidden}"]},
    ]
    shown = export_notebook(
        written(tmp_path, notebook([prose(f"a{hidden} می‌خواهم 👩‍🔬"), code(f"x = 1  # {hidden}\rf()", *outputs)])), kind
    )
    assert not set(hidden) & set(shown), [ascii(c) for c in set(hidden) & set(shown)]
    assert "می‌خواهم 👩‍🔬" in shown
    assert "\\u202e" in shown
    assert not re.search(r'"[^"]*ansi-black-fg ansi-black-bg|ansi-red-bg ansi-red-fg', shown)
