"""Variables in and out of a session, by value: `%%sandbox -i` and `-o`.

The bytes go through a file under /mnt/data, which is gone afterwards; the sandbox's kernel reads or writes it in an
expression beside the cells (`inside`, `values`), so that neither the transcript nor the count of cells knows of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.magic.values import Refused, pack, unpack
from kernel_sandbox.policy import DATA_DIRECTORY, format_size
from kernel_sandbox.reactor import call_reactor, portal
from kernel_sandbox.session import AsyncSession
from kernel_sandbox.sync import Session

FOLDER = ".kernel-sandbox"
"""Below /mnt/data, while a transfer lasts."""
PATIENCE = 120.0
"""Seconds for the kernel to pack or unpack; the million rows of a benchmark take half of one."""
WATCH = 0.5
"""Seconds between two looks whether the kernel still lives."""
_HERE = Path(__file__).parent
# `request` is JSON text within JSON text, which is a Python literal too: no value is ever part of the source.
_EXPRESSION = (
    "(lambda r: (lambda n, v: (exec(r['values'], v), exec(r['inside'], n),"
    " n['serve'](r, get_ipython().user_ns, v))[-1])"
    "({'__name__': 'inside'}, {'__name__': 'values'}))(__import__('json').loads(%s))"
)


class TransferError(SandboxError):
    """A variable that could not be carried, with its name and the reason."""


def send_variable(session: Session, name: str, value: Any, limit: int, file: str | None = None) -> None:
    """Set a variable in the sandbox to a copy of a value of the host; `file` keeps a DataFrame under /mnt/data too.

    Raises TransferError for what cannot be carried or is more than `limit` bytes.
    """
    try:
        packed = pack(value, limit)
    except Refused as exc:
        raise TransferError(f"{name!r} was not sent: {exc}.") from exc
    request = {"do": "take", "name": name, "file": f"{DATA_DIRECTORY}/{file}" if file else None}

    async def send() -> None:
        async with _Exchange(session._session) as exchange:
            await exchange.files.write(exchange.place, packed)
            await exchange.ask(request, f"{name!r} was not sent")

    call_reactor(send)


def keep_note(session: Session, name: str, value: Any) -> None:
    """Say in the transcript where a variable came from: the cells below cannot be run again without it."""
    shape = getattr(value, "shape", None)
    size = f", {' × '.join(map(str, shape))}" if isinstance(shape, tuple) and shape else ""
    portal().call(session.transcript.add_markdown, f"*`{name}` came from the notebook: {type(value).__name__}{size}.*")


def fetch_variable(session: Session, name: str, limit: int) -> Any:
    """Return a copy of a variable of the sandbox. Raises TransferError as `send_variable` does."""

    async def fetch() -> bytes:
        async with _Exchange(session._session) as exchange:
            await exchange.ask({"do": "give", "name": name, "limit": limit}, f"{name!r} was not fetched")
            size = {info.name: info.size for info in await exchange.files.list(FOLDER)}.get(exchange.place, 0)
            if size > limit + 100:
                raise TransferError(f"{name!r} was not fetched: {format_size(size)} are more than the limit.")
            return await exchange.files.read(exchange.place)

    try:
        return unpack(call_reactor(fetch))
    except Refused as exc:
        raise TransferError(f"{name!r} was not fetched: {exc}.") from exc


class _Exchange:
    """A file under /mnt/data for one transfer, and the question to the kernel about it."""

    def __init__(self, session: AsyncSession) -> None:
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
        """Have the kernel do its part. Raises TransferError with its reason."""
        sources = {name: (_HERE / f"{name}.py").read_text(encoding="utf-8") for name in ("values", "inside")}
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
        answer = _read_answer(await self._reply(content))
        if answer is not None:
            raise TransferError(f"{otherwise}: {answer}.")

    async def _reply(self, content: dict[str, Any]) -> dict[str, Any] | None:
        """Await the kernel's reply, but not that of a dead one: a request to it raises, with the cause."""
        task = asyncio.ensure_future(self._session.request("execute_request", content, PATIENCE))
        try:
            while not (await asyncio.wait({task}, timeout=WATCH))[0]:
                await self._session.request("kernel_info_request", {}, 0.0)
            return task.result()
        except asyncio.CancelledError:
            await self._session.interrupt()
            raise
        finally:
            task.cancel()


def _read_answer(reply: Mapping[str, Any] | None) -> str | None:
    """Read why the kernel refused; None where it has done its part. What it says is the sandbox's: one short line."""
    if reply is None:
        return f"the sandbox's kernel did not answer within {PATIENCE:g} s"
    found = reply.get("user_expressions")
    answer = found.get("answer") if isinstance(found, Mapping) else None
    if not isinstance(answer, Mapping):
        return "the sandbox's kernel cannot exchange variables: only IPython can"
    if answer.get("status") != "ok":
        return _line(f"{answer.get('ename')}: {answer.get('evalue')}")
    try:
        told = json.loads(answer["data"]["text/plain"])
        return _line(str(told["refused"])) if "refused" in told else None
    except (KeyError, TypeError, ValueError):
        return "the sandbox's kernel gave no answer that can be read"


def _line(text: str) -> str:
    return "".join(character for character in text[:500] if character.isprintable()).rstrip(".")
