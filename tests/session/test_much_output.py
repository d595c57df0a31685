"""Code that shows far more than anybody keeps: it waits for the host, and the sandbox's memory stays free."""

from __future__ import annotations

import json
import time

import pytest
import zmq

from kernel_sandbox import Limits, Session

MEGABYTE = 1024**2


@pytest.fixture
def small(engine: str) -> Session:
    return Session(engine=engine, image="python", limits=Limits(memory="400m", output_bytes="1m"))


def test_gigabyte_that_is_printed_takes_no_memory(small: Session) -> None:
    with small:
        shown = small.execute("for _ in range(1024): print('x' * 2**20)", timeout=120)
        assert shown.status == "ok", shown.cause
        assert "1023 MB of text not shown" in shown.text
        assert (small.usage().memory or 0) < 200 * MEGABYTE


def test_displays_of_a_gigabyte_take_no_memory(small: Session) -> None:
    with small:
        source = (
            "from IPython.display import display\nfor _ in range(1500): display({'image/png': 'A' * 700_000}, raw=True)"
        )
        shown = small.execute(source, timeout=120)
        assert shown.status == "ok", shown.cause
        assert (small.usage().memory or 0) < 200 * MEGABYTE


def test_client_that_stops_reading_holds_no_cell_up_for_long(session: Session) -> None:
    """Another client of the same kernel, stopped in its terminal, say: the session's own outputs come all the same."""
    connection = json.loads(session.connection_file.read_text())
    with zmq.Context() as context, context.socket(zmq.SUB) as stopped:
        stopped.setsockopt(zmq.LINGER, 0)
        stopped.setsockopt(zmq.RCVHWM, 1)
        stopped.subscribe(b"")
        stopped.connect(f"ipc://{connection['ip']}-{connection['iopub_port']}")
        deadline = time.monotonic() + 10
        while not stopped.poll(100):  # until it is a subscriber
            session.execute("1")
            assert time.monotonic() < deadline
        started = time.monotonic()
        shown = session.execute("for n in range(60): print('x' * 2**20)\nprint('last')", timeout=60)
        assert (shown.status, time.monotonic() - started < 30) == ("ok", True)
        assert session.execute("40 + 2").text == "42"


def test_writes_of_threads_and_children_arrive(session: Session) -> None:
    source = """
import os, sys, threading
def work(letter):
    for _ in range(40): print(letter * 100_000)
threads = [threading.Thread(target=work, args=(letter,)) for letter in "ab"]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.stdout.flush()
if os.fork() == 0:
    print("child " * 10, flush=True); os._exit(0)
os.wait()
"""
    text = session.execute(source, timeout=60).raise_for_error().text
    assert (text.count("a"), text.count("b"), "child child" in text) == (4_000_000, 4_000_000, True)


HUGE = {
    "error": "raise ValueError('x' * 9_000_000)",
    "name of an error": "raise type('E' * 9_000_000, (Exception,), {})('m')",
    "error of a repr": "class A:\n    def __repr__(self): raise ValueError('x' * 9_000_000)\nA()",
    "cell": f"x = {'a' * 9_000_000!r}",
    "page": "def f(): pass\nf.__doc__ = 'x' * 9_000_000\nf?",
    "prompt": "input('x' * 9_000_000)",
    "metadata": "display({'text/plain': 'a'}, metadata={'m': 'x' * 9_000_000}, raw=True)",
    "key": "display({'application/json': {'x' * 9_000_000: 1}}, raw=True)",
    "empty lists": "display({'application/json': [[]] * 2_500_000}, raw=True)",
    "long numbers": "display({'application/json': [10**4000] * 2200}, raw=True)",
    "widget": "from comm import create_comm\ncreate_comm(target_name='a', data={'x': 'x' * 9_000_000})",
    "widget's bytes": "from comm import create_comm\ncreate_comm(target_name='a').send({}, buffers=[b'x' * 9_000_000])",
}
"""What an honest kernel sends in one message, beside streams and displays."""


def test_texts_that_are_too_large_for_a_message_cost_no_sandbox(engine: str) -> None:
    with Session(engine=engine, image="python", input_handler=lambda prompt, password: "yes") as session:
        for what, source in HUGE.items():
            ended = session.execute(source, timeout=60)
            failed = what in ("error", "name of an error", "error of a repr")
            assert (what, ended.status, ended.ran) == (what, "error" if failed else "ok", "whole")
        session.execute("names = {f'n{i}' * 100: 1 for i in range(60_000)}; globals().update(names); f.__doc__ *= 2")
        for kind in ("inspect_request", "complete_request"):
            content = {"code": "f", "cursor_pos": 1, "detail_level": 0}
            assert (session.request(kind, content, timeout=60) or {}).get("status") == "ok"
        assert (session.generation, session.execute("len(x)").text) == (1, "9000000")


def test_text_that_is_clipped_keeps_its_ends(session: Session) -> None:
    error = session.execute("raise ValueError('first' + 'x' * 9_000_000 + 'last')").error
    assert error is not None
    assert error.evalue.startswith("first")
    assert error.evalue.endswith("last")
