"""Advice about a name that is unknown: the known one that is like it, and nothing that a stranger could have named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_sandbox import EngineError, ModelNotConfigured
from kernel_sandbox.agents.recipient import make_model
from kernel_sandbox.sandbox.engines import get_engine
from kernel_sandbox.sandbox.engines.image_names import how_to_get
from kernel_sandbox.text.spelling import nearest

COMMAND = Path(sys.executable).with_name("kernel-sandbox")


def test_nearest_name_differs_by_a_letter_or_by_case() -> None:
    known = ("datascience", "python")
    assert [nearest(name, known) for name in ("datasciens", "Pyhton", "python ")] == ["datascience", "python", "python"]
    assert [nearest(name, known) for name in ("pandas", "", "x" * 100_000)] == [None, None, None]


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("datascience", "Get it with: kernel-sandbox image build datascience"),
        ("datasciens", "Did you mean datascience?"),
        ("datasciens:latest", "Did you mean datascience?"),
        ("kernel-sandbox/datascience:latest", "Get it with: kernel-sandbox image build datascience"),
        ("kernel-sandbox/mine:1", "There are: "),
        ("me/mine", "Did you mean me/mine:1.0? Any other is named with its tag"),
        ("nobody", "See: kernel-sandbox image list. Any other is named with its tag"),
    ],
)
def test_image_that_may_be_mistyped_is_not_to_be_pulled(image: str, said: str) -> None:
    advice = how_to_get(image, ["me/mine:1.0"])
    assert advice.startswith(said)
    assert "docker pull" not in advice


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("python:3.12", "Did you mean python, this package's own? If not: docker pull python:3.12"),
        ("me/mine:1.1", "Did you mean me/mine:1.0? If not: docker pull me/mine:1.1"),
        ("me/other@sha256:ab", "Get it with: docker pull me/other@sha256:ab"),
        ("localhost:5000/mine", "Get it with: docker pull localhost:5000/mine"),
        ("ghcr.io/me/other", "Get it with: docker pull ghcr.io/me/other"),
        ("x$(id):1", "Get it with: docker pull 'x$(id):1'"),
    ],
)
def test_image_with_a_registry_or_a_tag_is_to_be_pulled(image: str, said: str) -> None:
    assert how_to_get(image, ["me/mine:1.0"]) == said


@pytest.mark.parametrize("name", ["ofline", "Offline", "off-line"])
def test_model_that_is_nearly_the_offline_one_is_not_asked_of_a_server(name: str) -> None:
    with pytest.raises(ModelNotConfigured, match="Did you mean offline"):
        make_model(name)
    make_model("online")


def test_engine_of_the_environment_is_named_aright() -> None:
    with pytest.raises(EngineError, match=r"no engine named 'dokcer'\. Did you mean docker\? Choose docker or"):
        get_engine("dokcer")


def test_kernelspec_that_is_nearly_named_is_not_removed(tmp_path: Path) -> None:
    where = tmp_path / "share" / "jupyter"
    environment = os.environ | {"JUPYTER_PATH": str(where)}

    def kernelspec(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(COMMAND), "kernelspec", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    kernelspec("install", "--prefix", str(tmp_path), "--name", "analyses")
    refused = kernelspec("remove", "analysis")
    assert refused.returncode == 2
    assert "no sandboxed kernelspec 'analysis'. Did you mean analyses?" in refused.stderr
    assert (where / "kernels" / "analyses").is_dir()
