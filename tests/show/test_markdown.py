"""Markdown that is harmless in real renderers, which are told to allow all: mistune (nbconvert's) and CommonMark's."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import mistune
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kernel_sandbox.show.markdown import harmless_latex, harmless_markdown


def _renderers() -> dict[str, Callable[[str], str]]:
    plugins = ["table", "url", "math", "strikethrough", "footnotes", "task_lists", "def_list", "abbr", "mark", "ruby"]
    writer = mistune.HTMLRenderer(escape=False, allow_harmful_protocols=True)
    made = {"commonmark": MarkdownIt("commonmark", {"html": True}), "gfm": MarkdownIt("gfm-like", {"html": True})}
    for parser in made.values():
        parser.options["linkify"] = False
        parser.validateLink = lambda url: True  # type: ignore[method-assign]
    bare: dict[str, Callable[[str], str]] = {
        "mistune": lambda text: str(mistune.create_markdown(renderer=writer, plugins=plugins)(text)),
        **{name: parser.render for name, parser in made.items()},
    }
    return bare


RENDERERS = _renderers()
MADE_OF_MARKDOWN = re.compile(
    "p|h[1-6]|em|strong|code|pre|blockquote|ul|ol|li|a|hr|br|table|thead|tbody|tr|th|td|del|s|div|span|section|sup|"
    "dl|dt|dd|abbr|mark|ruby|rt|input"
)
ATTRIBUTES = {"href", "title", "class", "id", "start", "style", "type", "disabled", "checked"}
LOOKS = re.compile(r"text-align: ?(?:left|right|center)|")


class Live(HTMLParser):
    """Collects what of a page runs, loads, or leads to a script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not MADE_OF_MARKDOWN.fullmatch(tag):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            text = re.sub(r"[\x00-\x20]", "", value or "")  # as browsers read addresses
            scheme = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*):", text)
            bad_link = name == "href" and scheme is not None and scheme[1].lower() not in ("http", "https", "mailto")
            drawn = name == "class" and re.search(r"(?:^|\s|language-)mermaid", value or "", re.IGNORECASE)
            if name not in ATTRIBUTES or bad_link or drawn or (name == "style" and not LOOKS.fullmatch(value or "")):
                self.found.append(f"{name}={value}")

    def handle_comment(self, data: str) -> None:
        self.found.append("<!--")

    def handle_decl(self, decl: str) -> None:
        self.found.append("<!")

    def handle_pi(self, data: str) -> None:
        self.found.append("<?")

    def unknown_decl(self, data: str) -> None:
        self.found.append("<![")


def live(text: str) -> dict[str, list[str]]:
    """What is live in a text, by the renderer in which it is."""
    found = {}
    for name, render in RENDERERS.items():
        page = Live()
        page.feed(render(text))
        page.close()
        if page.found:
            found[name] = page.found
    return found


IMG = "<img src=x onerror=alert(1)>"
OTHERS = [
    "<svg/onload=alert(1)>",
    "[x](java\\script:alert(1))",
    "[x](<java\tscript:alert(1)>)",
    "``` a`\n\n[x](<java\tscript:alert(1)>)\n\n```",
    f"<\x02{IMG[1:]}",
    f"\r~~~\r{IMG}\r~~~",
    f"\x00{IMG}",
    "`\r```mermaid\rx`",
]
"""What these renderers do not fall for; others may."""
ATTACKS = [
    IMG,
    f"\\` {IMG} `",
    f"a ~~~ {IMG} ~~~",
    f"``` a`\n\n{IMG}\n\n```",
    f"`` ` {IMG}",
    f"` a\n\n{IMG} `",
    f"    ```\n{IMG}\n    ```",
    f"- ```\n\n{IMG}\n",
    f"> ```\n{IMG}\n```",
    f"~~~\n~~~ x\n~~~\n{IMG}",
    f"<!-- ` -->{IMG}<!-- ` -->",
    f"\\\\{IMG}",
    "- ```\n  ```\n  <script>1</script>",
    "<details open ontoggle=alert(1)>\n\nx",
    "x <!-- y --> z",
    "<?x?>",
    "<![CDATA[x]]>",
    "<!DOCTYPE x>",
    "![x](https://example.org/?data=1)",
    "!![x](https://example.org/?data=1)",
    "\\\\![x](https://example.org/?data=1)",
    "![x][y]\n\n[y]: https://example.org/?data=1",
    "\\` ![x](https://example.org/?data=1) `",
    "[![x](https://example.org/?data=1)](https://example.org)",
    "[x](javascript:alert(1))",
    "[x]( javascript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#0000106;avascript&colon;alert(1))",
    "[x](javascript\\:alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x](\njavascript:alert(1))",
    "[x](data:text/html,1)",
    "[x](vbscript:1)",
    "[x][y]\n\n[y]: javascript:alert(1)",
    "[y]:\njavascript:alert(1)\n\n[y]",
    "> [y]: <javascript:alert(1)>\n\n[y]",
    "\\` [x](javascript:alert(1)) `",
    "``` a`\n\n> [y]: javascript:alert(1)\n\n[x][y]\n\n```",
    "``` a`\n\n[y\nz]: javascript:alert(1)\n\n[x][y z]\n\n```",
    "[y\n``` a`\nz]: javascript:alert(1)\n\n[x][y ``` a` z]",
    "[y\n`z]: javascript:alert(1)`\n\n[x][y `z]",
    f"````\n```\n````\n{IMG}",
    "````\n```\n````\n[y]: javascript:alert(1)\n\n[y]",
    "<javascript:alert(1)>",
    "> ```mermaid\n> flowchart TD",
    "```mermaid\nflowchart TD\n A@{ img: 'https://example.org/?data=1' }\n```",
    "> ~~~ Mermaid\n> flowchart TD\n> ~~~",
    "````mermaid\nflowchart TD\n````",
    "``` &#109;ermaid\nflowchart TD\n```",
    "``` a`\n\n- ~~~mermaid\n  flowchart TD\n",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_attack_works_as_it_is_and_not_when_harmless(text: str) -> None:
    assert live(text), "the control"
    assert not live(harmless_markdown(text))


@pytest.mark.parametrize("text", OTHERS)
def test_other_attacks_have_nothing_left_to_fall_for(text: str) -> None:
    made = harmless_markdown(text)
    assert not live(made)
    assert not re.search(r"[\x00-\x08\x0b-\x1f]|<[a-z]|\]\((?=<|java)|`mermaid", made)


PIECES = st.one_of(
    st.sampled_from(
        ["`", "``", "```", "~~~", "~", "\\", "\n", "\n\n", " ", "    ", "\t", "\r", "> ", "- ", "1. ", "|"]
    ),
    st.sampled_from(["<", ">", "&lt;", "<b", "<img src=x onerror=f>", "<!--", "-->", "</p", "<script>f</script>", "$"]),
    st.sampled_from(
        ["!", "[", "]", "(", ")", "](", "][", "]:", "[y]", "[^y]", "![", "![x](https://x.example/?d)", "!!["]
    ),
    st.sampled_from(["javascript:f", "&#106;avascript:", "java\\", "data:,x", "<javascript:f>", "https://x.example/"]),
    st.sampled_from(["[y]: ", "\n[y]:\njavascript:f\n\n", "[x](", "*[x]: ", '"', "'", "mailto:a@b", "<a href='", "a"]),
    st.sampled_from(
        ["mermaid", "```mermaid\n", "&", "&#109;ermaid", "$$", "\x00", "\x02", "\u2028", "&#60;img src=x>"]
    ),
)


@given(st.lists(PIECES, max_size=24).map("".join))
def test_no_text_is_live(text: str) -> None:
    assert not live(harmless_markdown(text))


def test_markdown_of_models_stays_as_it_is() -> None:
    text = (
        "# A\n\n**b** [web](https://example.org/a?b=c) [here](#a) [file](out/x.csv) `df['a'] < 3` 7 of 9, a < b\n\n"
        "```python\nif a[0]:\n    print(x[1](2))\nprint(a < b, 'a & b', a[1](b, c))\nfor i in x[1:]:\n"
        "    d['k']: int = 1\n```\n\n| a | b |\n|---|---|\n| 1 | $x^2$ |\n\n- [ ] to do\n\n~~gone~~ what! [^1]\n\n"
        "[^1]: A note.\n"
    )
    assert harmless_markdown(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see <https://example.org/a?b=c>.", "<p>see https://example.org/a?b=c.</p>"),
        ("![x](https://example.org)", '<p>!<a href="https://example.org">x</a></p>'),
        ("<b>x</b> \\<i>", "<p>&lt;b&gt;x&lt;/b&gt; &lt;i&gt;</p>"),
        ("`List<int>` `C:\\data`", "<p><code>List&lt;\u2060int&gt;</code> <code>C:\\\u2060data</code></p>"),
    ],
)
def test_what_was_live_is_shown_as_text(text: str, shown: str) -> None:
    assert RENDERERS["commonmark"](harmless_markdown(text)) == f"{shown}\n"


def test_latex_makes_no_links() -> None:
    text = r"$\href{javascript:alert(1)}{x} + \frac{1}{2} \HTMLclass{x}$"
    assert harmless_latex(text) == r"$\ href{javascript:alert(1)}{x} + \frac{1}{2} \ HTMLclass{x}$"
    assert harmless_markdown(text) == harmless_latex(text)
