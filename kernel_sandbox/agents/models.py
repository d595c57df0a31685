"""Language models: the contract, and the one that asks an OpenAI-compatible server.

The loop awaits `agenerate_completion`. The only room that knows the openai client, which is imported when it is first
needed: `import kernel_sandbox.agents` must not wait for it, nor ask for a key.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import anyio.to_thread

from kernel_sandbox.agents.chat_messages import Message
from kernel_sandbox.agents.completions import Completion, CompletionBuilder, as_completion
from kernel_sandbox.errors import ModelError, ModelNotConfigured
from kernel_sandbox.host.reactor import call_reactor, on_reactor
from kernel_sandbox.text.clipping import shorten

ALLOW_MODEL_REQUESTS = True
"""False makes every request to a real model raise ModelNotConfigured: set it so in tests."""
TIMEOUT = 600.0
"""Seconds without a byte from the server; a reasoning model thinks for minutes before it sends one."""
MAX_RETRIES = 2
"""Further tries of a request that a server refused for now, or that did not reach it."""

BASE_URL = "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"

OnText = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a model's requests go."""

    url: str
    named_by: str
    """"base_url", "OPENAI_BASE_URL", "openai_client", or "default"."""

    def __str__(self) -> str:
        """Write the address for a person: no password or query, and no letter that looks like another."""
        parts = urlsplit(self.url)
        shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return shown.encode("ascii", "backslashreplace").decode()


class LanguageModelInterface(ABC):
    """Answers a conversation. `generate_completion` alone makes a model; an async one overrides the other too."""

    @abstractmethod
    def generate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
    ) -> Any:
        """Return a Completion, or a chat completion as a dict or as an SDK's object."""

    async def agenerate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
        on_text: OnText | None = None,
    ) -> Completion:
        """Answer without blocking; by default `generate_completion` in a worker thread.

        `on_text` is called with pieces of the text as they come, in an event loop's thread: it must be quick.
        """
        request: dict[str, Any] = {"model": model, "messages": messages, "tools": tools}
        if reasoning_effort is not None:
            request["reasoning_effort"] = reasoning_effort
        ask = functools.partial(self.generate_completion, **request)
        completion = as_completion(await anyio.to_thread.run_sync(ask, abandon_on_cancel=True))
        if on_text is not None and completion.content:
            on_text(completion.content)
        return completion


class OpenAILanguageModel(LanguageModelInterface):
    """Asks OpenAI, or any server that speaks its Chat Completions.

    The key is `api_key`, or OPENAI_API_KEY when the first request is made; `base_url` is by default OPENAI_BASE_URL,
    then OpenAI itself. A server with its own base URL may need no key. `timeout`, in seconds without a byte from the
    server, is by default OPENAI_TIMEOUT, then 600; `max_retries` is OPENAI_MAX_RETRIES, then 2. `role` is what the
    developer's messages are sent as: "system" for servers that do not know "developer". `openai_client` may be sync
    or async, and is used as it is: base_url, timeout and max_retries are its own.
    """

    def __init__(
        self,
        openai_client: Any = None,
        api_key: str | None = None,
        logger: logging.Logger | None = None,
        *,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        role: Literal["developer", "system"] = "developer",
    ) -> None:
        self.logger = logger or logging.getLogger(__name__)
        self._client = openai_client
        self._own_client = openai_client is None
        self._opened_for: Destination | None = None
        self._api_key = api_key
        self._base_url = base_url
        self._timeout = timeout
        self._max_retries = max_retries
        self._role = role

    @property
    def destination(self) -> Destination:
        """Where the next request goes: to the server of the client that is open, else to the one that is named now."""
        if not self._own_client:
            return Destination(str(getattr(self._client, "base_url", OPENAI)), "openai_client")
        if self._opened_for is not None:
            return self._opened_for
        if self._base_url:
            return Destination(self._base_url, "base_url")
        if named := os.environ.get(BASE_URL, "").strip():
            return Destination(named, BASE_URL)
        return Destination(OPENAI, "default")

    def generate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
    ) -> Completion:
        """Ask, and wait. Raises ModelError for whatever goes wrong."""
        return call_reactor(self.agenerate_completion, model, messages, tools, reasoning_effort)

    async def agenerate_completion(
        self,
        model: str,
        messages: list[Message],
        tools: list[dict[str, Any]] | None = None,
        reasoning_effort: str | None = None,
        on_text: OnText | None = None,
    ) -> Completion:
        """Ask; with `on_text`, have the answer streamed. Raises ModelError for whatever goes wrong."""
        request: dict[str, Any] = {"model": model, "messages": self._with_role(messages)}
        if tools:
            request["tools"] = tools
        if reasoning_effort is not None:
            request["reasoning_effort"] = reasoning_effort
        # A client's connections belong to one event loop, and callers come from many: the reactor is always there.
        return await on_reactor(self._generate, request, on_text)

    def _with_role(self, messages: Sequence[Message]) -> list[Message]:
        return [message | {"role": self._role} if message["role"] == "developer" else message for message in messages]

    async def _generate(self, request: dict[str, Any], on_text: OnText | None) -> Completion:
        client = self._open_client()
        if on_text is None or not _is_async(client):
            completion = as_completion(await self._ask(client, request))
            if on_text is not None and completion.content:
                on_text(completion.content)
            return completion
        builder = CompletionBuilder()
        async for chunk in self._stream(client, request):
            if text := builder.feed(chunk):
                on_text(text)
        return builder.finish()

    async def _ask(self, client: Any, request: dict[str, Any]) -> Any:
        try:
            if _is_async(client):
                return await client.chat.completions.create(**request)
            ask = functools.partial(client.chat.completions.create, **request)
            return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
        except _foreign_errors() as exc:
            raise _translated(exc) from exc

    async def _stream(self, client: Any, request: dict[str, Any]) -> AsyncIterator[Any]:
        """Yield the chunks. Foreign errors are translated here, so that one of `on_text`'s is not taken for them."""
        begun = False
        try:
            options = {"stream": True, "stream_options": {"include_usage": True}}
            async with await client.chat.completions.create(**request, **options) as stream:
                async for chunk in stream:
                    begun = True
                    yield chunk
        except _foreign_errors() as exc:
            if not begun:
                raise _translated(exc) from exc
            raise ModelError(
                f"The model's stream was cut before its end ({_said(exc)}); nothing of that answer was executed. "
                "Ask again."
            ) from exc

    def _open_client(self) -> Any:
        if not ALLOW_MODEL_REQUESTS:
            raise ModelNotConfigured(
                "Requests to real models are switched off (kernel_sandbox.agents.models.ALLOW_MODEL_REQUESTS): "
                "use a ScriptedModel, or switch them on."
            )
        if self._client is None:
            from openai import AsyncOpenAI

            where = self.destination
            self._client = AsyncOpenAI(
                api_key=self._key(where),
                base_url=where.url,
                timeout=_timeout() if self._timeout is None else self._timeout,
                max_retries=_max_retries() if self._max_retries is None else self._max_retries,
            )
            self._opened_for = where
        return self._client

    def _key(self, where: Destination) -> str:
        key = self._api_key or os.environ.get("OPENAI_API_KEY")
        if key:
            return key
        if where.named_by != "default":
            return "none"  # the client insists on one; a local server does not look at it
        raise ModelNotConfigured(
            "There is no key: set OPENAI_API_KEY, give api_key=…, or name a server without keys with base_url=…."
        )

    async def aclose(self) -> None:
        """Close the connections of a client that was made here; the next request opens new ones."""
        client, self._client = (self._client, None) if self._own_client else (None, self._client)
        self._opened_for = None
        if client is not None:
            await on_reactor(client.close)

    def close(self) -> None:
        """Close the connections as `aclose` does, from sync code."""
        call_reactor(self.aclose)


def _timeout() -> float:
    text = os.environ.get("OPENAI_TIMEOUT", "").strip() or str(TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ModelNotConfigured(f"OPENAI_TIMEOUT={text!r} is no time-out: set seconds above 0, such as 600.")
    return seconds


def _max_retries() -> int:
    text = os.environ.get("OPENAI_MAX_RETRIES", "").strip() or str(MAX_RETRIES)
    if not (text.isascii() and text.isdecimal() and len(text) <= 3):
        raise ModelNotConfigured(f"OPENAI_MAX_RETRIES={text!r} is no number of retries: set 0 to 999.")
    return int(text)


def _is_async(client: Any) -> bool:
    # The methods themselves are wrapped, and do not look like coroutine functions.
    return inspect.iscoroutinefunction(getattr(client, "close", None))


def _foreign_errors() -> tuple[type[Exception], ...]:
    """Return what the openai client raises; httpx and json errors pass through it while a body is read."""
    import httpx
    import openai

    return openai.OpenAIError, httpx.HTTPError, httpx.StreamError, ValueError


_ADVICE: Mapping[str, str] = {
    "AuthenticationError": "The server refused the key: check OPENAI_API_KEY, or api_key=…",
    "PermissionDeniedError": "The key may not use this model",
    "NotFoundError": "The server does not know this model, or the base URL is not that of its API",
    "BadRequestError": "The server refused the request",
    "RateLimitError": "The server's rate limit or the account's quota is used up: wait, and ask again",
    "InternalServerError": "The server failed: ask again later",
    "APITimeoutError": "The server did not answer in time: ask again, or give a longer timeout",
    "APIConnectionError": "The server cannot be reached: check the network and the base URL",
}


def _translated(exc: Exception) -> ModelError:
    advice = _ADVICE.get(type(exc).__name__, "The server's answer cannot be read")
    return ModelError(f"{advice} ({_said(exc)}).", status_code=getattr(exc, "status_code", None))


def _said(exc: Exception) -> str:
    return shorten(str(exc).strip() or type(exc).__name__, 500)
