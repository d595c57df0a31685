"""A new image is tried in a session: its kernel starts, and what was asked for can be imported.

An import runs a package's code, so it has the walls and limits of any session, whichever engine it is. What the session
says is bounded, and read field by field.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.errors import EngineError, KernelError, SandboxError
from kernel_sandbox.sandbox.engines.image_names import locked_packages
from kernel_sandbox.session.outputs import StreamOutput
from kernel_sandbox.session.sync import Session
from kernel_sandbox.spec.values import Limits
from kernel_sandbox.text.characters import visible

PROBE = Path(__file__).parents[1] / "inside" / "import_probe.py"
PATIENCE = 180.0
MOST_PACKAGES = 5000
LONGEST = 400
LIMITS = Limits(memory="4g", cell_timeout=PATIENCE)


@dataclass(frozen=True, slots=True)
class ImageContents:
    """What an image holds, as a session of it tells."""

    python: str
    """The version of its Python; empty where its kernel is another language's."""
    packages: tuple[tuple[str, str], ...]
    """Names and versions, by name."""


def try_image(engine: str, image: str, wanted: Sequence[str], shown: str, lock: str) -> ImageContents:
    """Start a session of an image, import packages, and return what it holds.

    A kernel of another language than Python has been tried when it has started; what is in the image is told by
    `lock`, its requirements file, then. `shown` is the image's name in messages. Raises EngineError where no kernel
    starts, or something cannot be imported.
    """
    source = f"WANTED = {list(wanted)!r}\n{PROBE.read_text(encoding='utf-8')}"
    try:
        with Session(engine=engine, image=image, limits=LIMITS) as session:
            if not session.language.is_python:
                return ImageContents("", locked_packages(lock))
            done = session.execute(source, timeout=PATIENCE)
    except KernelError as exc:
        raise EngineError(
            f"No kernel starts in {shown}, and a sandbox needs one (python3 with ipykernel; see images/README.md): "
            f"{exc.happened}"
        ) from exc
    except SandboxError as exc:
        raise EngineError(f"{shown} does not work in a sandbox: {exc.happened}") from exc
    said = "".join(
        output.text for output in done.outputs if isinstance(output, StreamOutput) and output.name == "stdout"
    )
    try:
        told = json.loads(said.strip().splitlines()[-1])
        packages = tuple((_word(name), _word(version)) for name, version in told["packages"][:MOST_PACKAGES])
        contents = ImageContents(_word(told["python"]), packages)
        broken = [tuple(map(_word, problem)) for problem in told["broken"]]
        if not broken:
            return contents
        package, module, problem = broken[0]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as exc:
        reason = f"{done.error.ename}: {done.error.evalue}" if done.error else done.text
        why = f"{visible(reason)[:LONGEST]} {done.fate}".strip()
        raise EngineError(f"What {shown} was asked for cannot be imported: {why}") from exc
    raise EngineError(_not_imported(shown, package, module, problem))


def _not_imported(shown: str, package: str, module: str, problem: str) -> str:
    library = " A system library is missing: add the Debian package that has it with --apt." if ".so" in problem else ""
    return f"{package} was installed in {shown}, but `import {module}` fails: {problem}.{library}"


def _word(value: object) -> str:
    return visible(value)[:LONGEST] if isinstance(value, str) else ""
