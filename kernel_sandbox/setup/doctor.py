"""What sandboxes need of this machine: looked at, judged, and with the step that mends it.

`kernel-sandbox doctor` shows the findings. What is an engine's own business, its `examine` says; the machine's is in
doctor_host.py. Nothing here raises because something is wrong.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kernel_sandbox.errors import EngineError, SandboxError
from kernel_sandbox.host.reactor import call_reactor
from kernel_sandbox.sandbox.engines import NAMES, environments
from kernel_sandbox.sandbox.engines.all_engines import Answers, ask_engines
from kernel_sandbox.sandbox.engines.base import Engine, Finding
from kernel_sandbox.sandbox.engines.choice import VARIABLE, choose_engine
from kernel_sandbox.sandbox.sandbox import look_inside
from kernel_sandbox.setup import environment_builder
from kernel_sandbox.setup.doctor_host import examine_host
from kernel_sandbox.setup.engine_images import EngineImage, list_images
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.text.amounts import format_size


@dataclass(frozen=True, slots=True)
class Section:
    """Findings about one thing: what a session would take, an engine, or the machine."""

    title: str
    findings: tuple[Finding, ...]

    @property
    def has_problem(self) -> bool:
        return any(finding.verdict == "problem" for finding in self.findings)


def examine(engine: str | None = None) -> list[Section]:
    """Look at everything; of the engines only at the one that is named.

    Without a name, what is wrong with an engine is only a note where a session would take the other one and that is
    sound. Raises EngineError for an unknown engine.
    """
    names = (engine,) if engine else NAMES
    examined = _examine_engines(engine)
    engines = [Section(name, tuple(_engine_findings(name, examined))) for name in names]
    chosen, finding = _choice(engine)
    sound = any(section.title == chosen and not section.has_problem for section in engines)
    if sound:
        engines = [section if section.title == chosen else _as_notes(section) for section in engines]
    return [Section("session", (finding,)), *engines, Section("machine", tuple(examine_host()))]


def _examine_engines(engine: str | None) -> tuple[Answers[list[Finding]], Answers[list[EngineImage]]]:
    async def question(asked: Engine) -> list[Finding]:
        return await asked.examine()

    findings = ask_engines(question, engine)
    try:
        return findings, ask_engines(list_images, engine)
    except EngineError as exc:
        return findings, Answers({}, {engine or "": exc})


def _engine_findings(
    name: str, examined: tuple[Answers[list[Finding]], Answers[list[EngineImage]]]
) -> Iterator[Finding]:
    findings, images = examined
    if name in findings.refused:
        yield Finding(name, "problem", str(findings.refused[name]), "when the machine is less busy, ask again")
        return
    yield from findings.given[name]
    for image in images.given.get(name, ()):
        yield _image(image)
    if name == "bubblewrap":
        yield _environments(images.given.get(name, []))
    usable = [image.name for image in images.given.get(name, ()) if image.usable]
    if usable:
        yield _promises(name, replace(SandboxSpec(), image=usable[0]))


def _promises(engine: str, spec: SandboxSpec) -> Finding:
    """Start a sandbox and look from inside, as every session does at its start."""
    try:
        promises = call_reactor(look_inside, engine, spec)
    except SandboxError as exc:
        return Finding("Self-check", "problem", f"no sandbox can be started: {exc}")
    broken = [promise for promise in promises if not promise.kept]
    if not broken:
        return Finding("Self-check", "ok", f"a sandbox keeps all {len(promises)} promises, seen from inside")
    told = "; ".join(f"{promise.name}: {promise.detail}" for promise in broken)
    walls = any(promise.wall for promise in broken)
    remedy = "see the findings above" if walls else ""
    return Finding("Self-check", "problem" if walls else "note", f"not kept: {told}", remedy)


def _image(image: EngineImage) -> Finding:
    subject, remedy = f"Image {image.name}", image.again
    if not image.usable:
        # Only the one that a session takes by default must be there.
        return Finding(subject, "problem" if image.name == SandboxSpec().image else "note", image.state, remedy)
    detail = f"{format_size(image.size or 0)}, base {image.base or 'unknown'}"
    if image.state == "out of date":
        return Finding(subject, "note", f"{detail}, older than what it is made from", remedy)
    return Finding(subject, "ok", f"{detail}: {', '.join(image.holds)}")


def _environments(images: list[EngineImage]) -> Finding:
    """Look at the place of the environments; one that cannot be written matters only where one is missing."""
    missing = any(not image.usable and image.name == SandboxSpec().image for image in images)
    try:
        environment_builder.check_room(SandboxSpec().image)
    except EngineError as exc:
        remedy = f"export {environments.PREFIX_VARIABLE}=DIR"
        return Finding("Environments", "problem" if missing else "note", str(exc), remedy)
    shelf = environments.shelf()
    existing = next(path for path in (shelf, *shelf.parents) if path.exists())
    return Finding("Environments", "ok", f"{shelf}, {format_size(shutil.disk_usage(existing).free)} free")


def _choice(engine: str | None) -> tuple[str, Finding]:
    """Return the name of the engine that a session would start with, or an empty text, and the finding about it."""

    async def choose() -> tuple[str, str]:
        choice = await choose_engine(engine, SandboxSpec())
        await choice.engine.check(SandboxSpec())
        return choice.engine.name, choice.line

    try:
        name, line = call_reactor(choose)
    except EngineError as exc:
        named = f" --engine {engine}" if engine else ""
        detail = f"none would start: {exc}" if engine or os.environ.get(VARIABLE) else "no engine can start one yet"
        return "", Finding("A session", "problem", detail, f"kernel-sandbox setup{named}")
    return name, Finding("A session", "ok", f"takes {line}")


def _as_notes(section: Section) -> Section:
    findings = (
        replace(finding, verdict="note") if finding.verdict == "problem" else finding for finding in section.findings
    )
    return Section(section.title, tuple(findings))
