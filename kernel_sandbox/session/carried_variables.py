"""One variable from the host to a session's kernel or back, by value.

The bytes go through a file under /mnt/data, which is gone afterwards; the kernel reads or writes it in an expression
beside the cells (`inside`, `packing`, `unpacking`, `plain`), so that neither the transcript nor the count of cells
knows of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from kernel_sandbox.errors import FileError, SandboxError, VariableError, VariableNotFound, VariableTooLarge
from kernel_sandbox.inside.variables.packing import pack
from kernel_sandbox.inside.variables.plain import NotCarried, TooLarge
from kernel_sandbox.inside.variables.unpacking import unpack
from kernel_sandbox.sandbox.files import AsyncSandboxFiles
from kernel_sandbox.spec.values import DATA_DIRECTORY
from kernel_sandbox.text.amounts import format_size
from kernel_sandbox.text.characters import visible

FOLDER = ".kernel-sandbox"
"""Below /mnt/data, while a transfer lasts."""
PATIENCE = 120.0
"""Seconds for the kernel to pack or unpack; the million rows of a benchmark take half of one."""
SOURCES = ("plain", "packing", "unpacking", "exchange")
_HERE = Path(__file__).parents[1] / "inside" / "variables"
# `request` is JSON text within JSON text, which is a Python literal too: no value is ever part of the source.
_EXPRESSION = (
    "(lambda r: (lambda n, v: (exec(r['plain'], v), exec(r['packing'], v), exec(r['unpacking'], v),"
    " exec(r['exchange'], n), n['serve'](r, get_ipython().user_ns, v))[-1])"
    "({'__name__': 'inside'}, {'__name__': 'packing'}))(__import__('json').loads(%s))"
)
_ERRORS = {"absent": VariableNotFound, "large": VariableTooLarge}


class CarryingSession(Protocol):
    """What a transfer needs of a session."""

    @property
    def files(self) -> AsyncSandboxFiles: ...

    @property
    def death(self) -> SandboxError | None: ...

    async def request(self, kind: str, content: dict[str, Any], timeout: float = ...) -> dict[str, Any] | None: ...

    async def interrupt(self) -> None: ...


async def send_variable(session: CarryingSession, name: str, value: Any, limit: int, file: str | None = None) -> None:
    """Set a variable of the kernel to a copy of a value; `file` keeps a DataFrame under /mnt/data too.

    Raises VariableError for what cannot be carried, VariableTooLarge for more than `limit` bytes.
    """
    otherwise = f"{check_name(name)!r} was not sent"
    try:
        packed = await asyncio.to_thread(pack, value, limit)
    except NotCarried as exc:
        raise _error("large" if isinstance(exc, TooLarge) else "", otherwise, str(exc)) from exc
    request = {"do": "take", "name": name, "file": f"{DATA_DIRECTORY}/{file}" if file else None}
    async with _Exchange(session) as exchange:
        await exchange.files.write(exchange.place, packed)
        await exchange.ask(request, otherwise)


async def fetch_variable(session: CarryingSession, name: str, limit: int) -> Any:
    """Return a copy of a variable of the kernel. Raises what `send_variable` does, and VariableNotFound."""
    otherwise = f"{check_name(name)!r} was not fetched"
    async with _Exchange(session) as exchange:
        await exchange.ask({"do": "give", "name": name, "limit": limit}, otherwise)
        size = {info.name: info.size for info in await exchange.files.list(FOLDER)}.get(exchange.place, 0)
        if size > limit + 100:
            raise _error("large", otherwise, f"{format_size(size)} are more than the limit")
        packed = io.BytesIO()
        try:
            await exchange.files.copy_to(exchange.place, packed, limit=limit + 100)
        except FileError as exc:  # no honest kernel changes it meanwhile
            raise _error("", otherwise, "its bytes changed while they were read") from exc
    try:
        return await asyncio.to_thread(unpack, packed.getbuffer(), limit)
    except NotCarried as exc:
        raise _error("large" if isinstance(exc, TooLarge) else "", otherwise, str(exc)) from exc
    except ImportError as exc:
        raise _error("", otherwise, f"it needs {exc.name} on this machine: pip install {exc.name}") from exc


def check_name(name: str) -> str:
    """Return the name of a variable. Raises ValueError for what is not one."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"{name!r} is not the name of a variable: assign the value to one in a cell first.")
    return name


def _error(why: str, otherwise: str, reason: str) -> VariableError:
    return _ERRORS.get(why, VariableError)(f"{otherwise}: {reason}.")


class _Exchange:
    """A file under /mnt/data for one transfer, and the question to the kernel about it."""

    def __init__(self, session: CarryingSession) -> None:
        self._session = session
        self.files = session.files
        self.place = f"{FOLDER}/{secrets.token_hex(8)}"

    async def __aenter__(self) -> _Exchange:
        await self.files.write(self.place, b"")  # makes the folder, too
        return self

    async def __aexit__(self, *exc: object) -> None:
        for name in (self.place, FOLDER):
            with contextlib.suppress(SandboxError):
                await self.files.delete(name)

    async def ask(self, request: Mapping[str, Any], otherwise: str) -> None:
        """Ask the kernel to do its part. Raises VariableError with its reason."""
        sources = {name: (_HERE / f"{name}.py").read_text(encoding="utf-8") for name in SOURCES}
        whole = {**request, **sources, "path": f"{DATA_DIRECTORY}/{self.place}"}
        expression = _EXPRESSION % json.dumps(json.dumps(whole))
        content = {
            "code": "",
            "silent": True,
            "store_history": False,
            "user_expressions": {"answer": expression},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        why, reason = _read_answer(await self._reply(content))
        if reason:
            raise _error(why, otherwise, reason)

    async def _reply(self, content: dict[str, Any]) -> dict[str, Any] | None:
        """Await the kernel's reply. Raises the cause where the kernel dies before."""
        try:
            reply = await self._session.request("execute_request", content, PATIENCE)
        except asyncio.CancelledError:
            with contextlib.suppress(SandboxError):
                await self._session.interrupt()
            raise
        if reply is None and self._session.death is not None:
            raise self._session.death
        return reply


def _read_answer(reply: Mapping[str, Any] | None) -> tuple[str, str]:
    """Read why the kernel refused, in a word and in a line; empty where it has done its part. It is the sandbox's."""
    if reply is None:
        return "", f"the kernel did not answer: it was restarted, or took longer than {PATIENCE:g} s"
    found = reply.get("user_expressions")
    answer = found.get("answer") if isinstance(found, Mapping) else None
    if not isinstance(answer, Mapping):
        return "", "the kernel cannot exchange variables: only IPython can"
    if answer.get("status") != "ok":
        return "", _line(f"{answer.get('ename')}: {answer.get('evalue')}")
    try:
        told = json.loads(answer["data"]["text/plain"])
        return str(told.get("why", "")), _line(str(told["refused"])) if "refused" in told else ""
    except (KeyError, TypeError, ValueError, AttributeError):
        return "", "the kernel gave no answer that can be read"


def _line(text: str) -> str:
    return visible(text[:500]).replace("\n", " ").rstrip(".") or "no reason was given"
