"""-i and -o of the magics: variables between the notebook's kernel and a session, and the note that one leaves."""

from __future__ import annotations

from typing import Any

from kernel_sandbox.errors import VariableTooLarge
from kernel_sandbox.host.reactor import portal
from kernel_sandbox.session.sync import Session

SETTING = "%config KernelSandboxMagics.transfer_limit = '1g' raises it."


def send(session: Session, name: str, value: Any, limit: int, file: str | None = None) -> None:
    """Set a variable of the sandbox; `file` keeps a DataFrame under /mnt/data too. Raises VariableError."""
    try:
        session.put(name, value, limit=limit, file=file)
    except VariableTooLarge as exc:
        raise VariableTooLarge(f"{exc} {SETTING}") from exc


def fetch(session: Session, name: str, limit: int) -> Any:
    """Return a copy of a variable of the sandbox. Raises VariableError."""
    try:
        return session.get(name, limit=limit)
    except VariableTooLarge as exc:
        raise VariableTooLarge(f"{exc} {SETTING}") from exc


def keep_note(session: Session, name: str, value: Any) -> None:
    """Note in the transcript where a variable came from: the cells below cannot be run again without it."""
    shape = getattr(value, "shape", None)
    size = f", {' × '.join(map(str, shape))}" if isinstance(shape, tuple) and shape else ""
    portal().call(session.transcript.add_markdown, f"*`{name}` came from the notebook: {type(value).__name__}{size}.*")
