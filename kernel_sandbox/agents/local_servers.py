"""Model servers on this machine: found on their usual ports, and named to a user who has no model.

Any program of this machine may listen there. It is sent a request for its list of models and nothing else, what it
answers is bounded in time and size, and a model's name is taken only where it has no character that a shell reads.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PORTS: Mapping[int, str] = {11434: "Ollama", 1234: "LM Studio", 8000: "vLLM", 8080: "llama.cpp"}
TIMEOUT = 1.0
"""Seconds for the whole of one answer."""
MAX_BYTES = 256 * 1024

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
NAME = "NAME"
"""Stands for a model whose name is not known."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A program that answers as a server of models does."""

    port: int
    usual: str
    """What usually listens on this port."""
    model: str
    """One of its models; NAME where it lists none."""

    @property
    def url(self) -> str:
        return url_of(self.port)


def url_of(port: int) -> str:
    """Return the base URL of a server on this machine."""
    return f"http://127.0.0.1:{port}/v1"


async def find_local_servers(ports: Mapping[int, str] = PORTS) -> list[LocalServer]:
    """Return the servers that answer on these ports."""
    answers = await asyncio.gather(*(_ask(port) for port in ports))
    listed = {port: read_models(answer) for port, answer in zip(ports, answers, strict=True)}
    return [
        LocalServer(port, ports[port], next((each for each in models if "embed" not in each), NAME))
        for port, models in listed.items()
        if models is not None
    ]


async def _ask(port: int) -> bytes:
    """Ask for the list of models; return the whole answer, or nothing. HTTP/1.0 ends it with the connection."""
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET /v1/models HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
                await reader.readexactly(MAX_BYTES)
            finally:
                writer.close()
    except asyncio.IncompleteReadError as exc:
        return exc.partial
    except (OSError, TimeoutError):
        pass
    return b""


def read_models(answer: bytes) -> list[str] | None:
    """Return the names of the models in an answer; None where it is not that of a server of models."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not re.match(rb"HTTP/1\.[01] 200\b", head):
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(listed := content.get("data", 0), list | None):
        return None
    names = [each.get("id") for each in listed or () if isinstance(each, dict)]
    return [name for name in names if isinstance(name, str) and _MODEL.fullmatch(name)]


def how_to_get_one(servers: list[LocalServer] | None, command: Callable[[str, str], str]) -> str:
    """Write how the user gets a model; None: servers were not looked for.

    `command` writes what to type for a server's URL and a model.
    """
    said = "Set OPENAI_API_KEY for a model of OpenAI's, or OPENAI_BASE_URL for one of a server of yours."
    for server in servers or ():
        said += (
            f"\nA model server answers on port {server.port} of this machine, as {server.usual} does. It was asked "
            f"for its list of models only. If it is yours, ask it with:\n{command(server.url, server.model)}"
        )
    if servers == []:
        usual = ", ".join(f"{name} {port}" for port, name in PORTS.items())
        said += (
            f"\nNone answers on this machine's usual ports ({usual}). One that does is asked with:\n"
            f"{command(url_of(next(iter(PORTS))), NAME)}"
        )
    return said
