"""What of a sandbox's MIME bundles reaches the page. The page itself is in test_lab."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from typing import Any

import pytest

from kernel_sandbox.doors.magic.bundles import safe_bundle
from kernel_sandbox.text.ansi import StreamCleaner, clean_terminal_text, plain_text

PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x03\x08\x06\x00\x00\x00" + b"\0" * 8
).decode()
TABLE = {
    "schema": {
        "fields": [{"name": "index", "type": "integer"}, {"name": "<b>", "type": "string"}],
        "primaryKey": ["index"],
    },
    "data": [{"index": 0, "<b>": "<script>1</script>"}],
}


def shown(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    return safe_bundle(data, metadata or {}, "isolated")[0]


def test_pictures_stay_with_their_size_and_nothing_else() -> None:
    metadata = {"image/png": {"width": 20, "height": "1", "onload": "x"}, "isolated": True}
    data, kept = safe_bundle({"image/png": PNG, "text/plain": "<Figure>"}, metadata, "isolated")
    assert data == {"image/png": PNG, "text/plain": "<Figure>"}
    assert kept == {"image/png": {"width": 20}}


def test_picture_that_is_none_is_dropped() -> None:
    assert shown({"image/png": base64.b64encode(b"<script>").decode(), "text/plain": "x"}) == {
        "text/plain": "x\n[image/png of the sandbox is not shown here]"
    }


def test_html_is_in_a_frame_without_rights() -> None:
    html = shown({"text/html": "<b>bold</b><script>alert('1')</script>\"'>", "text/plain": "x"})["text/html"]
    assert re.fullmatch(r'<iframe sandbox="" [^<>]*>\[HTML of the sandbox: run the cell to see it\]</iframe>', html)
    document = unescape(html.partition('srcdoc="')[2])
    assert document.startswith(
        '<!DOCTYPE html><meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
    )
    assert "<b>bold</b>" in document


@pytest.mark.parametrize("tag", ["link rel=dns-prefetch href=//x", "META http-equiv=refresh", "base href=//x", "/base"])
def test_html_names_no_other_place(tag: str) -> None:
    html = shown({"text/html": f"a<{tag}>b"})["text/html"]
    assert f"&lt;{tag}&gt;" in unescape(html).replace(">", "&gt;")


def test_height_of_a_frame_is_bounded() -> None:
    heights = [
        int(re.findall(r"height:(\d+)px", shown({"text/html": html})["text/html"])[0]) for html in ("x", "<p>" * 9999)
    ]
    assert heights == [60, 480]


def test_dataframe_is_rebuilt_from_its_data() -> None:
    kinds = {"text/html": "<table><script>1</script></table>", "application/vnd.dataresource+json": TABLE}
    html = shown({**kinds, "text/plain": "x"})["text/html"]
    assert "<iframe" not in html
    assert "<script" not in html
    assert "&lt;script&gt;1&lt;/script&gt;" in html
    assert "<th>&lt;b&gt;</th>" in html


def test_svg_is_a_picture() -> None:
    html = shown({"image/svg+xml": "<svg onload='x'><script>1</script></svg>", "text/plain": "<SVG>"})["text/html"]
    assert re.fullmatch(r'<img alt="[\w ]+" style="max-width:100%" src="data:image/svg\+xml;base64,[\w+/=]+">', html)


@pytest.mark.parametrize(
    "kind", ["application/javascript", "application/vnd.plotly.v1+json", "application/pdf", "text/vnd.mermaid", "x/y"]
)
def test_what_is_not_on_the_list_is_dropped_with_a_word(kind: str) -> None:
    assert shown({kind: "alert(1)"}) == {"text/plain": f"[{kind} of the sandbox is not shown here]"}


def test_no_kind_of_a_bundle_hides_a_character() -> None:
    hidden = "\u3164\u200b\u202e\u2028\U000e0041\x08\r\xad"
    rows = {"schema": {"fields": [{"name": hidden, "type": "string"}]}, "data": [{hidden: hidden}]}
    for data in (
        {"text/plain": hidden, "text/markdown": f"`{hidden}` {hidden}", "text/latex": f"${hidden}$"},
        {"application/json": {hidden: [hidden]}, "text/plain": "x"},
        {"application/vnd.dataresource+json": rows, "text/plain": hidden},
    ):
        made = shown(data)
        assert made.keys() >= data.keys() - {"application/vnd.dataresource+json"}
        assert not set(hidden) & set(json.dumps(made, ensure_ascii=False)), ascii(made)


def test_honest_text_stays_in_every_kind() -> None:
    text = "می‌خواهم שלום 👩‍🔬 हिन्दी 漢字"
    data = {"text/plain": text, "text/markdown": text, "text/latex": text, "application/json": {text: text}}
    assert shown(data) == data


def test_keras_goes_back_to_the_beginning_of_a_line_and_nobody_else_goes_back() -> None:
    cleaner = StreamCleaner()
    assert cleaner.feed("1/2\b\b\b") + cleaner.feed("\b\r2/2\n") == "1/2\r2/2\n"
    assert StreamCleaner().feed("rm -rf\b\b\b\b\b\bls") == "rm -rf␈␈␈␈␈␈ls"


def test_text_setting_leaves_text_and_pictures() -> None:
    data = {"text/html": "<b>", "text/markdown": "x", "image/png": PNG, "text/plain": "p"}
    assert safe_bundle(data, {}, "text")[0] == {"image/png": PNG, "text/plain": "p"}


def test_trusted_setting_leaves_all() -> None:
    data = {"text/html": "<script>1</script>", "text/plain": "p"}
    assert safe_bundle(data, {"a": 1}, "trusted") == (data, {"a": 1})


def test_markdown_and_latex_are_made_harmless() -> None:
    data = shown({"text/markdown": "**b** <img src=x onerror=f>", "text/latex": "$\\href{x}{y}$", "text/plain": "p"})
    assert data == {
        "text/markdown": "**b** &lt;img src=x onerror=f>",
        "text/latex": "$\\ href{x}{y}$",
        "text/plain": "p",
    }


def test_terminal_text_keeps_colours_only() -> None:
    text = "\x1b[1;31mred\x1b[0m\x1b]0;title\x07\x1b[2J\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x9b31m\x00\a\tb\r\n"
    assert clean_terminal_text(text) == "\x1b[1;31mred\x1b[0mlink\\x9b31m␀␇\tb\n"
    assert plain_text("10%\r20%\r\nx\x1b[31my\x1b[0m") == "20%\nxy"


def test_colour_cut_in_two_stays_one() -> None:
    cleaner = StreamCleaner()
    assert cleaner.feed("a\x1b[3") + cleaner.feed("1mb\x1b") + cleaner.feed("[0m") == "a\x1b[31mb\x1b[0m"


def test_table_of_which_rows_are_missing_says_so() -> None:
    kind = "application/vnd.dataresource+json"
    fields = [{"name": "index", "type": "integer"}, {"name": "x", "type": "integer"}]
    rows = [{"index": n, "x": n} for n in range(5)]
    bundle = {kind: {"schema": {"fields": fields, "primaryKey": ["index"]}, "data": rows}, "text/plain": "t"}
    shown, _ = safe_bundle(bundle, {kind: {"rows": 30, "truncated": True}}, "isolated")
    assert "5 of 30 rows" in shown["text/html"]
    whole, _ = safe_bundle(bundle, {kind: {"rows": 5, "truncated": False}}, "isolated")
    assert " of " not in whole["text/html"]
