"""Jupyter's own test suites, against the stock kernel, the provisioner's and the launcher's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from kernel_sandbox.sandbox.engines import NAMES
from kernel_sandbox.setup.kernelspec import install, prefix_directory
from kernel_sandbox.spec.values import SandboxSpec
from tests.long._allowed import ALLOWED, FAIL_ANYWAY, NO_KERNEL, SOMETIMES
from tests.long._asked import Asked
from tests.long._sources import fetch, install_needs

KERNELS = ("stock", "provisioner", "launcher")
ENGINES = dict(zip(KERNELS[1:], NAMES, strict=True))
"""Each way in over another engine, so that both take part."""
SPEC = SandboxSpec(env={"IPYKERNEL_CELL_NAME": "<IPY-INPUT>"})
"""What nbclient's suite sets in the host's environment, so that tracebacks name no file."""
HOURS = 3600.0
"""Seconds that a suite may take; the longest takes some minutes."""


@dataclass(frozen=True)
class Suite:
    source: str
    """The distribution that it is in."""
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()


SUITES = {
    "jupyter_kernel_test": Suite("jupyter_kernel_test", ("test_ipykernel.py",)),
    "message spec": Suite("ipykernel", ("tests/test_message_spec.py",)),
    "nbclient": Suite("nbclient", ("tests",)),
    "papermill": Suite("papermill", ("papermill/tests",), tuple(f"--ignore={path}" for path in NO_KERNEL)),
}


def run(asked: Asked) -> list[str]:
    """Run every suite against every kernel, print what it came to, and return what differs and may not."""
    cache = asked.cache
    sources, needs = fetch(cache), install_needs(cache)
    found = {}
    for name, suite in SUITES.items():
        for kernel in KERNELS:
            found[name, kernel] = run_suite(suite, sources[suite.source], environment(cache, kernel, needs), cache)
            print(f"{name}, {kernel}: {figures(found[name, kernel])}", flush=True)
    for path, why in NO_KERNEL.items():
        print(f"left out: {path}: {why}")
    print("\n" + "\n".join(table(found)) + "\n")
    return [sentence for name in SUITES for sentence in judge(name, found)]


def environment(cache: Path, kernel: str, needs: Path) -> dict[str, str]:
    """Make the environment in which the name python3 stands for a kernel, and nothing is the user's own."""
    home = cache / "homes" / kernel
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON", "PYTEST"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = kept | {"HOME": str(home), "PATH": path, "PYTHONPATH": str(needs)}
    if kernel == "stock":
        return made
    target = install(prefix_directory(home), name="python3", engine=ENGINES[kernel], spec=SPEC)
    if kernel == "launcher":  # as a front end sees it that knows no provisioners
        document = json.loads((target / "kernel.json").read_text())
        del document["metadata"]["kernel_provisioner"]
        (target / "kernel.json").write_text(json.dumps(document))
    return made | {"JUPYTER_PATH": str(target.parent.parent)}


def run_suite(suite: Suite, source: Path, environment: dict[str, str], cache: Path) -> dict[str, str]:
    """Run a suite, what failed once more, and return how each test ended: passed, failed or skipped."""
    ended = _pytest([*suite.paths, *suite.options], source, environment, cache)
    failed = [test for test, outcome in ended.items() if outcome == "failed"]
    # Some of these tests measure time or guess at it, and call themselves flaky.
    return ended | (_pytest(failed, source, environment, cache) if failed else {})


def _pytest(arguments: list[str], source: Path, environment: dict[str, str], cache: Path) -> dict[str, str]:
    report = cache / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout=120"]
    command += [
        "-o",
        "addopts=",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        "-o",
        "junit_family=xunit1",
        f"--junitxml={report}",
        *arguments,
    ]
    with (cache / "output.txt").open("a") as output:
        output.write(f"\n== {source.name} {environment.get('JUPYTER_PATH', 'stock')} {arguments}\n")
        output.flush()
        subprocess.run(command, cwd=source, env=environment, stdout=output, stderr=output, timeout=HOURS, check=False)
    if not report.exists():
        raise RuntimeError(f"pytest itself failed: see the end of {cache / 'output.txt'}")
    return {_test_id(case): _outcome(case) for case in ElementTree.parse(report).iter("testcase")}


def _test_id(case: ElementTree.Element) -> str:
    file = case.get("file", "")
    module = file.removesuffix(".py").replace("/", ".")
    inner = case.get("classname", "").removeprefix(module).strip(".")
    return "::".join(part for part in (file, *inner.split("."), case.get("name", "")) if part)


def _outcome(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    return "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"


def figures(ended: dict[str, str]) -> str:
    counts = {kind: list(ended.values()).count(kind) for kind in ("passed", "failed", "skipped")}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "nothing ran"


def table(found: dict[tuple[str, str], dict[str, str]]) -> list[str]:
    lines = [f"{'suite':<22}" + "".join(f"{kernel:<36}" for kernel in KERNELS)]
    for name in SUITES:
        lines.append(f"{name:<22}" + "".join(f"{figures(found[name, kernel]):<36}" for kernel in KERNELS))
    return lines


def judge(name: str, found: dict[tuple[str, str], dict[str, str]]) -> list[str]:
    """Return what is wrong in a suite: what passes with the stock kernel alone and is not listed, and the other way."""
    stock = found[name, "stock"]
    wrong = [] if "passed" in stock.values() else [f"{name}: nothing passed with the stock kernel"]
    for test, outcome in stock.items():
        others = {kernel: found[name, kernel].get(test, "missing") for kernel in KERNELS[1:]}
        if outcome == "failed" and test not in FAIL_ANYWAY:
            wrong.append(f"{name}: {test} fails with the stock kernel: something is missing here")
        if outcome != "passed":
            print(f"{outcome} with the stock kernel, too: {test} {others} {FAIL_ANYWAY.get(test, '')}")
            continue
        if test in ALLOWED:
            print(f"allowed to differ: {test} {others}: {ALLOWED[test]}")
            if set(others.values()) == {"passed"} and test not in SOMETIMES:
                wrong.append(f"{name}: {test} may differ, and does not: unlist it")
            continue
        wrong += [f"{name}: {test} with the {kernel}: {ended}" for kernel, ended in others.items() if ended != "passed"]
    return wrong
