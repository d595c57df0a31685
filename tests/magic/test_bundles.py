"""What of a sandbox's MIME bundles reaches the page. The page itself is in test_lab."""

from __future__ import annotations

import base64
import re
from html import unescape
from typing import Any

import pytest

from kernel_sandbox.magic.ansi import StreamCleaner, clean_terminal_text, strip_colours
from kernel_sandbox.magic.bundles import safe_bundle
from kernel_sandbox.magic.prose import harmless_latex, harmless_markdown

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
    assert re.fullmatch(r'<iframe sandbox="" [^<>]*></iframe>', html)
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
    assert shown({kind: "alert(1)", "text/plain": f"<{kind}>"}) == {
        "text/plain": f"[{kind} of the sandbox is not shown here]"
    }


def test_text_setting_leaves_text_and_pictures() -> None:
    data = {"text/html": "<b>", "text/markdown": "x", "image/png": PNG, "text/plain": "p"}
    assert safe_bundle(data, {}, "text")[0] == {"image/png": PNG, "text/plain": "p"}


def test_trusted_setting_leaves_all() -> None:
    data = {"text/html": "<script>1</script>", "text/plain": "p"}
    assert safe_bundle(data, {"a": 1}, "trusted") == (data, {"a": 1})


TAG = re.compile(r"<[A-Za-z/!?]")
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "\\` <img src=x onerror=alert(1)> `",
    "a ~~~ <img src=x onerror=alert(1)> ~~~",
    "``` a`\n\n<img src=x onerror=alert(1)>\n\n```",
    "`` ` <img src=x onerror=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "- ```\n  <script>1</script>",
    "~~~\n<script>1</script>",
    "<!-- x --><?x?><![CDATA[x]]>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_has_no_tags_wherever_they_hide(text: str) -> None:
    assert not TAG.search(harmless_markdown(text))


@pytest.mark.parametrize(
    "text",
    [
        "[x](javascript:alert(1))",
        "[x]( javascript:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](java\\script:alert(1))",
        "[x](<javascript:alert(1)>)",
        "[x](data:text/html,1)",
        "[x][y]\n\n[y]: javascript:alert(1)",
        "[y]:\njavascript:alert(1)",
    ],
)
def test_markdown_links_to_no_script(text: str) -> None:
    made = harmless_markdown(text)
    assert not re.search(r"\]\(|^\[y\]:", made, re.MULTILINE)


def test_markdown_loads_no_picture() -> None:
    assert "![" not in harmless_markdown("![x](https://example.org/?data=1) `![x](https://example.org/)`")


def test_harmless_markdown_stays_as_it_is() -> None:
    text = (
        "# A\n\n**b** [web](https://example.org/a?b=c) [here](#a) [file](out/x.csv) `df['a'] < 3`\n\n"
        "```python\nif a[0]:\n"
        "    print(x[1](2))\nprint(a < b)\n```\n\n| a | b |\n|---|---|\n| 1 | $x^2$ |\n"
    )
    assert harmless_markdown(text) == text


def test_code_stays_readable() -> None:
    assert harmless_markdown("`List<int>`").replace("\u2060", "") == "`List<int>`"


def test_latex_makes_no_links() -> None:
    assert (
        harmless_latex(r"$\href{javascript:alert(1)}{x} + \frac{1}{2}$")
        == r"$\ href{javascript:alert(1)}{x} + \frac{1}{2}$"
    )


def test_terminal_text_keeps_colours_only() -> None:
    text = "\x1b[1;31mred\x1b[0m\x1b]0;title\x07\x1b[2J\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x9b31m\x00\a\tb\r\n"
    assert clean_terminal_text(text) == "\x1b[1;31mred\x1b[0mlink31m\tb\r\n"
    assert strip_colours("10%\r20%\r\nx\x1b[31my\x1b[0m") == "20%\nxy"


def test_colour_cut_in_two_stays_one() -> None:
    cleaner = StreamCleaner()
    assert cleaner.feed("a\x1b[3") + cleaner.feed("1mb\x1b") + cleaner.feed("[0m") == "a\x1b[31mb\x1b[0m"
