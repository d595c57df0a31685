"""Scripts of other languages on the command line, and kernelspecs of their images."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kernel_sandbox.doors.cli.run import run
from kernel_sandbox.doors.cli.source_files import read_source, with_language
from kernel_sandbox.setup.kernelspec import kernelspec_document, names_for
from kernel_sandbox.spec.values import SandboxSpec
from tests.languages import require_image

SCRIPTS = {
    ".sh": ("bash", "# %% first\nx=41\n# %%\necho $((x + 1))\n"),
    ".ts": (
        "javascript",
        "// %% first\nlet x: number = 41;\n// %% [markdown]\n// It's prose.\n// %%\nconsole.log(x + 1);\n",
    ),
}


@pytest.mark.parametrize("suffix", SCRIPTS)
def test_script_runs_in_the_image_of_its_suffix(quick: str, suffix: str, tmp_path: Path) -> None:
    image, text = SCRIPTS[suffix]
    require_image(quick, image)
    script, saved = tmp_path / f"two{suffix}", tmp_path / "out.ipynb"
    script.write_text(text)
    done = CliRunner().invoke(run, [str(script), "--engine", quick, "--save", str(saved)], standalone_mode=False)
    assert done.return_value == 0, done.output
    notebook = json.loads(saved.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) == 2
    assert code[-1]["outputs"][0]["text"] == ["42\n"]
    assert notebook["metadata"]["language_info"]["name"] in ("bash", "typescript")


def test_chosen_image_counts_and_an_unknown_language_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "model.R"
    script.write_text("x <- 'it''s'\n")
    told = read_source(script).metadata
    assert with_language(script, told, SandboxSpec(), chosen=False).image == "r"
    assert with_language(script, told, SandboxSpec(image="mine:1"), chosen=True).image == "mine:1"
    with pytest.raises(click.UsageError, match="written in Fortran: name an image"):
        with_language(script, {"kernelspec": {"language": "Fortran"}}, SandboxSpec(), chosen=False)
    with pytest.raises(click.UsageError, match="neither a script"):
        read_source(tmp_path / "model.f90")


def test_kernelspec_of_an_image_says_its_language_and_how_it_is_interrupted() -> None:
    assert names_for("r") == ("r-sandbox", "R (sandbox)")
    document = kernelspec_document(None, SandboxSpec(image="r"), "R (sandbox)")
    assert (document["language"], document["interrupt_mode"]) == ("R", "signal")
    assert kernelspec_document(None, SandboxSpec())["language"] == "python"
