"""The log and the traces: what stands in them, and above all what does not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from kernel_sandbox.service.logs import session_digest
from kernel_sandbox.service.traces import Tracing
from tests.doors.http.collector import running_collector

CANARY = "canary-7f3a"


def logged(source: str, log_format: str = "json") -> list[str]:
    """The lines that a process writes. (A log is a thing of the whole process, and this one has pytest's.)"""
    head = (
        "import asyncio, logging\nfrom kernel_sandbox.service.logs import *\n"
        f"set_up({log_format!r})\nCANARY = {CANARY!r}\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", head + source], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def entries(source: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(source)]


def test_request_is_one_line_of_json() -> None:
    source = "log_request('POST', '/v1/sessions/{id}', 200, 0.01234, session=CANARY, identity='key:alice')\n"
    found = entries(source * 2 + "log_request('GET', '/health', 200, 0.001)\n")
    first, second, bare = found
    assert (first["event"], first["level"], first["method"], first["route"]) == (
        "request",
        "info",
        "POST",
        "/v1/sessions/{id}",
    )
    assert (first["status"], first["ms"], first["identity"]) == (200, 12.3, "key:alice")
    assert len(first["session"]) == 8
    assert first["session"] == second["session"]
    assert "session" not in bare
    assert "identity" not in bare
    assert CANARY not in json.dumps(found)


def test_digest_of_a_session_differs_from_process_to_process() -> None:
    source = "log_request('GET', '/', 200, 0.0, session=CANARY)\n"
    digests = {entries(source)[0]["session"] for _ in range(2)} | {session_digest(CANARY)}
    assert len(digests) == 3
    assert session_digest(CANARY) == session_digest(CANARY) != session_digest(CANARY + "x")
    assert session_digest("\ud800")


def test_other_libraries_say_their_own_words_only() -> None:
    found = entries(
        """
access = logging.getLogger("uvicorn.error")
access.info('%s - "WebSocket %s" [accepted]', ("127.0.0.1", 1), "/v1/sessions/" + CANARY)
logging.getLogger("asyncio").error("Task exception was never retrieved\\nfuture: " + CANARY)
logging.getLogger("httpx").warning("HTTP Request: %s", CANARY)
logging.getLogger("other").warning({"url": CANARY})
logging.getLogger("httpx").info("not shown %s", CANARY)
"""
    )
    assert [entry["event"] for entry in found] == [
        "Task exception was never retrieved",
        "HTTP Request: …",
        "dict",
    ]
    assert CANARY not in json.dumps(found)


def test_numbers_of_other_libraries_are_shown() -> None:
    found = entries(
        """
other = logging.getLogger("uvicorn.error")
other.info("Finished server process [%d]", 4711)
other.warning("%.2f of %(name)s")
other.warning("%5.1f%% of %s in %r, 0x%x", 12.34, CANARY, CANARY, 255)
other.warning("%(count)d of %(name)s", {"count": 3, "name": CANARY})
other.warning("%d is %s", CANARY, 1)
other.warning("%s", 10**5000)
"""
    )
    assert [entry["event"] for entry in found[:5]] == [
        "Finished server process [4711]",
        "%.2f of %(name)s",
        " 12.3% of … in …, 0xff",
        "3 of …",
        "… is 1",
    ]
    assert CANARY not in json.dumps(found)


def test_exception_is_its_type_and_place_without_its_words() -> None:
    found = entries(
        """
class Trouble(Exception):
    pass

def inner():
    raise Trouble(CANARY) from ValueError(CANARY)

try:
    inner()
except Trouble as exc:
    log_failure("request failed", exc, route="/v1")
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\\n", exc_info=exc)
"""
    )
    assert [entry["event"] for entry in found] == ["request failed", "Exception in ASGI application"]
    for entry in found:
        assert entry["error"] == "__main__.Trouble"
        assert entry["where"][-1].endswith(" inner")
    assert CANARY not in json.dumps(found)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_value_cannot_make_a_line_of_its_own(log_format: str) -> None:
    lines = logged(
        r"log_request('GET', '/', 200, 0.0, identity='oidc:x a\nlevel=error \x1b[31m status=500')", log_format
    )
    assert len(lines) == 1
    assert "\x1b" not in lines[0]


def test_text_shows_the_same_fields() -> None:
    line = logged("log_event('started', port=8000, host='127.0.0.1', modes='keys, oidc', nothing=None)", "text")[0]
    assert line.endswith('INFO started port=8000 host=127.0.0.1 modes="keys, oidc"')


# Traces


def test_spans_reach_the_collector_without_data() -> None:
    with running_collector() as collector:
        tracing = Tracing(collector.endpoint)
        with tracing.span("request", route="/v1/sessions/{id}") as outer:
            with pytest.raises(ValueError, match=CANARY), tracing.span("execute"):
                raise ValueError(CANARY)
            outer.set("status", 500)
        tracing.close()
    spans = {span["name"]: span for span in collector.spans()}
    assert set(spans) == {"request", "execute"}
    assert spans["execute"]["parent"] == spans["request"]["id"]
    assert spans["request"]["attributes"] == {"route": "/v1/sessions/{id}", "status": 500}
    assert spans["execute"]["attributes"] == {"error.type": "ValueError"}
    assert (spans["execute"]["events"], spans["execute"]["message"]) == (0, "")
    assert collector.resource() == {"service.name"}
    assert not any(CANARY.encode() in body for body in collector.received)


def test_tracing_without_an_endpoint_needs_nothing() -> None:
    source = (
        "import sys\nfrom kernel_sandbox.service.traces import Tracing\ntracing = Tracing(None)\n"
        "with tracing.span('x', a=1) as span: span.set('b', 2)\ntracing.close()\n"
        "sys.exit('opentelemetry' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", source], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_line_of_the_log_hides_no_character(log_format: str) -> None:
    hidden = "\u3164\u200b\u202e\u2028\U000e0041\x85\x1b"
    (line,) = logged(f"log_event('it' + {hidden!a}, name={hidden!a})", log_format)
    assert not set(hidden) & set(line)
    assert r"\u202e" in line
