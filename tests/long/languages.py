"""Images of languages that take long to build, R's and Java's: built on both engines, and tested as the others are."""

from __future__ import annotations

import subprocess
import sys

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host import programs
from kernel_sandbox.setup import engine_images
from kernel_sandbox.text.amounts import format_size
from tests.languages import EVERY
from tests.long._asked import Asked

IMAGES = ("r", "java")
TESTS = ("tests/session/test_languages.py", "tests/session/test_r_tables.py", "tests/test_language_notebooks.py")


def run(asked: Asked) -> list[str]:
    """Build the images and run the tests of their kernels."""
    wrong = []
    for image in IMAGES:
        for engine in ("docker", "bubblewrap"):
            try:
                built = engine_images.build(engine, image, lambda moment: None)
            except EngineError as exc:
                wrong.append(f"the image {image} could not be built for {engine}: {exc}")
            else:
                print(f"{image} for {engine}: {format_size(built.size)} in {built.seconds:.0f} s", flush=True)
    tests = [sys.executable, "-m", "pytest", "-q", *TESTS]
    if subprocess.run(tests, env={**programs.environment(), EVERY: "all"}, check=False).returncode:
        wrong.append("tests of the languages failed")
    return wrong
