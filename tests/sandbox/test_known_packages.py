"""What a kernel is told to say of a missing package: the command keeps what its image holds."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_sandbox.inside.missing_packages import MissingPackages
from kernel_sandbox.sandbox.known_packages import words
from kernel_sandbox.setup.image_request import read_request

BUILD = "kernel-sandbox image build"
LOCKED = f"kernel-sandbox image show own --lock > own.txt && {BUILD} mine own.txt --from python"


def command(image: str, facts: dict[str, Any], asked: str = "pip install polars", engine: str = "docker") -> str:
    line = MissingPackages(words(image, engine, facts)).about_command(asked)
    assert line is not None
    return line.partition(": ")[2]


def own(base: str, *asked: str) -> dict[str, Any]:
    return {"image": "own", "base": base, "asked": list(asked)}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (own("python", "tinypackage>=1"), f"{BUILD} mine --from python --with 'tinypackage>=1' --with polars"),
        (own("full", "a", "apt:graphviz"), f"{BUILD} mine --from full --with a --apt graphviz --with polars"),
        (
            own("python", "a-1.0-py3-none-any.whl", "apt:graphviz"),
            f"{LOCKED} --apt graphviz --with polars",
        ),
        (
            own("python", *(f"p{number}" for number in range(30))),
            f"{LOCKED} --with polars",
        ),
        (own("elsewhere", "a"), f"{BUILD} mine --from datascience --with polars"),
        ({}, f"{BUILD} mine --from datascience --with polars"),
        ({"image": "own", "base": "python", "asked": 7}, f"{BUILD} mine --from python --with polars"),
    ],
)
def test_command_for_an_image_of_ones_own_keeps_what_was_added(facts: dict[str, Any], expected: str) -> None:
    assert command("own", facts) == expected


def test_command_keeps_what_the_request_of_the_image_was() -> None:
    request = read_request("own", base="python", packages=["polars>=1", "duckdb[all]"], apt=["graphviz"])
    facts = own(request.base, *request.asked)
    assert command("own", facts, "pip install six").split(" ", 5)[5] == (
        "python --with 'polars>=1' --with 'duckdb[all]' --apt graphviz --with six"
    )


def test_image_that_was_made_elsewhere_is_to_be_mended_there() -> None:
    of_a_file, foreign = (
        MissingPackages(words(image, "docker", facts)).about_command("pip install polars") or ""
        for image, facts in (("own", own("")), ("me/theirs:1", {}))
    )
    assert "Add it to the Dockerfile of own, or build" in of_a_file
    assert "Add it where the image me/theirs:1 was made, or build" in foreign


def test_packages_of_debian_are_for_docker() -> None:
    assert command("python", {}, "apt install graphviz", "bubblewrap").endswith("--apt graphviz --engine docker")
    assert command("python", {}, "apt update", "bubblewrap").endswith("--apt PACKAGE --engine docker")
    assert command("python", {}, "apt install graphviz").endswith("--apt graphviz")
    both = command("python", {}, "apt-get install -y graphviz && pip install pydot")
    assert both.endswith("--with pydot --apt graphviz")


def test_file_of_an_image_leaves_no_place_for_another() -> None:
    line = command("own", own("python", "a-1.0-py3-none-any.whl"), "pip install -r requirements.txt")
    assert line.endswith("mine own.txt --from python --with PACKAGE")
