"""What `repr` says of sessions, pools and transcripts: which, where, and how it stands; whatever their state."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kernel_sandbox import AsyncSession, PolicyError, PoolSettings, SandboxSpec, Session, SessionPool, Transcript

HOSTILE = "x\u202e\u3164\x1b]0;title\x07\n<script>" + "a" + "\u0301" * 50
"""Reordered, invisible, a terminal's command, a new line, a flood of marks."""


def until(text: str, thing: object) -> None:
    deadline = time.monotonic() + 20
    while text not in repr(thing):
        assert time.monotonic() < deadline, repr(thing)
        time.sleep(0.01)


def assert_harmless(said: str) -> None:
    assert said.isascii() or said.replace("…", "").replace("\u0301" * 8, "").isascii()
    assert said.isprintable()
    assert len(said) < 1200


def test_repr_of_a_session_follows_its_state(engine: str) -> None:
    session = Session(engine=engine, image="python")
    facts = f"engine '{engine}', image 'python'>"
    assert repr(session) == f"<Session {session.id}: new, {facts}"
    with session:
        assert repr(session) == f"<Session {session.id}: idle, {facts}"
        cell = threading.Thread(target=session.execute, args=("import time; time.sleep(60)",))
        cell.start()
        until(f"{session.id}: busy, ", session)
        session.interrupt()
        cell.join()
        session.execute("import os; os._exit(1)")
        assert repr(session) == f"<Session {session.id}: dead, {facts}"
        session.restart()
        assert repr(session) == f"<Session {session.id}: idle, {facts}"
    assert repr(session) == f"<Session {session.id}: closed, {facts}"


@pytest.mark.anyio
async def test_repr_of_an_async_session_follows_its_state(engine: str) -> None:
    session = AsyncSession(engine=engine, image="python")
    assert repr(session) == f"<AsyncSession {session.id}: new, engine '{engine}', image 'python'>"
    async with session:
        assert f"{session.id}: idle, " in repr(session)
        stream = session.stream("while True: pass")
        while stream.is_waiting:
            await asyncio.sleep(0.01)
        assert f"{session.id}: busy, " in repr(session)
        await stream.aclose()
    assert f"{session.id}: closed, " in repr(session)


def test_repr_of_a_session_that_could_not_open_says_closed() -> None:
    session = Session(engine="bubblewrap", image="no-such-image")
    with pytest.raises(Exception, match="no-such-image"):
        session.open()
    assert repr(session) == f"<Session {session.id}: closed, engine 'bubblewrap', image 'no-such-image'>"


@pytest.mark.parametrize("kind", [Session, AsyncSession, SessionPool, Transcript])
def test_repr_of_what_was_never_made_does_not_raise(kind: Any) -> None:
    """A debugger shows what a constructor has left when it raised."""
    assert repr(kind.__new__(kind)) == f"<{kind.__name__}>"


def test_repr_of_a_session_whose_constructor_raised_does_not_raise() -> None:
    with pytest.raises(PolicyError):
        Session(spec=SandboxSpec(), image="python")
    half = AsyncSession.__new__(AsyncSession)
    with pytest.raises(PolicyError):
        half.__init__(save="no-notebook.txt")  # type: ignore[misc]
    assert repr(half) == "<AsyncSession>"


@pytest.mark.parametrize("kind", [Session, AsyncSession])
def test_repr_of_a_session_hides_nothing(kind: type[Session] | type[AsyncSession]) -> None:
    image = HOSTILE.replace("\n", "") + "y" * 1000
    said = repr(kind(image=image, engine=HOSTILE))
    assert_harmless(said)
    assert r"\u202e" in said
    assert r"\u3164" in said
    assert r"\x1b]0;title\x07" in said


@pytest.mark.anyio
async def test_repr_of_a_pool_follows_its_state(engine: str) -> None:
    pool = SessionPool(PoolSettings(ready=0, sessions=3), spec=SandboxSpec(image="python"))
    assert repr(pool) == "<SessionPool: new, image 'python', 0 of 3 sessions handed out>"
    pool = SessionPool(PoolSettings(ready=0, sessions=3), spec=SandboxSpec(image="python"), engine=engine)
    facts = f"engine '{engine}', image 'python'"
    async with pool:
        assert repr(pool) == f"<SessionPool: open, {facts}, 0 of 3 sessions handed out>"
        async with pool.acquire("ada"):
            assert repr(pool) == f"<SessionPool: open, {facts}, 1 of 3 sessions handed out>"
    assert repr(pool) == f"<SessionPool: closed, {facts}, 0 of 3 sessions handed out>"


def test_repr_of_a_pool_hides_nothing() -> None:
    assert_harmless(repr(SessionPool(spec=SandboxSpec(image=HOSTILE.replace("\n", "")), engine=HOSTILE)))


def test_repr_of_a_transcript_says_what_made_it(session: Session, tmp_path: Path) -> None:
    assert repr(Transcript()) == "<Transcript: 0 cells>"
    session.execute("1")
    transcript = session.transcript
    made = f"session '{session.id}', engine '{session.engine}', image 'python'"
    assert repr(transcript) == f"<Transcript: 1 cell, {made}>"
    transcript.path = tmp_path / "a.ipynb"
    assert repr(transcript) == f"<Transcript: 1 cell, {made}, path '{tmp_path / 'a.ipynb'}'>"


@pytest.mark.parametrize("told", [7, [], {"engine": 7, "image": None}, dict.fromkeys(("engine", "image"), HOSTILE)])
def test_repr_of_a_strangers_notebook_hides_nothing(told: object, tmp_path: Path) -> None:
    path = tmp_path / "strange.ipynb"
    notebook = {"cells": [], "metadata": {"kernel_sandbox": told}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook))
    transcript = Transcript.load(path)
    transcript.path = Path(f"a{HOSTILE}.ipynb")
    assert_harmless(repr(transcript))
    assert "title" in repr(transcript)
