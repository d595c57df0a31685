"""What is checked in the guest. Each check runs things there as one account, and returns what is wrong in sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.guest.inside.judging import MARK
from tests.guest.machine import ACCOUNTS, PYTHON, Machine, Result
from tests.guest.recipe import CLONE, ROOT

COMMAND = f"{PYTHON.removesuffix('python')}kernel-sandbox"

NOTED = {"member": ["not kept: terminals: one sandbox can take all pseudo-terminals of the machine"]}
"""What doctor's self-check may note. Only root can bound the terminals of a container: engines have no option."""


def readme(guest: Machine, account: str) -> list[str]:
    """The first line of README.md installs it and answers the demo's question."""
    line = next(line[2:] for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("$ "))
    fresh = f"rm -rf ~/readme && mkdir ~/readme && cp -r {CLONE} ~/readme/clone && cd ~/readme/clone"
    # An image of its own, so that it is built as on a machine that has none.
    done = guest.run(account, f"{fresh} && export KERNEL_SANDBOX_PREFIX=$PWD/prefix && {line}")
    wrong = [] if done.returncode == 0 else [f"it ended with {done.returncode}: {_end(done)}"]
    notebook = guest.run(account, "cat ~/readme/clone/traffic_demo.ipynb && rm -rf ~/readme").stdout
    try:
        cells = json.loads(notebook)["cells"]
    except ValueError:
        return [*wrong, f"its notebook is none: {notebook[:200]}"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    return wrong if any("image/png" in output.get("data", {}) for output in outputs) else [*wrong, "no figure came"]


def doctor(guest: Machine, account: str) -> list[str]:
    """`kernel-sandbox doctor` finds no problem, sees control groups, and gives the right advice."""
    findings, wrong = _doctor(guest, account, "")
    wrong += [f"a problem: {_told(finding)}" for finding in findings if finding["verdict"] == "problem"]
    groups = [finding for finding in findings if finding["subject"] == "Control groups"]
    wrong += [f"limits are not held by groups: {_told(finding)}" for finding in groups if finding["verdict"] != "ok"]
    if len(groups) != len(engines(account)) + (account == "member"):
        wrong.append(f"it tells of groups {len(groups)} times")
    if account == "user":  # the engine runs, and this user may not talk to it
        advice = [finding["remedy"] for finding in findings if finding["section"] == "docker"]
        if not any("usermod" in remedy for remedy in advice):
            wrong.append(f"the arrow of the engine does not lead into group docker: {advice}")
    return wrong


def promises(guest: Machine, account: str) -> list[str]:
    """A sandbox of each engine keeps what it promises, as doctor's self-check sees it from inside."""
    wrong = []
    for engine in engines(account):
        findings, noise = _doctor(guest, account, f" --engine {engine}")
        wrong += noise
        found = [finding for finding in findings if finding["subject"] == "Self-check"]
        kept = [finding["verdict"] for finding in found] == ["ok"]
        if not kept and [finding["detail"] for finding in found] != NOTED.get(account):
            wrong.append(f"{engine}: {[_told(finding) for finding in found] or 'no self-check'}")
    return wrong


def _doctor(guest: Machine, account: str, options: str) -> tuple[list[dict[str, str]], list[str]]:
    """Return doctor's findings, and what it says beside them, which is wrong."""
    done = guest.run(account, f"{COMMAND} doctor{options} --json")
    said, _, rest = f"\n{done.stdout}".partition("\n[\n")
    try:
        return json.loads(f"[{rest}"), ([f"it says beside its findings: {said.strip()[-300:]}"] if said.strip() else [])
    except ValueError:
        return [], [f"no JSON, status {done.returncode}: {_end(done)}"]


def limits(guest: Machine, account: str) -> list[str]:
    """Memory, processors and processes of a session are held, from its start to its end."""
    return _inside(guest, account, "limits")


def sockets(guest: Machine, account: str) -> list[str]:
    """The buffers of a session's sockets count as its memory."""
    return _inside(guest, account, "sockets")


ATTACKS = "-m pytest -v -rfE --tb=short -p tests.guest.inside.boundary -p no:cacheprovider -p no:hypothesispytest"
ON_DISK = "--basetemp=/var/tmp/attacks-$USER"
"""Some attacks are on a disk, and /tmp is memory in Debian 13."""


def redteam(guest: Machine, account: str) -> list[str]:
    """The attacks of tests/redteam that would cross the boundary are contained. (Half an hour each.)"""
    # docker-py leaves a socket open where it may not connect.
    allowed = "-W ignore::ResourceWarning" if account == "user" else ""
    wrong = []
    for engine in engines(account):
        other = "docker" if engine == "bubblewrap" else "bubblewrap"
        done = guest.python(account, f"{ATTACKS} {ON_DISK} {allowed} -k 'not {other}' tests/redteam", patience=6 * 3600)
        failed = re.findall(r"^(?:FAILED|ERROR) (?:tests/redteam/)?(.*)", done.stdout, re.MULTILINE)
        wrong += [f"{engine}: {line}" for line in failed]
        if not re.search(r"\d+ passed", done.stdout) or (done.returncode and not failed):
            wrong.append(f"{engine}: pytest ended with {done.returncode}: {_end(done)}")
    return wrong


@dataclass(frozen=True)
class Check:
    """One check, and whom it is made as."""

    run: Callable[[Machine, str], list[str]]
    accounts: tuple[str, ...] = tuple(ACCOUNTS)

    @property
    def about(self) -> str:
        return (self.run.__doc__ or "").strip()


CHECKS = {
    "doctor": Check(doctor),
    "promises": Check(promises),
    "limits": Check(limits),
    "sockets": Check(sockets),
    "readme": Check(readme, ("root", "user")),
    "redteam": Check(redteam, ("root", "user")),
}
"""By name, the quick ones first."""


def engines(account: str) -> tuple[str, ...]:
    """Name the engines that an account may use. A member of group docker has the other one in common with a user."""
    return {"root": ("bubblewrap", "docker"), "user": ("bubblewrap",), "member": ("docker",)}[account]


def _inside(guest: Machine, account: str, name: str) -> list[str]:
    """Run a program of inside/ for each engine, and return what it calls wrong."""
    wrong = []
    for engine in engines(account):
        done = guest.python(account, f"-m tests.guest.inside.{name} {engine}")
        told = [line for line in done.stdout.splitlines() if line]
        for line in told if done.returncode == 0 else ():
            if not line.startswith(MARK):
                print(f"    {engine}: {line}", flush=True)
        wrong += [f"{engine}: {line.removeprefix(MARK)}" for line in told if line.startswith(MARK)]
        if done.returncode:
            wrong.append(f"{engine}: it broke off with {done.returncode}: {_end(done)}")
    return wrong


def _told(finding: dict[str, str]) -> str:
    return f"{finding['section']}, {finding['subject']}: {finding['detail']} -> {finding['remedy']}"


def _end(done: Result) -> str:
    return done.stdout.strip()[-1500:]
