"""Kernels of other languages do in a session what Python's does."""

from __future__ import annotations

from typing import Any

import pytest

from kernel_sandbox import KernelError, Session, VariableError
from tests.languages import Cells, spoken

__all__ = ["spoken"]
Spoken = tuple[Session, Cells]


def text(session: Session, source: str, **options: Any) -> str:
    execution = session.execute(source, **options)
    assert execution.status == "ok", execution
    return execution.text.strip()


def test_state_stays_from_cell_to_cell(spoken: Spoken) -> None:
    session, cells = spoken
    text(session, cells.assign)
    assert text(session, cells.show).endswith("42")
    assert session.language.name == cells.language


def test_failing_cell_says_why_and_keeps_the_state(spoken: Spoken) -> None:
    session, cells = spoken
    text(session, cells.assign)
    failed = session.execute(cells.fail)
    assert (failed.status, failed.kept) == ("error", "all")
    assert "bad" in failed.text + (str(failed.error.evalue) if failed.error else "")
    assert text(session, cells.show).endswith("42")


def test_cell_that_takes_too_long_is_interrupted_with_its_state_kept(spoken: Spoken) -> None:
    session, cells = spoken
    text(session, cells.assign)
    late = session.execute(cells.endless, timeout=1)
    assert (late.status, late.kept) == ("timeout", "all")
    assert late.duration < 4
    assert text(session, cells.show).endswith("42")


def test_restart_forgets_the_state_and_keeps_files(spoken: Spoken) -> None:
    session, cells = spoken
    text(session, cells.assign)
    session.files.write("kept.txt", "kept")
    session.restart()
    again = session.execute(cells.show)
    assert not again.text.strip().endswith("42")
    assert session.files.read("kept.txt") == b"kept"


def test_death_is_told_at_once_and_a_restart_mends_it(spoken: Spoken) -> None:
    session, cells = spoken
    dead = session.execute(cells.die, timeout=20)
    assert (dead.status, dead.kept) == ("dead", "files")
    assert dead.error is not None
    assert dead.error.ename == "KernelDied"
    session.restart()
    text(session, cells.assign)


def test_names_are_completed(spoken: Spoken) -> None:
    session, cells = spoken
    request = {"code": cells.complete, "cursor_pos": len(cells.complete)}
    reply = session.request("complete_request", request)
    assert reply is not None
    assert any(cells.completed in match for match in reply["matches"]), reply


def test_transcript_names_the_kernel_in_its_own_words(spoken: Spoken) -> None:
    session, cells = spoken
    metadata = session.transcript.notebook.metadata
    assert metadata.language_info.name == session.kernel_info["language_info"]["name"]
    assert metadata.kernelspec.language == cells.language
    assert metadata.kernelspec.name == f"{cells.language.lower()}-sandbox"
    assert metadata.kernelspec.name != cells.kernel, "Jupyter would open it on the host's own kernel"


def test_what_only_python_can_is_refused_in_words(spoken: Spoken) -> None:
    session, _ = spoken
    with pytest.raises(KernelError, match="Variables are carried from and to Python"):
        session.get("x")
    with pytest.raises((KernelError, VariableError), match="Python"):
        session.put("x", 1)
    with pytest.raises(KernelError, match="Shell commands"):
        session.run_command("ls")
