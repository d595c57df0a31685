"""`python -m tests.redteam`: run the attacks, and with --faults the faults too, and print what they came to."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zmq

from kernel_sandbox import Session
from kernel_sandbox.errors import SandboxError
from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.sandbox.engines.docker_client import connect
from tests.redteam.report import as_markdown, read, replaced

TESTS = Path(__file__).parents[1]
README = TESTS.parent / "README.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.redteam", description=__doc__)
    parser.add_argument("--engine", choices=NAMES, help="attack in this engine only")
    parser.add_argument("--faults", action="store_true", help="inject the faults of tests/faults too")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep what the tests recorded, a JSON object a line")
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md, where all is contained")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ks-redteam-") as directory:
        attacks, faults = Path(directory, "attacks"), Path(directory, "faults")
        for path in (attacks, faults):
            path.touch()
        status = _run_tests(options.engine, options.faults, attacks, faults)
        found = [attacks.read_text().splitlines(), faults.read_text().splitlines()]
    if options.json is not None:
        options.json.write_text("".join(f"{line}\n" for lines in found for line in lines))
    report = read(found[0], found[1] if options.faults else None)
    tables = as_markdown(report, versions(), time.monotonic() - started)
    print(f"\n{tables}")
    problems = report.problems + (["pytest failed: see above"] if status else [])
    if options.readme and not problems:
        README.write_text(replaced(README.read_text(), tables))
    print("\n".join(problems) or "All contained.")
    return 1 if problems else 0


def _run_tests(engine: str | None, with_faults: bool, attacks: Path, faults: Path) -> int:
    folders = [str(TESTS / name) for name in ("redteam", "faults") if name == "redteam" or with_faults]
    others = [name for name in NAMES if engine is not None and name != engine]
    chosen = ["-k", " and ".join(f"not {name}" for name in others)] if others else []
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", *folders, *chosen]
    environment = {"KERNEL_SANDBOX_REDTEAM_REPORT": str(attacks), "KERNEL_SANDBOX_FAULTS_REPORT": str(faults)}
    return subprocess.run(command, cwd=TESTS.parent, env=os.environ | environment, check=False).returncode


def versions() -> dict[str, str]:
    """What took part, by name; what is not here is left out."""
    found = {"kernel": f"{platform.system()} {platform.release()}, {platform.machine()}"}
    try:
        components = connect().version().get("Components") or []
        found |= {
            f"Docker {part['Name'].lower()}": part["Version"] for part in components if "init" not in part["Name"]
        }
    except SandboxError:
        pass
    if shutil.which("bwrap"):
        told = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False).stdout
        found["bubblewrap"] = told.split()[-1]
    found |= {"Python": platform.python_version(), "libzmq": zmq.zmq_version()}
    inside = "import ipykernel, json, sys; print(json.dumps([ipykernel.__version__, sys.version.split()[0]]))"
    for engine in NAMES:
        try:
            with Session(engine=engine, image="python") as session:
                kernel, python = json.loads(session.execute(inside).raise_for_error().text)
                found[f"ipykernel in {engine}"] = f"{kernel} on Python {python}"
        except SandboxError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
