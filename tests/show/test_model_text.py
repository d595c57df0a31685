"""What a model reads of a cell."""

from __future__ import annotations

import base64
import struct
from datetime import UTC, datetime

import pytest

from kernel_sandbox.session.outputs import ErrorOutput, ExecuteResult, Execution, Output, StreamOutput
from kernel_sandbox.show.model_text import ReadingLimits, clip, read_bundle, read_execution
from kernel_sandbox.text.characters import visible

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = ReadingLimits(line=40, total=200)


def ran(*outputs: Output, status: str = "ok") -> Execution:
    return Execution("", status, outputs, 1, NOW, 0.1)  # type: ignore[arg-type]


def test_text_before_an_error_is_read_and_stderr_hides_nothing() -> None:
    outputs = (StreamOutput("stdout", "first\n"), StreamOutput("stderr", "careful\n"), ErrorOutput("E", "bad", ()))
    assert read_execution(ran(*outputs, status="error")) == "first\n[stderr]\ncareful\nE: bad"


def test_silent_cell_says_so_and_notes_follow() -> None:
    assert read_execution(ran(), notes=["", "[note]"]) == "[The cell ran and showed nothing.]\n[note]"


def test_long_text_keeps_head_and_tail_and_says_what_was_cut() -> None:
    text = "\n".join(f"line {n}" for n in range(1000))
    read = read_execution(ran(StreamOutput("stdout", text)), SMALL, ["[note]"])
    assert read.startswith("line 0\n")
    assert read.endswith("line 999\n[note]")
    assert f"of {len(text):,} characters cut here. To see the rest, print less" in read
    assert len(read) < 450


def test_long_line_is_cut_by_itself() -> None:
    read = clip("a" * 100 + "\nshort", SMALL)
    assert read == f"{'a' * 30}[… 60 characters of this line cut …]{'a' * 10}\nshort"


def test_progress_bar_is_read_at_its_end() -> None:
    read = read_execution(ran(StreamOutput("stderr", "\r 10%\r 50%\r100%\r\nwindows\r\n")))
    assert read == "[stderr]\n100%\nwindows"


@pytest.mark.parametrize("hidden", ["\x00", "\x1b", "\x9b", "\u202e", "\u200b", "\ufeff", "\U000e0041", "\x7f"])
def test_control_characters_are_spelled_out(hidden: str) -> None:
    assert visible(f"a{hidden}b") == "a" + hidden.encode("unicode_escape").decode() + "b"


def test_ordinary_text_stays() -> None:
    text = "tab\tline\nñ 漢 👩‍👧 می‌خواهم"
    assert visible(text) == text


def test_colours_are_taken_away() -> None:
    assert read_execution(ran(StreamOutput("stdout", "\x1b[31mred\x1b[0m"))) == "red"


def test_picture_is_one_line_with_its_measures() -> None:
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + bytes(1000)
    bundle = {"text/plain": "<Figure size 640x480 with 1 Axes>", "image/png": base64.b64encode(png).decode()}
    measures = "[Figure size 640x480 with 1 Axes: image/png, 640×480 pixels, 1 KB"
    assert read_bundle(bundle) == f"{measures}. It is shown to the user; you cannot see it.]"
    assert read_bundle(bundle, ", saved as x.png.") == f"{measures}, saved as x.png.]"
    assert read_bundle({"text/plain": "", "image/png": "no base64!"}) == "[picture: image/png that cannot be read.]"


def test_markdown_is_read_rather_than_the_name_of_its_object() -> None:
    bundle = {"text/plain": "<IPython.core.display.Markdown object>", "text/markdown": "**hi**"}
    assert read_execution(ran(ExecuteResult(bundle, {}, 1))) == "**hi**"


def test_traceback_keeps_the_users_frames_and_the_place_that_raised() -> None:
    library = "\x1b[36mFile \x1b[39m\x1b[32m/opt/venv/lib/python3.11/site-packages/pandas/{0}.py:1\x1b[39m, in {0}()\n"
    traceback = (
        "-" * 75,
        "KeyError                                  Traceback (most recent call last)",
        "\x1b[36mCell\x1b[39m In[1], line 3, in f()\n----> 3 frame['b']",
        library.format("frame") + "  10 source",
        library.format("base") + "  10 source",
        "File /mnt/data/m.py:2, in g()\n----> 2 h()",
        library.format("index") + "  10 source",
        "KeyError: 'b'",
    )
    assert read_execution(ran(ErrorOutput("KeyError", "'b'", traceback), status="error")).split("\n") == [
        "Traceback (most recent call last):",
        "Cell In[1], line 3, in f()",
        "----> 3 frame['b']",
        "[… 1 frame inside libraries …]",
        "File /opt/venv/lib/python3.11/site-packages/pandas/base.py:1, in base()",
        "File /mnt/data/m.py:2, in g()",
        "----> 2 h()",
        "File /opt/venv/lib/python3.11/site-packages/pandas/index.py:1, in index()",
        "KeyError: 'b'",
    ]


def test_recursion_is_said_once() -> None:
    frame = "Cell In[1], line 1, in f(n)\n----> 1 def f(n): return f(n + 1)"
    read = read_execution(ran(ErrorOutput("RecursionError", "", (*[frame] * 1000, "RecursionError")), status="error"))
    assert read == f"Traceback (most recent call last):\n{frame}\n[… the same 999 more times …]\nRecursionError"
