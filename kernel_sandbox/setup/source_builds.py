"""A source archive becomes a wheel, in a session: with no network, no file of the host, and the limits of any other.

What a package's build system does is its author's code. What comes back is one file with a wheel's name, and small
enough; pip then reads it in the sandbox in which it reads all others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kernel_sandbox.errors import EngineError, SandboxError
from kernel_sandbox.sandbox.known_packages import IMPORTED_AS
from kernel_sandbox.session.outputs import Execution, StreamOutput
from kernel_sandbox.session.sync import Session
from kernel_sandbox.setup.image_request import REQUIREMENT, WHEEL_FILE
from kernel_sandbox.spec.values import DATA_DIRECTORY, Limits
from kernel_sandbox.text.characters import visible

BUILDER = Path(__file__).parents[1] / "inside" / "source_builder.py"
PATIENCE = 300.0
"""Seconds that one build may take."""
MOST_ROUNDS = 4
MOST_NEEDS = 30
LARGEST_WHEEL = 256 * 1024**2
LINES_SHOWN = 8
LIMITS = Limits(memory="2g", cell_timeout=PATIENCE)

RUN = """\
import subprocess, sys
with open("/tmp/out", "w+b") as out, open("/tmp/err", "w+b") as err:
    built = subprocess.run([sys.executable, "-I", *{arguments!r}], stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    print(open("/tmp/out", errors="replace").read()[-20000:] if not built.returncode else "")
    print(open("/tmp/err", errors="replace").read()[-4000:], file=sys.stderr)
"""
"""Into files: a process that a build leaves would hold a pipe open."""

NeedsFetcher = Callable[[Sequence[str]], Sequence[Path]]
"""Gets wheels of what a build system needs."""


@dataclass(frozen=True, slots=True)
class SourceBuilds:
    """Builds archives, each in a session of its own on the image that is built upon."""

    engine: str
    image: str
    pip: Path
    needed: NeedsFetcher
    under_way: list[str] = field(default_factory=list)
    """The archives that are built now, each for the one before it."""

    def build(self, archive: Path, target: Path) -> Path:
        """Build to a wheel in `target`. Raises EngineError with the last that the build said."""
        if archive.name in self.under_way:
            raise EngineError(f"{archive.name} needs itself to be built: give a wheel of it.")
        self.under_way.append(archive.name)
        try:
            return self._build(archive, target)
        finally:
            self.under_way.pop()

    def _build(self, archive: Path, target: Path) -> Path:
        """Build in as many rounds as the archive names more that it needs."""
        wheels: list[Path] = []
        asked: list[str] = []
        for _ in range(MOST_ROUNDS):
            told = self._run(archive, wheels, target)
            if isinstance(told, Path):
                return told
            if told == asked:
                break
            asked = told
            wheels = list(self.needed(told))
        listed = visible(", ".join(asked))[:300]
        raise EngineError(f"{archive.name} needs {listed} to be built, which do not go together: give a wheel of it.")

    def _run(self, archive: Path, wheels: Sequence[Path], target: Path) -> Path | list[str]:
        """Build once; return the wheel, or what is needed first."""
        try:
            with Session(engine=self.engine, image=self.image, limits=LIMITS) as session:
                for path in (archive, self.pip):
                    session.files.upload(path)
                session.files.write("build/source_builder.py", BUILDER.read_text())
                session.files.write("build/out/.keep", "")
                session.files.write("wheels/.keep", "")
                for wheel in wheels:
                    session.files.upload(wheel, f"wheels/{wheel.name}")
                places = (archive.name, self.pip.name, "wheels", "build/out")
                arguments = [f"{DATA_DIRECTORY}/{place}" for place in ("build/source_builder.py", *places)]
                done = session.execute(RUN.format(arguments=arguments), timeout=PATIENCE)
                told = _read(_written(done, "stdout"))
                if isinstance(told, list):
                    return _judged(archive, told)
                if told is None:
                    raise EngineError(_failed(archive, _written(done, "stderr") or done.text))
                return session.files.download(f"build/out/{told}", target / told, limit=LARGEST_WHEEL)
        except EngineError:
            raise
        except SandboxError as exc:
            raise EngineError(f"{archive.name} could not be built: {exc.happened}") from exc


def _written(done: Execution, name: str) -> str:
    """Return what a cell wrote to one stream."""
    return "".join(each.text for each in done.outputs if isinstance(each, StreamOutput) and each.name == name)


def _read(said: str) -> str | list[str] | None:
    """Return the name of a wheel, or what is needed; None for anything else."""
    try:
        told = json.loads(said.strip().splitlines()[-1])
        if isinstance(told.get("wheel"), str) and WHEEL_FILE.fullmatch(told["wheel"]):
            return str(told["wheel"])
        needs = told["needs"]
        if isinstance(needs, list) and needs and len(needs) <= MOST_NEEDS:
            return [str(need) for need in needs]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        pass
    return None


def _judged(archive: Path, needs: list[str]) -> list[str]:
    """Return what a build needs. Raises EngineError for what no requirements file should hold."""
    for need in needs:
        if not REQUIREMENT.fullmatch(need):
            raise EngineError(
                f"{archive.name} needs {visible(need)[:200]!r} to be built, which is no package of an index: build it "
                "yourself (pip wheel), then --with ./FILE.whl."
            )
    return needs


def _failed(archive: Path, said: str) -> str:
    meant = IMPORTED_AS.get(archive.name.partition("-")[0].lower())
    last = "\n".join(visible(line)[:200] for line in said.strip().splitlines()[-LINES_SHOWN:])
    advice = f"{f'Did you mean {meant}? ' if meant else ''}Ask for a version that has a wheel, or build one yourself"
    return (
        f"{archive.name} could not be built to a wheel, in a sandbox without a network and without a compiler:\n"
        f"{last}\n{advice}: pip wheel, then --with ./FILE.whl."
    )
