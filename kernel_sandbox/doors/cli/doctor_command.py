"""`kernel-sandbox doctor`: shows what `kernel_sandbox.setup.doctor` found."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from kernel_sandbox.doors.cli.app import USAGE
from kernel_sandbox.setup.doctor import Section, examine
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.terminal.options import one_engine_option
from kernel_sandbox.terminal.safe import plain

_MARKS = {"ok": ("✓", "green"), "note": ("•", "yellow"), "problem": ("✗", "bold red")}


@click.command(short_help="Check this machine, and say how to mend what is wrong.")
@one_engine_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(*, engine: str | None, as_json: bool) -> int:
    """Check what sandboxes need of this machine, and say which engine a session would take.

    It looks at every engine (version, runtime, control groups, security modules, namespaces), its images, the
    packages, the kernelspec, room on the disk, the clock and the settings for certificates. Each finding is ok, a
    note or a problem, with what mends it. What is wrong with one engine is a note where the other one serves.

    \b
    Exit status:
      0     no problem was found
      2     there is a problem
    """
    sections = examine(engine)
    problems = sum(finding.verdict == "problem" for section in sections for finding in section.findings)
    status = USAGE if problems else 0
    if as_json:
        found = [{"section": part.title, **asdict(finding)} for part in sections for finding in part.findings]
        click.echo(json.dumps(found, indent=1))
        return status
    screen = Screen()
    for section in sections:
        _show(screen, section)
    if problems:
        counted = f"{problems} problem{'' if problems == 1 else 's'}: see the arrows above."
        missing = " Set up what is missing: " if sections[0].has_problem else ""
        command = sections[0].findings[0].remedy if missing else ""
        screen.say(("✗ ", "bold red"), counted, missing, (command, "cyan"))
    else:
        named = f" --engine {engine}" if engine else ""
        screen.say(("✓ ", "bold green"), "Ready. Try it: ", (f"kernel-sandbox repl{named}", "cyan"))
    return status


def _show(screen: Screen, section: Section) -> None:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(min_width=15)
    for finding in section.findings:
        mark, style = _MARKS[finding.verdict]
        detail = Text(plain(finding.detail))
        if finding.remedy:
            detail.append(f"\n→ {plain(finding.remedy)}", "cyan")
        table.add_row(Text(mark, style), Text(finding.subject, "bold" if finding.verdict == "problem" else ""), detail)
    if section.title != "session":
        screen.say((section.title, "bold"))
    screen.table(table)
    screen.say()
