"""`kernel-sandbox doctor`: shows what `kernel_sandbox.doctor` found."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from kernel_sandbox.cli.app import USAGE
from kernel_sandbox.cli.console import Screen
from kernel_sandbox.cli.options import engine_option
from kernel_sandbox.cli.terminal import plain
from kernel_sandbox.doctor import examine

_MARKS = {"ok": ("✓", "green"), "note": ("•", "yellow"), "problem": ("✗", "bold red")}


@click.command(short_help="Check this machine, and say how to mend what is wrong.")
@engine_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(*, engine: str, as_json: bool) -> int:
    """Check what sandboxes need of this machine: engine, images, packages, room, certificates.

    Each finding is ok, a note or a problem; with a problem comes the command that mends it.

    \b
    Exit status:
      0     no problem was found
      2     there is a problem
    """
    findings = examine(engine)
    problems = sum(finding.verdict == "problem" for finding in findings)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
        return USAGE if problems else 0
    screen = Screen()
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        mark, style = _MARKS[finding.verdict]
        detail = Text(plain(finding.detail))
        if finding.remedy:
            detail.append(f"\n→ {plain(finding.remedy)}", "cyan")
        table.add_row(Text(mark, style), Text(finding.subject, "bold" if finding.verdict == "problem" else ""), detail)
    screen.table(table)
    screen.say()
    if problems:
        screen.say(("✗ ", "bold red"), f"{problems} problem{'' if problems == 1 else 's'}: see the arrows above.")
    else:
        screen.say(("✓ ", "bold green"), "Ready. Try it: ", ("kernel-sandbox repl", "cyan"))
    return USAGE if problems else 0
