"""`%sandbox COMMAND`: one function per command. Each gets the options and shows what it did."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kernel_sandbox.doors.magic.front_end import Front
from kernel_sandbox.doors.magic.sessions import Sessions, Slot, WantedSandbox
from kernel_sandbox.errors import SandboxError, what_is_kept
from kernel_sandbox.host.links import check_download, led_away
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.setup import kernelspec
from kernel_sandbox.spec.values import DATA_DIRECTORY
from kernel_sandbox.text import clipping
from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.ansi import plain_text


def wanted_of(options: argparse.Namespace) -> WantedSandbox:
    """Read what the options ask of a sandbox."""
    save = getattr(options, "save", None)
    return WantedSandbox(
        engine=options.engine,
        image=options.image,
        memory=options.memory,
        cpus=getattr(options, "cpus", None),
        mounts=tuple(getattr(options, "mount", ())),
        save=notebook_path(save) if save else None,
    )


def notebook_path(text: str) -> Path:
    """Read a notebook's path. Raises SandboxError where it has another suffix."""
    path = Path(text).expanduser()
    if path.suffix != ".ipynb":
        raise SandboxError(f"{text} is no notebook's name: let it end in .ipynb.")
    return path


class Commands:
    """The commands, over the sessions of a notebook."""

    def __init__(self, front: Front, sessions: Sessions, settings: Callable[[], Mapping[str, Any]]) -> None:
        self._front = front
        self._sessions = sessions
        self._settings = settings

    def run(self, options: argparse.Namespace) -> None:
        """Do one command. Raises SandboxError."""
        getattr(self, f"_{options.command}")(options)

    def _slot(self, options: argparse.Namespace) -> Slot:
        return self._sessions.find(options.session)

    def _start(self, options: argparse.Namespace) -> None:
        if options.session in self._sessions.names:
            raise SandboxError(f"Session {options.session!r} is open: `%sandbox status` shows it.")
        slot = self._sessions.get(options.session, wanted_of(options), self._settings())
        slot.new = False
        self._front.say(describe(slot))
        for weakness in slot.session.weakened:
            self._front.say(f"  weakened here: {weakness}")
        if slot.session.transcript.path is not None and (warning := kernelspec.warning()):
            self._front.say(warning)

    def _status(self, options: argparse.Namespace) -> None:
        if not self._sessions.names:
            self._front.say("No sandbox is open: `%sandbox start` or a %%sandbox cell opens one.")
            return
        rows = [self._status_row(self._sessions.find(name)) for name in self._sessions.names]
        self._say_table(("SESSION", "IMAGE", "ENGINE", "CELLS", "MEMORY", "DATA", "PROCESSES"), rows)

    def _status_row(self, slot: Slot) -> tuple[str, ...]:
        session = slot.session
        cells = str(len(session.transcript.sources))
        try:
            usage = session.usage()
        except SandboxError:
            return slot.name, session.spec.image, session.engine, cells, "gone: %sandbox restart", "", ""
        memory = "?" if usage.memory is None else format_size(usage.memory)
        used = f"{memory} of {format_size(session.spec.limits.memory_bytes)}"
        return slot.name, session.spec.image, session.engine, cells, used, format_size(usage.data), str(usage.processes)

    def _restart(self, options: argparse.Namespace) -> None:
        slot = self._slot(options)
        slot.session.restart()
        slot.known.generation = slot.session.generation
        self._front.say(f"A fresh kernel. {what_is_kept(slot.session.kept_by_restart)}")

    def _interrupt(self, options: argparse.Namespace) -> None:
        self._slot(options).session.interrupt()

    def _shutdown(self, options: argparse.Namespace) -> None:
        names = self._sessions.names if options.all else [options.session]
        for name in names:
            self._sessions.close(name)
        self._front.say(f"Ended: {', '.join(names) or 'none was open'}.")

    def _files(self, options: argparse.Namespace) -> None:
        files = self._slot(options).session.files.list(options.directory)
        if not files:
            self._front.say(f"{DATA_DIRECTORY} is empty.")
            return
        rows = []
        for info in files:
            size = "directory" if info.kind == "directory" else format_size(info.size)
            rows.append((size, f"{info.modified_at.astimezone():%Y-%m-%d %H:%M}", one_line(info.name)))
        self._say_table(("SIZE", "MODIFIED", "NAME"), rows)

    def _upload(self, options: argparse.Namespace) -> None:
        info = self._slot(options).session.files.upload(options.path, options.name)
        self._front.say(f"↑ {DATA_DIRECTORY}/{info.name}  {format_size(info.size)}")
        if target := led_away(Path(options.path).expanduser()):
            self._front.say(f"  that is {target}, by a link in this directory")

    def _download(self, options: argparse.Namespace) -> None:
        name = options.name.removeprefix(f"{DATA_DIRECTORY}/")
        check_download(options.path)
        target = self._slot(options).session.files.download(name, options.path)
        self._front.say(f"↓ {target}  {format_size(target.stat().st_size)}")

    def _save(self, options: argparse.Namespace) -> None:
        path = notebook_path(options.path)
        transcript = self._slot(options).session.transcript
        transcript.path = portal().call(transcript.save, path)
        self._front.say(f"Kept in {transcript.path}, from now on after every cell. {kernelspec.warning()}".rstrip())

    def _limits(self, options: argparse.Namespace) -> None:
        session = self._slot(options).session
        limits = session.spec.limits
        rows = [
            ("memory", format_size(limits.memory_bytes)),
            ("processors", f"{limits.cpus:g}"),
            ("processes", str(limits.pids)),
            *((place, format_size(size)) for place, size in limits.tmpfs_sizes.items()),
            ("output of a cell", format_size(float(limits.output_bytes))),
            ("network", "none"),
        ]
        rows += [("weakened here", weakness) for weakness in session.weakened]
        self._say_table(("LIMIT", "VALUE"), rows)

    def _say_table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        table = [tuple(head), *(tuple(row) for row in rows)]
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        for row in table:
            self._front.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def describe(slot: Slot) -> str:
    """Return one line that describes a sandbox."""
    session, limits = slot.session, slot.session.spec.limits
    return (
        f"Sandbox {slot.name!r}: {session.spec.image} on {session.engine}, {format_size(limits.memory_bytes)} memory, "
        f"{limits.cpus:g} processors, no network."
    )


def one_line(text: str, limit: int = 200) -> str:
    """Write a sandbox's text on one line."""
    return clipping.one_line(plain_text(text), limit)
