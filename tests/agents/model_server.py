"""A real HTTP server on loopback that speaks Chat Completions, from a script. Streams when it is asked to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """Answer with text."""

    text: str


@dataclass(frozen=True)
class Call:
    """Answer with tool calls: pairs of a name and its arguments, as values or as (malformed) JSON text."""

    calls: Sequence[tuple[str, Mapping[str, Any] | str]]
    text: str = ""


@dataclass(frozen=True)
class Fail:
    """Answer with an HTTP error."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """Answer 200 with these bytes as JSON."""

    body: bytes


@dataclass(frozen=True)
class Cut:
    """Stream the answer, and close the connection in the middle; `cleanly`: end the stream, but too early."""

    answer: Say | Call
    cleanly: bool = False


@dataclass(frozen=True)
class Slow:
    """Stream the answer with so many seconds before each piece of five characters."""

    answer: Say | Call
    pause: float


class Hang:
    """Answer when the server is closed."""


Reply = Say | Call | Fail | Raw | Cut | Slow | Hang


class ModelServer(ThreadingHTTPServer):
    """Answers one scripted reply after the other, and GET /v1/models with `models`.

    `requests` are the bodies that came, `keys` their bearers, `heads` what other requests began with.
    """

    daemon_threads = True

    def __init__(self, replies: Sequence[Reply], port: int = 0, models: Sequence[str] = ()) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.replies = list(replies)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.models = models
        self.heads: list[str] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def model_server(*replies: Reply, port: int = 0, models: Sequence[str] = ()) -> Iterator[ModelServer]:
    """Serve in a thread while the block runs."""
    with ModelServer(replies, port, models) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def do_GET(self) -> None:
        self.server.heads.append(f"{self.requestline}\n{self.headers}")
        listed = [{"id": name, "object": "model"} for name in self.server.models]
        self._send(200 if self.path == "/v1/models" else 404, json.dumps({"object": "list", "data": listed}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers["Authorization"])
        reply = self.server.replies.pop(0) if self.server.replies else Fail(500)
        if isinstance(reply, Hang):
            self.server.closing.wait()
            self.close_connection = True
        elif isinstance(reply, Fail):
            content = json.dumps({"error": {"message": f"scripted {reply.status}"}}).encode()
            self._send(reply.status, content, reply.headers)
        elif isinstance(reply, Raw):
            self._send(200, reply.body)
        elif body.get("stream"):
            self._stream(reply)
        else:
            assert not isinstance(reply, Cut | Slow), "only a stream can be cut or slow"
            self._send(200, json.dumps(_completion(reply)).encode())

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, reply: Say | Call | Cut | Slow) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        answer = reply.answer if isinstance(reply, Cut | Slow) else reply
        events = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in _chunks(answer)] + [b"data: [DONE]\n\n"]
        for event in events[: len(events) // 2] if isinstance(reply, Cut) else events:
            if isinstance(reply, Slow) and self.server.closing.wait(reply.pause):
                break
            self._write_chunk(event)
        if isinstance(reply, Cut) and not reply.cleanly:
            self.close_connection = True
        else:
            self._write_chunk(b"")

    def _write_chunk(self, content: bytes) -> None:
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _message(reply: Say | Call) -> dict[str, Any]:
    if isinstance(reply, Say):
        return {"role": "assistant", "content": reply.text}
    texts = [value if isinstance(value, str) else json.dumps(value) for _, value in reply.calls]
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": text}}
        for n, ((name, _), text) in enumerate(zip(reply.calls, texts, strict=True))
    ]
    return {"role": "assistant", "content": reply.text or None, "tool_calls": calls}


def _completion(reply: Say | Call) -> dict[str, Any]:
    choice = {"index": 0, "message": _message(reply), "finish_reason": _reason(reply)}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def _reason(reply: Say | Call) -> str:
    return "stop" if isinstance(reply, Say) else "tool_calls"


def _chunks(reply: Say | Call) -> Iterator[dict[str, Any]]:
    """Split an answer into many deltas, tool arguments too, as servers do."""
    message = _message(reply)
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    deltas += [{"content": piece} for piece in _pieces(message["content"] or "")]
    for index, call in enumerate(message.get("tool_calls", ())):
        name = call["function"]["name"]
        deltas.append({"tool_calls": [call | {"index": index, "function": {"name": name, "arguments": ""}}]})
        pieces = _pieces(call["function"]["arguments"])
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces]
    common = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    for delta in deltas:
        yield common | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield common | {"choices": [{"index": 0, "delta": {}, "finish_reason": _reason(reply)}]}
    yield common | {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}}


def _pieces(text: str) -> list[str]:
    return [text[start : start + 5] for start in range(0, len(text), 5)]
