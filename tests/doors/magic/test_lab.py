"""The magics in a real JupyterLab, seen through a real browser.

Screenshots are kept in the directory that KERNEL_SANDBOX_SCREENSHOTS names, else in the test's own; each test prints
where. agent.png is README's picture, notebooks/magic.png.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.agents.model_server import Call, Say, Slow, model_server
from tests.conftest import missing
from tests.doors.magic.host import SETUP
from tests.doors.magic.lab import Notebook, browser_page, jupyter_lab, write_notebook
from tests.legibility import HIDING, READABLE, luminance

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(300),
]

FIGURE = """%%sandbox
import matplotlib.pyplot as plt
import numpy as np
x = np.linspace(0, 10, 200)
plt.figure(figsize=(6, 2.4))
plt.plot(x, np.sin(x), label="sin")
plt.plot(x, np.cos(x), label="cos")
plt.legend();"""
TABLE = """%%sandbox -i sales -o totals
totals = sales.groupby("city", as_index=False)["sold"].sum()
totals"""
COUNT = """%%sandbox
import time
for n in range(4):
    print("line", n)
    time.sleep(1)"""
CELLS = [
    SETUP,
    "import pandas as pd\nsales = pd.DataFrame({'city': ['Oslo', 'Rome', 'Oslo'], 'sold': [3, 5, 4]})",
    COUNT,
    "%%sandbox\nwhile True:\n    pass",
    TABLE,
    FIGURE,
    "%%ask --data sales\nWhich city sold most?",
    "%%sandbox\ntotals['sold'].sum()",
    "%sandbox save kept.ipynb",
    "totals",
]
AGENT_CELL = """import pandas as pd

best = sales.groupby("city")["sold"].sum().sort_values(ascending=False)
print(best)
samples = (sales.sample(frac=1, replace=True, random_state=n) for n in range(4000))
means = pd.Series([sample["sold"].mean() for sample in samples])
print("mean sale, 90% of resamples:", *means.quantile([0.05, 0.95]).round(1))
best.plot.barh(figsize=(5, 1.8), title="sold");"""


@pytest.fixture(autouse=True)
def needed() -> None:
    if reason := missing("bubblewrap"):
        pytest.skip(reason)


def test_notebook_works_as_a_user_expects(tmp_path: Path, pictures: Path) -> None:
    replies = [
        Slow(Call([("execute_python_code", {"python_code": AGENT_CELL})], "I add the sales up for each city."), 0.02),
        Slow(
            Say(
                "**Oslo** sold most: 7 pieces, against 5 in Rome.\n\n"
                "| city | sold |\n|---|---|\n| Oslo | 7 |\n| Rome | 5 |"
            ),
            0.02,
        ),
    ]
    write_notebook(tmp_path / "work.ipynb", CELLS)
    with (
        model_server(*replies) as server,
        jupyter_lab(tmp_path, OPENAI_BASE_URL=server.url) as url,
        browser_page(2300) as page,
    ):
        notebook = Notebook(page, url, "work.ipynb")
        notebook.run(0)
        notebook.run(1)
        check_live_output(notebook)
        check_interrupt(notebook, page)
        notebook.run(4)
        notebook.run(5)
        expect(notebook.outputs(4).locator("table.dataframe")).to_contain_text("Oslo")
        assert notebook.outputs(5).locator("img").evaluate("image => image.naturalWidth") > 300
        page.screenshot(path=pictures / "cells.png")
        check_agent(notebook, page, pictures)
        notebook.run(7)
        expect(notebook.outputs(7)).to_contain_text("12")
        notebook.run(8)
        notebook.run(9)
        expect(notebook.outputs(9)).to_contain_text("Rome")
        page.keyboard.press("Control+s")
        check_transcript(page, url, tmp_path / "kept.ipynb")
        page.screenshot(path=pictures / "transcript.png")


def check_live_output(notebook: Notebook) -> None:
    notebook.start(2)
    expect(notebook.outputs(2)).to_contain_text("line 0")
    assert notebook.prompt(2) == "[*]:"
    assert "line 3" not in notebook.outputs(2).inner_text()
    notebook.wait(2)
    expect(notebook.outputs(2)).to_contain_text("line 3")


def check_interrupt(notebook: Notebook, page: Page) -> None:
    notebook.start(3)
    page.wait_for_timeout(700)
    assert notebook.prompt(3) == "[*]:"
    page.locator("[data-command='notebook:interrupt-kernel']").click()
    notebook.wait(3)
    expect(notebook.outputs(3)).to_contain_text("KeyboardInterrupt")


def check_agent(notebook: Notebook, page: Page, pictures: Path) -> None:
    notebook.start(6)
    notebook.outputs(6).locator("details[open]", has_text="best.plot").wait_for()  # looks at each frame: it is brief
    notebook.wait(6)
    output = notebook.cell(6).locator(".jp-OutputArea").first
    expect(output.locator("strong").last).to_have_text("Oslo")
    assert output.locator("details[open]").count() == 0
    assert output.locator("details").count() == 1
    assert output.locator("img").evaluate("image => image.naturalWidth") > 200
    expect(output.locator(".jp-OutputArea-child").first).to_contain_text("(OPENAI_BASE_URL in the environment)")
    expect(output.locator(".jp-OutputArea-child").nth(1)).to_contain_text("✓ o3-mini · 1 cell")
    output.locator("summary").click()
    expect(output.locator("details[open] pre").first).to_contain_text("groupby")
    notebook.cell(7).locator(".jp-InputArea-prompt").first.click()  # the buttons of the cell at hand go there
    page.mouse.move(0, 0)
    notebook.cell(0).scroll_into_view_if_needed()
    top, bottom = notebook.cell(4).bounding_box(), notebook.cell(6).bounding_box()
    assert top is not None
    assert bottom is not None
    height = bottom["y"] + bottom["height"] - top["y"]
    page.screenshot(
        path=pictures / "agent.png",
        clip={"x": top["x"], "y": top["y"], "width": top["width"], "height": height},
    )


def check_transcript(page: Page, url: str, path: Path) -> None:
    assert path.is_file()
    page.goto(f"{url}doc/tree/{path.name}?token=secret&reset")
    dialog = page.locator(".jp-Dialog button.jp-mod-accept")
    cells = page.locator(".jp-NotebookPanel .jp-Cell")
    cells.first.wait_for()
    page.wait_for_timeout(1500)
    if dialog.count():
        dialog.first.click()
    expect(page.locator(".jp-MarkdownCell", has_text="Oslo sold most").first).to_be_visible()
    assert page.locator(".jp-NotebookPanel img").count() >= 1


HOSTILE = r"""%%sandbox -i address
from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display
import pandas as pd

def touch(name):
    return f"try {{ top.touched = (top.touched || []).concat('{name}') }} catch (error) {{}}"

def image(name):
    return f'<img src="data:," onerror="{touch(name)}"><img src="{address}/leak-{name}">'

def script(name):
    return f"<script>{touch(name)}</script>"

def there(name):
    return f"{address}/leak-{name}"

display(HTML(image("img") + script("script")))
display(HTML(
    f'<meta http-equiv="refresh" content="0;url={there("refresh")}"><link rel="prefetch" href="{there("link")}">'
    f'<p style="background:url({there("css")})">styled</p><iframe src="{there("iframe")}"></iframe>'
))
display(SVG(
    f'<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20" onload="{touch("svg-onload")}">'
    f'<rect width="60" height="20" fill="teal"/>{script("svg-script")}</svg>'
))
display(Javascript(touch("javascript")))
for text in ("%s", "\\` %s `", "a ~~~ %s ~~~", "``` a`\n\n%s\n\n```", "<details open>%s"):
    display(Markdown(text % image("markdown")))
display(Markdown(f'```mermaid\nflowchart TD\n  A@{{ img: "{there("drawing")}", label: "x" }}\n```'))
display(Markdown(f"[link](javascript:{touch('link')}) [other](&#106;avascript:alert)"))
display(Latex(r"$\href{javascript:alert(1)}{x}$"))
display({"text/plain": "a slider", "application/vnd.jupyter.widget-view+json": {"model_id": "1"}}, raw=True)
pd.DataFrame({image("column"): [script("cell")]})"""


def touched(page: Page) -> list[str]:
    page.wait_for_timeout(1500)
    return list(page.evaluate("window.touched || []"))


@contextmanager
def sink() -> Iterator[tuple[str, list[str]]]:
    """A server elsewhere, and the paths that browsers have asked it for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def test_nothing_of_a_sandbox_touches_the_page(tmp_path: Path, pictures: Path) -> None:
    # Trusted, the refresh takes the whole page away, and with it what the others did.
    control = HOSTILE.replace('<meta http-equiv="refresh" content="0;url={there("refresh")}">', "")
    trusted = "%config KernelSandboxMagics.html = 'trusted'"
    evil = "Look <img src='data:,' onerror='top.touched = [1]'> \\` <script>top.touched = [2]</script> `"
    with (
        sink() as (address, leaks),
        model_server(Say(evil)) as server,
        jupyter_lab(tmp_path, OPENAI_BASE_URL=server.url) as url,
        browser_page(1500) as page,
    ):
        cells = [f"{SETUP}\naddress = {address!r}", HOSTILE, "%ask look", trusted, control]
        write_notebook(tmp_path / "hostile.ipynb", cells)
        notebook = Notebook(page, url, "hostile.ipynb")
        for number in (0, 1, 2):
            notebook.run(number)
        page.screenshot(path=pictures / "isolated.png")
        assert notebook.outputs(1).locator("iframe").count() == 2
        assert (
            notebook.outputs(1).locator("img[alt='SVG of the sandbox']").evaluate("image => image.naturalWidth") == 60
        )
        assert (touched(page), leaks) == ([], [])
        notebook.run(3)
        notebook.run(4)
        found = touched(page)
        assert {"img", "script", "javascript", "markdown"} <= set(found), "the control: trusted, all of it runs"
        assert {"/leak-img", "/leak-css", "/leak-drawing"} <= set(leaks)
        page.screenshot(path=pictures / "trusted.png")


UNSEEN = "\u3164\u200b\u202e\u2066\U000e0041\xad"
HIDES = f"""%%sandbox
from IPython.display import Markdown, display
hidden = {UNSEEN!a}
for place, text in enumerate({list(HIDING.values())!r}):
    print(f"{{text}}{{place}}.\\x1b[0m")
print(f"a{{hidden}}b")
display(Markdown(f"c{{hidden}}d"))
raise ValueError(f"e{{hidden}}f")"""
# The colours of a text, and of the paper below it: that of the first ancestor that has one.
COLOURS = """node => {
    let paper = node
    while (paper.parentElement && /, 0\\)$/.test(getComputedStyle(paper).backgroundColor)) paper = paper.parentElement
    return [getComputedStyle(node).color, getComputedStyle(paper).backgroundColor]
        .map(colour => colour.match(/[0-9.]+/g).slice(0, 3).map(Number))
}"""


def test_nothing_on_the_page_hides_from_a_person(tmp_path: Path, pictures: Path) -> None:
    source = f"x = 1  # {UNSEEN} as told\rprint('it ' + 'ran')"
    headless = "print('it ' + 'ran')\n" + "# nothing\n" * 3000
    calls = [Call([("execute_python_code", {"python_code": text})]) for text in (source, headless)]
    write_notebook(tmp_path / "hidden.ipynb", [SETUP, HIDES, "%ask --approve go"])
    with (
        model_server(*calls, Say("Done.")) as server,
        jupyter_lab(tmp_path, OPENAI_BASE_URL=server.url) as url,
        browser_page(1500) as page,
    ):
        notebook = Notebook(page, url, "hidden.ipynb")
        notebook.run(0)
        notebook.run(1)
        shown = notebook.cell(1).locator(".jp-OutputArea").first
        for place in range(len(HIDING)):
            piece = shown.locator("pre span, pre", has_text=f"hidden{place}.").last
            text, paper = (luminance(tuple(map(round, channels))) for channels in piece.evaluate(COLOURS))
            assert (max(text, paper) + 0.05) / (min(text, paper) + 0.05) > READABLE, list(HIDING)[place]
        expect(shown).to_contain_text("f")
        said = shown.inner_text()
        assert not set(UNSEEN) & set(said)
        assert all(rf"{first}\u3164\u200b\u202e" in said for first in "ace")
        notebook.start(2)
        prompt = notebook.cell(2).locator(".jp-Stdin-input")
        prompt.wait_for()
        seen = notebook.cell(2).locator("details[open] pre").first
        expect(seen).to_be_visible()
        assert seen.inner_text().split("\n")[1] == "print('it ' + 'ran')"
        assert "\\u3164\\u200b\\u202e" in seen.inner_text()
        page.screenshot(path=pictures / "approval.png")
        prompt.press_sequentially("n")
        prompt.press("Enter")
        notebook.wait(2)
        output = notebook.cell(2).locator(".jp-OutputArea").first
        assert "it ran" not in (output.text_content() or "")
        assert "too long to be judged" in (output.text_content() or "")
