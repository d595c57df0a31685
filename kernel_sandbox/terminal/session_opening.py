"""A session that opens in front of the user, with what they gave it.

What `run` and `repl` are asked for is in `start_options`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernel_sandbox.host.links import led_away
from kernel_sandbox.sandbox.standing import BegunSandbox
from kernel_sandbox.session.prompts import InputHandler
from kernel_sandbox.session.sync import Session, session_in
from kernel_sandbox.session.transcript import Transcript
from kernel_sandbox.spec.values import SandboxSpec
from kernel_sandbox.terminal.console import Screen
from kernel_sandbox.text.amounts import format_seconds, format_size


@contextlib.contextmanager
def opened_session(
    screen: Screen,
    engine: str | None,
    spec: SandboxSpec,
    *,
    data: Sequence[Path],
    save: Path | None = None,
    transcript: Transcript | None = None,
    input_handler: InputHandler | None = None,
) -> Iterator[Session]:
    """Give an open session with the files of `data` in it, and tell of both."""
    with BegunSandbox(spec, engine) as begun:
        session = session_in(begun, save=save, transcript=transcript, input_handler=input_handler)
        with opened(screen, session, begun, data):
            yield session


@contextlib.contextmanager
def opened(screen: Screen, session: Session, begun: BegunSandbox, data: Sequence[Path]) -> Iterator[None]:
    """Open a session of a sandbox that was begun before, put the files of `data` in it, and tell of both."""
    spec, engine = session.spec, begun.standing.engine
    try:
        with _busy(screen, f"Starting a sandbox ({spec.image})"):
            session.open()
        limits = f"{format_size(spec.limits.memory_bytes)} memory, {spec.limits.cpus:g} processors, no network"
        took = format_seconds(time.monotonic() - begun.began)
        how = f"{session.engine}{'' if engine else f' ({session.engine_reason})'}"
        screen.say((f"Sandbox of {spec.image} on {how}: {limits}  ({took})", "dim"))
        for weakness in session.weakened:
            screen.say((f"  weakened here: {weakness}", "yellow"))
        for mount in spec.mounts:
            if target := led_away(Path(mount.source)):
                screen.say((f"  {mount.target} shows {target}, by a link in this directory", "yellow"))
        for path in data:
            with _busy(screen, f"Copying {path.name}"):
                info = session.files.upload(path)
            screen.say((f"  ↑ /mnt/data/{info.name}  {format_size(info.size)}", "dim"))
            if target := led_away(path):
                screen.say((f"    that is {target}, by a link in this directory", "yellow"))
        yield
    finally:
        session.close()


@contextlib.contextmanager
def _busy(screen: Screen, text: str) -> Iterator[None]:
    if screen.live:
        with screen.console.status(text):
            yield
    else:
        yield
