"""What an Execution shows of itself in a notebook on the host, which trusts it: nothing that runs, nothing large."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from IPython.core.formatters import DisplayFormatter

from kernel_sandbox import DisplayData, ErrorOutput, ExecuteResult, Execution, Output, Session, StreamOutput

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>"
LARGEST = 16 * 1024 * 1024
"""Bytes that a bundle may have at the very most: a cell may show as much."""


def execution(*outputs: Output) -> Execution:
    return Execution("1", "ok", outputs, 1, datetime(2026, 1, 2, tzinfo=UTC), 0.5)


def bundle(*outputs: Output) -> dict[str, str]:
    """As IPython asks for it."""
    data, metadata = DisplayFormatter().format(execution(*outputs))  # type: ignore[no-untyped-call]
    assert metadata == {}
    assert all(isinstance(value, str) for value in data.values())
    return dict(data)


def png(width: int = 1, padding: int = 0) -> str:
    """A picture of one row, with some bytes that belong to no chunk."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * (width + 1))),
    ]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in [*chunks, (b"IEND", b"")]
    ]
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + b"\0" * padding).decode()


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_inert(html: str) -> None:
    for tag, attributes in Elements(html).found:
        assert tag in ("div", "pre", "img")
        assert attributes.keys() <= {"alt", "style", "src"}
        source = attributes.get("src")
        assert source is None or re.fullmatch(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]*", source)
        assert attributes.get("style") in (None, "max-width:100%")


def test_execution_shows_its_text_in_order() -> None:
    shown = bundle(
        StreamOutput("stdout", "one\n"),
        ExecuteResult({"text/plain": "42", "text/html": "<b>42</b>"}, {}, 1),
        ErrorOutput("ValueError", "bad", ("Traceback", "ValueError: bad")),
    )
    assert shown == {"text/plain": "one\n42\nTraceback\nValueError: bad"}


def test_execution_without_outputs_shows_how_it_ended() -> None:
    assert bundle() == {"text/plain": "<Execution ok, 0 outputs>"}


def test_execution_shows_text_and_pictures_in_order() -> None:
    shown = bundle(
        StreamOutput("stdout", "before <b>\n"),
        DisplayData({"image/png": png(), "text/plain": "<Figure>"}, {}),
        StreamOutput("stdout", "between\n"),
        DisplayData({"image/png": png(2), "text/plain": "<Figure>"}, {}),
    )
    assert shown.keys() == {"text/plain", "text/html"}
    assert shown["text/plain"] == "before <b>\n<Figure>\nbetween\n<Figure>"
    page = Elements(shown["text/html"])
    assert [tag for tag, _ in page.found] == ["pre", "div", "img", "pre", "div", "img"]
    pictures = [attributes["src"] for tag, attributes in page.found if tag == "img"]
    assert pictures == [f"data:image/png;base64,{png(width)}" for width in (1, 2)]
    assert page.text.split() == ["before", "<b>", "between"]
    assert_inert(shown["text/html"])


@pytest.mark.parametrize(
    "hostile",
    [
        StreamOutput("stdout", SCRIPT),
        DisplayData({"text/html": SCRIPT}, {}),
        DisplayData({"text/html": SCRIPT, "text/plain": SCRIPT}, {}),
        DisplayData({"application/javascript": "alert(1)"}, {}),
        DisplayData({"text/markdown": SCRIPT}, {}),
        DisplayData({"text/latex": rf"$\href{{javascript:alert(1)}}{{x}}$ {SCRIPT}"}, {}),
        DisplayData({f"image/{SCRIPT}": png()}, {}),
        DisplayData({"image/png": f'"{SCRIPT}'}, {}),
        DisplayData({"image/png": base64.b64encode(SCRIPT.encode()).decode()}, {}),
        DisplayData({"image/svg+xml": f"<svg onload='alert(1)'>{SCRIPT}</svg>\"'>{SCRIPT}"}, {}),
        DisplayData({"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}, {}),
        ErrorOutput(SCRIPT, SCRIPT, (SCRIPT,)),
    ],
    ids=lambda output: "-".join([output.output_type, *getattr(output, "data", ())])[:60],
)
def test_execution_shows_nothing_that_runs(hostile: Output) -> None:
    shown = bundle(hostile, DisplayData({"image/png": png(), "text/plain": "<Figure>"}, {}))
    assert shown.keys() == {"text/plain", "text/html"}
    assert_inert(shown["text/html"])
    assert "<script" not in shown["text/html"]
    assert bundle(hostile).keys() <= {"text/plain", "text/html"}


def test_execution_shows_nothing_hidden_and_no_command_of_a_terminal() -> None:
    text = "a\x1b]0;title\x07b\u202ec\x1b[31mred\x1b[0m\x08\n"
    shown = bundle(StreamOutput("stdout", text), DisplayData({"image/png": png()}, {}))
    for value in shown.values():
        assert not re.search("\x1b\\]|\u202e|\x08|\x07", value)
        assert r"\u202e" in value
    assert "\x1b" not in shown["text/html"]


def test_execution_shows_the_last_state_of_a_progress_bar() -> None:
    assert bundle(StreamOutput("stderr", "1%\r50%\r100%\n")) == {"text/plain": "100%\n"}


def test_execution_shows_little_of_much_text() -> None:
    text = "begin " + "\u202e<" * 4_000_000 + " end"
    shown = bundle(StreamOutput("stdout", text), DisplayData({"image/png": png()}, {}))
    for value in shown.values():
        assert len(value) < 200_000
        assert "begin" in value
        assert "end" in value
        assert "cut here" in value


def test_execution_shows_little_of_many_outputs() -> None:
    outputs = [
        DisplayData({"image/png": png(), "text/plain": "x" * 1000}, {})
        if number % 2
        else StreamOutput("stdout", "<" * 5000)
        for number in range(5000)
    ]
    shown = bundle(*outputs)
    assert len(shown["text/html"]) < 400_000
    assert len(shown["text/plain"]) < 100_000
    assert "4900 more" in shown["text/html"]


def test_execution_names_pictures_that_are_too_large() -> None:
    large = DisplayData({"image/png": png(640, padding=5 * 1024**2), "text/plain": "<Figure>"}, {})
    shown = bundle(large, large, DisplayData({"image/png": png()}, {}))
    page = Elements(shown["text/html"])
    assert [tag for tag, _ in page.found] == ["div", "img", "pre", "div", "img"]
    assert page.text.strip() == "[image/png, 640×1 pixels, 5 MB: not shown here]"
    assert sum(map(len, shown.values())) < LARGEST


def test_execution_of_a_figure_shows_it(science: Session) -> None:
    ran = science.execute("import matplotlib.pyplot as plt; print('a < b'); plt.plot([1, 2]); plt.show()")
    shown = ran._repr_mimebundle_()
    assert_inert(shown["text/html"])
    assert 'src="data:image/png;base64,' in shown["text/html"]
    assert "a &lt; b" in shown["text/html"]
