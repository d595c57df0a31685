"""The kernel "Python (sandbox)" in a real JupyterLab: what the launcher, the toolbar and the keys do with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from kernel_sandbox.setup.kernelspec import install, prefix_directory
from kernel_sandbox.spec.values import SandboxSpec
from tests.conftest import missing
from tests.doors.magic.lab import Notebook, browser_page, jupyter_lab, write_notebook

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(300),
]
CELLS = [
    "import os\nkept = 6 * 7\nopen('kept.txt', 'w').close()\nnetwork = open('/proc/net/dev').readlines()[2:]\n"
    "print(os.getcwd(), [line.split(':')[0].strip() for line in network])",
    "while True:\n    pass",
    "kept",
    "name = input('Who? ')\nprint('It is', name)",
    "kept.bit_",
    "os.getcwd",
    "import os\nprint('kept' in globals(), os.listdir())",
]


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    """A directory for JUPYTER_PATH with the kernelspec."""
    if reason := missing("bubblewrap"):
        pytest.skip(reason)
    spec = SandboxSpec(image="python")
    return install(prefix_directory(tmp_path / "prefix"), engine="bubblewrap", spec=spec).parent.parent


def test_sandboxed_kernel_works_as_any_other(tmp_path: Path, kernels: Path, pictures: Path) -> None:
    write_notebook(tmp_path / "inside.ipynb", CELLS, kernel="python-sandbox")
    with jupyter_lab(tmp_path, JUPYTER_PATH=str(kernels)) as url, browser_page() as page:
        notebook = Notebook(page, url, "inside.ipynb")
        notebook.run(0)
        expect(notebook.outputs(0)).to_contain_text("/mnt/data ['lo']")
        check_interrupt(notebook, page)
        check_input(notebook, page)
        check_completion(notebook, page)
        check_inspection(notebook, page)
        page.screenshot(path=pictures / "sandboxed_kernel.png")
        check_restart(notebook, page)
        check_launcher(page, url)
        page.screenshot(path=pictures / "launcher.png")


def check_interrupt(notebook: Notebook, page: Page) -> None:
    notebook.start(1)
    expect(page.locator(".jp-StatusBar-Widget", has_text="| Busy")).to_be_visible()
    page.locator("[data-command='notebook:interrupt-kernel']").click()
    notebook.wait(1)
    expect(notebook.outputs(1)).to_contain_text("KeyboardInterrupt")
    notebook.run(2)
    expect(notebook.outputs(2)).to_contain_text("42")


def check_input(notebook: Notebook, page: Page) -> None:
    notebook.start(3)
    box = notebook.cell(3).locator(".jp-Stdin-input")
    expect(notebook.cell(3).locator(".jp-Stdin-prompt")).to_contain_text("Who?")
    box.fill("Ada")
    box.press("Enter")
    notebook.wait(3)
    expect(notebook.cell(3)).to_contain_text("It is Ada")


def check_completion(notebook: Notebook, page: Page) -> None:
    edit(notebook, 4)
    page.keyboard.press("Tab")
    expect(page.locator(".jp-Completer-item", has_text="bit_count")).to_be_visible()
    page.keyboard.press("Escape")


def check_inspection(notebook: Notebook, page: Page) -> None:
    edit(notebook, 5)
    page.keyboard.press("Shift+Tab")
    expect(page.locator(".jp-Tooltip")).to_contain_text("current working directory")


def edit(notebook: Notebook, number: int) -> None:
    """Put the cursor at the end of a cell."""
    notebook.cell(number).locator(".cm-content").click()
    notebook.page.keyboard.press("Control+End")


def check_restart(notebook: Notebook, page: Page) -> None:
    page.keyboard.press("Escape")
    page.locator("[data-command='notebook:restart-kernel']").click()
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    expect(page.locator(".jp-StatusBar-Widget", has_text="| Idle")).to_be_visible()
    notebook.run(6)
    expect(notebook.outputs(6)).to_contain_text("False ['kept.txt']")


def check_launcher(page: Page, url: str) -> None:
    page.goto(f"{url}lab?token=secret&reset")
    card = page.locator(".jp-LauncherCard[title='Python (sandbox)']").first
    logo = card.locator("img")
    expect(logo).to_be_visible()
    assert logo.evaluate("image => image.naturalWidth") > 0
