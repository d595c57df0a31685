"""What code prints: whole and in order, in few steps. (What is too much of it: test_much_output.py.)"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from kernel_sandbox import Session
from kernel_sandbox.session.outputs import DisplayData, Output, StreamOutput

CALLS = """
import sys
calls = 0
def count(frame, event, argument):
    global calls
    calls += event == "call"
sys.setprofile(count)
for number in range(1000):
    print(number)
sys.setprofile(None)
"""
EVENTS = """
thread = get_ipython().kernel.iopub_thread
asked, schedule = [], thread.schedule
def count(event):
    asked.append(event)
    schedule(event)
thread.schedule = count
"""


def bundle_of(output: Output) -> Mapping[str, Any]:
    assert isinstance(output, DisplayData)
    return output.data


def printed(session: Session, source: str) -> str:
    """Run a cell, and return what it wrote to its standard output."""
    execution = session.execute(source).raise_for_error()
    found = [output for output in execution.outputs if isinstance(output, StreamOutput)]
    assert len(found) == len(execution.outputs), execution.outputs
    assert {output.name for output in found} <= {"stdout"}
    return "".join(output.text for output in found)


def test_what_is_printed_stands_where_it_was_printed(session: Session) -> None:
    source = """
        print("before")
        display("shown")
        for number in range(3):
            print(number, end=" ", flush=number == 1)
        display("again")
        print("after")
    """
    outputs = session.execute(source.replace("\n        ", "\n")).raise_for_error().outputs
    told = [output.text if isinstance(output, StreamOutput) else bundle_of(output)["text/plain"] for output in outputs]
    assert told == ["before\n", "'shown'", "0 1 2 ", "'again'", "after\n"]


def test_threads_lose_nothing_of_what_they_print(session: Session) -> None:
    source = """
import sys, threading
def tell(name):
    for number in range(3000):
        sys.stdout.write(f"{name} {number}\\n")
        if number % 700 == 0:
            sys.stdout.flush()
others = [threading.Thread(target=tell, args=(name,)) for name in "abc"]
for other in others: other.start()
tell("main")
for other in others: other.join()
"""
    lines = printed(session, source).splitlines()
    assert Counter(lines) == Counter(f"{name} {number}" for name in ("a", "b", "c", "main") for number in range(3000))
    for name in ("a", "b", "c", "main"):
        assert [line for line in lines if line.startswith(f"{name} ")] == [f"{name} {number}" for number in range(3000)]


def test_copies_that_a_cell_forks_print(session: Session) -> None:
    source = """
import sys, multiprocessing
print("parent before")
def tell(number):
    sys.stdout.write(f"child {number}\\n")
    return number
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.map(tell, range(20))
print("parent after")
"""
    lines = printed(session, source).splitlines()
    assert (lines[0], lines[-1]) == ("parent before", "parent after")
    assert sorted(lines[1:-1]) == sorted(f"child {number}" for number in range(20))


def test_stream_takes_text_only_and_none_once_it_is_closed(session: Session) -> None:
    for wrong in ("sys.stdout.write(1)", "print('x'); sys.stdout.write(b'1')"):
        told = session.execute(f"import sys; {wrong}").error
        assert told is not None
        assert told.ename == "TypeError"
        assert told.evalue.startswith("write() argument must be str, not <class '")
    assert printed(session, "print('x'); print(sys.stdout.write('four'))") == "x\nfour4\n"


def test_printing_takes_one_call_a_text(session: Session) -> None:
    """Two texts a line. ipykernel's own takes six calls for each, and IPython's copy of it eight more."""
    session.execute(CALLS).raise_for_error()
    assert session.get("calls") < 2 * 1000 + 100


def test_cell_that_prints_nothing_waits_for_no_other_thread(session: Session) -> None:
    """It has three messages: busy, the cell, idle. ipykernel flushes both streams twice, with two events each."""
    session.execute(EVENTS).raise_for_error()
    before = len(session.execute("pass").outputs) + int(printed(session, "print(len(asked))"))
    for _ in range(10):
        session.execute("pass").raise_for_error()
    after = int(printed(session, "print(len(asked))"))
    assert after - before <= 10 * 3 + 8
