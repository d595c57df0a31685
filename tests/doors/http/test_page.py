"""The page for people, in a real browser: sessions live, notebooks as they grow, and nothing of a sandbox that runs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from kernel_sandbox.pool import PoolSettings
from tests.doors.http.running import Running, running

CHROMIUM = "/usr/bin/chromium"  # tests/run installs it
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run"]
COMMAND = str(Path(sys.executable).with_name("kernel-sandbox"))
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HOSTILE = f"""
from IPython.display import display, HTML, Javascript, SVG
attack = "<img src=x onerror=\\"window.touched = 1\\"><script>window.touched = 1</script>"
display(HTML(attack)); display(Javascript("window.touched = 1"))
picture = "<svg xmlns='http://www.w3.org/2000/svg' onload='window.touched = 1'/>"
display({{"image/svg+xml": picture, "text/plain": attack}}, raw=True)
display({{"text/markdown": attack, "text/plain": "[click](javascript:window.touched=1)"}}, raw=True)
display({{"image/png": "{PNG}", "text/plain": ""}}, raw=True)
print(attack)
raise type(attack, (Exception,), {{}})(attack)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    yield opened
    context.close()


def run(client: httpx.Client, session: str, source: str) -> None:
    client.post("/v1/sessions", json={"identifier": session}).raise_for_status()
    answer = client.post(f"/v1/sessions/{quote(session, safe='')}/execute", json={"source": source})
    assert answer.status_code == 200, answer.text


def open_session(page: Page, server: Running, session: str) -> None:
    page.goto(f"{server.address}/")
    page.get_by_role("button", name=session, exact=True).click()


def test_page_shows_a_notebook_as_it_grows(server: Running, client: httpx.Client, page: Page) -> None:
    run(client, "growing", "print('first')")
    open_session(page, server, "growing")
    cells = page.locator(".cell")
    expect(cells).to_have_count(1)
    expect(cells.first.locator(".output")).to_have_text("first")
    run(client, "growing", "print('second')\n6 * 7")
    expect(cells).to_have_count(2)
    expect(cells.nth(1).locator(".output")).to_have_text(["second", "42"])
    expect(page.locator("tr.chosen td").nth(6)).to_have_text("2")
    assert page.locator("tr.chosen td").nth(5).inner_text().removesuffix(" MB").isdigit()
    server.end("growing")


def test_page_runs_nothing_of_a_sandbox(server: Running, client: httpx.Client, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    name = "<img src=x onerror=window.touched=1>"
    run(client, name, HOSTILE)
    open_session(page, server, name)
    expect(page.locator(".cell")).to_have_count(1)
    expect(page.locator(".output.failed")).to_contain_text("<script>window.touched = 1</script>")
    assert page.locator("#cells img").count() == 1
    assert page.locator("#cells").locator("script, svg, iframe, a, object, embed").count() == 0
    assert page.evaluate("window.touched") is None
    assert all(url.startswith((server.address, "data:")) for url in asked)
    server.end(name)


def test_page_hides_no_character(server: Running, client: httpx.Client, page: Page) -> None:
    text = "a\u200bb\U000e0041 می‌خواهم 👩‍🔬"
    run(client, "unseen", f"# \u202e\u3164\rprint({text!a}); print('old\\rnew')")
    open_session(page, server, "unseen")
    expect(page.locator(".cell")).to_have_count(1)
    assert page.locator(".output").first.inner_text().split("\n")[:2] == [r"a\u200bb\U000e0041 می‌خواهم 👩‍🔬", "new"]
    shown = page.locator(".cell").inner_text()
    assert "# \\u202e\\u3164\\x0d\nprint(" in shown
    assert not set("\u202e\u3164\u200b\U000e0041") & set(shown)
    server.end("unseen")


def test_page_interrupts_and_stops(server: Running, client: httpx.Client, page: Page) -> None:
    run(client, "endless", "1")
    endless = threading.Thread(target=run, args=(client, "endless", "while True: pass"))
    endless.start()
    open_session(page, server, "endless")
    expect(page.locator("#state")).to_have_text("busy")
    page.get_by_role("button", name="Interrupt").click()
    endless.join(30)
    expect(page.locator(".output.failed")).to_contain_text("KeyboardInterrupt")
    expect(page.locator("#state")).to_have_text("idle")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Shut down session").click()
    expect(page.locator("#state")).to_have_text("ended")
    assert all(session["identifier"] != "endless" for session in client.get("/v1/sessions").json()["sessions"])


def test_page_gives_the_notebook(server: Running, client: httpx.Client, page: Page, tmp_path: Path) -> None:
    run(client, "kept", "print('kept')")
    open_session(page, server, "kept")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "kept.ipynb")
    notebook = json.loads((tmp_path / "kept.ipynb").read_text())
    nbformat.validate(notebook)
    assert "".join(notebook["cells"][0]["outputs"][0]["text"]) == "kept\n"
    server.end("kept")


def test_page_says_that_a_session_is_starting(server_engine: str, page: Page, tmp_path: Path) -> None:
    pool = PoolSettings(ready=0, sessions=1, queue_timeout=60)
    with running(tmp_path, engine=server_engine, pool=pool) as server, server.client() as client:
        run(client, "first", "1")
        waiting = threading.Thread(target=run, args=(client, "second", "print('here')"))
        waiting.start()
        open_session(page, server, "second")
        expect(page.locator("#state")).to_have_text("starting")
        expect(page.locator("#hint")).to_contain_text("starting")
        expect(page.locator("tr.chosen .state")).to_have_text("starting")
        with page.expect_response(lambda answer: "/page/cells" in answer.url) as answer:
            pass
        assert answer.value.status == 200
        expect(page.locator("#summary")).to_contain_text("2 sessions")
        server.end("first")
        expect(page.locator(".output")).to_have_text("here")
        expect(page.locator("#hint")).to_be_hidden()
        waiting.join(30)
    expect(page.locator("#summary")).to_contain_text("The server does not answer")


def test_page_marks_a_session_whose_last_cell_failed(server: Running, client: httpx.Client, page: Page) -> None:
    run(client, "marked", "1")
    page.goto(f"{server.address}/")
    row = page.locator("#sessions tr", has_text="marked")
    mark = row.locator(".mark")
    expect(row.locator(".state")).to_have_text("idle")
    expect(mark).to_have_count(0)
    for source, said in (("1/0", "failed"), ("import time; time.sleep(60)", "timed out")):
        client.post("/v1/sessions/marked/execute", json={"source": source, "timeout": 1})
        expect(mark).to_contain_text(said)
    run(client, "marked", "2")
    expect(mark).to_have_count(0)
    server.end("marked")


def test_page_opens_kept_notebooks_of_ended_sessions(server_engine: str, page: Page, tmp_path: Path) -> None:
    database = str(tmp_path / "server.db")
    alice, root = make_key(database, "alice", "executor"), make_key(database, "root", "admin")
    narrow = make_key(database, "narrow", "admin", "--prefix", "team-")
    with running(tmp_path, engine=server_engine, keys="on", database=database) as server:
        with server.client(alice) as client:
            for name in ("team-1", "other", "live"):
                run(client, name, f"print('of', {name!r})")
            for name in ("team-1", "other"):
                client.delete(f"/v1/sessions/{name}").raise_for_status()
        for key, names in ((root, ["other", "team-1"]), (narrow, ["team-1"])):
            page.goto(f"{server.address}/")
            page.locator("#key").fill(key)
            page.get_by_role("button", name="Show sessions").click()
            listed = page.locator("#kept tr button")
            expect(listed).to_have_text(names)
            page.locator("#kept").get_by_role("button", name="team-1", exact=True).click()
            expect(page.locator("#cells .output")).to_have_text("of team-1")
            expect(page.locator("#state")).to_have_text("ended")
            expect(page.get_by_role("button", name="Shut down session")).to_be_hidden()
            with page.expect_download() as download:
                page.get_by_role("button", name="Download").click()
            assert "team-1" in json.dumps(json.loads(Path(download.value.path()).read_text())["cells"])
            page.evaluate("sessionStorage.clear()")


def make_key(database: str, name: str, role: str, *scope: str) -> str:
    done = subprocess.run(
        [COMMAND, "keys", "create", name, "--role", role, "--database", database, *scope],
        capture_output=True,
        text=True,
        check=True,
    )
    return next(word for word in done.stdout.split() if word.startswith("ks_"))


def test_page_is_for_admins(server_engine: str, page: Page, tmp_path: Path) -> None:
    database = str(tmp_path / "server.db")
    with running(tmp_path, engine=server_engine, keys="on", database=database) as server:
        executor, admin = make_key(database, "alice", "executor"), make_key(database, "root", "admin")
        with server.client(executor) as client:
            client.post("/v1/sessions", json={"identifier": "of alice"}).raise_for_status()
            for path in ("/page/sessions", "/page/cells?owner=key:alice&identifier=of%20alice"):
                assert client.get(path).status_code == 403
        page.goto(f"{server.address}/")
        field, show = page.locator("#key"), page.get_by_role("button", name="Show sessions")
        for key in ("nonsense", executor):
            field.fill(key)
            show.click()
            expect(page.locator("#refused")).not_to_be_empty()
            assert page.locator("#sessions tr").count() == 0
        field.fill(admin)
        show.click()
        expect(page.locator("#sessions tr")).to_have_count(1)
        expect(page.locator("#sessions")).to_contain_text("of alice")
        expect(page.locator("#login")).to_be_hidden()
