"""A real JupyterLab, and a real browser with a notebook open in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Locator, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
SERVER = """
import sys
from jupyterlab.labapp import main
main(["--no-browser", "--allow-root", "--ServerApp.token=secret", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0",
      "--ServerApp.port_retries=0", "--ServerApp.root_dir=" + sys.argv[1]])
"""
QUIET = {"@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False}}
PATIENCE = 60_000
"""Milliseconds: two processors that everybody shares."""
expect.set_options(timeout=PATIENCE)


@contextmanager
def jupyter_lab(directory: Path, **environment: str) -> Iterator[str]:
    """Serve a directory, and give the address of the server."""
    settings = directory / ".settings"
    for name, values in QUIET.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    runtime = directory / ".runtime"
    env = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")} | environment
    env |= {"JUPYTER_RUNTIME_DIR": str(runtime), "HOME": str(directory), "JUPYTERLAB_SETTINGS_DIR": str(settings)}
    with (directory / ".lab.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-c", SERVER, directory], env=env, stderr=log, stdout=log)
        try:
            deadline = time.monotonic() + 60
            while not (found := list(runtime.glob("jpserver-*.json"))):
                alive = server.poll() is None and time.monotonic() < deadline
                assert alive, (directory / ".lab.log").read_text()
                time.sleep(0.1)
            yield str(json.loads(found[0].read_text())["url"])
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:  # it does not end where a kernel was just starting (it logs a 404)
                server.kill()
                server.wait()


@contextmanager
def browser_page(height: int = 1100) -> Iterator[Page]:
    """A page of a headless Chromium."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    arguments += ["--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            page = browser.new_page(viewport={"width": 1000, "height": height})
            page.set_default_timeout(PATIENCE)
            yield page
        finally:
            browser.close()


def write_notebook(path: Path, sources: Sequence[str], kernel: str = "python3") -> None:
    """Write a notebook of code cells."""
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]  # type: ignore[no-untyped-call]
    notebook.metadata.kernelspec = {"name": kernel, "display_name": kernel, "language": "python"}
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


class Notebook:
    """A notebook that is open in JupyterLab."""

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page = page
        page.goto(f"{url}doc/tree/{name}?token=secret&reset")
        self.root = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        self.root.locator(".jp-Cell").first.wait_for()
        page.locator(".jp-StatusBar-Widget", has_text="| Idle").wait_for()

    def cell(self, number: int) -> Locator:
        return self.root.locator(".jp-Notebook .jp-Cell").nth(number)

    def outputs(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-OutputArea-child")

    def prompt(self, number: int) -> str:
        return self.cell(number).locator(".jp-InputArea-prompt").first.inner_text().strip()

    def start(self, number: int) -> None:
        """Start a cell, and do not wait for it. JupyterLab drops what is run while it still connects: try again."""
        for _ in range(10):
            self.cell(number).locator(".jp-InputArea-prompt").first.click()
            self.page.keyboard.press("Shift+Enter")
            for _ in range(20):
                if self.prompt(number) != "[ ]:":
                    return
                self.page.wait_for_timeout(50)
        raise AssertionError(f"cell {number} does not start")

    def run(self, number: int) -> None:
        """Run a cell to its end."""
        self.start(number)
        self.wait(number)

    def wait(self, number: int) -> None:
        deadline = time.monotonic() + PATIENCE / 1000
        while not self.prompt(number).strip("[]:").isdigit():
            assert time.monotonic() < deadline, f"cell {number} has not ended: {self.prompt(number)}"
            self.page.wait_for_timeout(50)
