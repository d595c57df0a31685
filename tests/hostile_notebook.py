"""A notebook of which every cell tries to run a script, to load something or to go elsewhere in a reader's browser.

Attack number N sets `top.pwned_N`, or asks the server on PORT for /N; some only when they are clicked. `test_exports`
opens what becomes of them. The list follows OWASP's filter evasion and DOMPurify's tests of mutation.
"""

# ruff: noqa: E501 (an attack is a line)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]


@dataclass(frozen=True)
class Attack:
    name: str
    cell: Callable[[str], JSON]
    """Makes the cell of a text with the placeholders replaced."""
    text: str
    """JS is a script without double quotes, URL is the server's address for this attack."""
    works: bool = True
    """Whether a page that nbconvert makes without sanitising falls for it; the rest are for our own code to fall for."""

    def make(self, number: int, port: int) -> JSON:
        url = f"http://127.0.0.1:{port}/{number}"
        script = f"try{{top.pwned_{number}=1}}catch(e){{}};new Image().src='{url}'"
        return self.cell(self.text.replace("JS", script).replace("URL", url).replace("FLAG", f"top.pwned_{number}=1"))


def notebook(cells: list[JSON], **metadata: Any) -> JSON:
    numbered = [cell | {"id": f"cell-{number}"} for number, cell in enumerate(cells)]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": numbered}


def code(source: str, *outputs: JSON, **metadata: Any) -> JSON:
    return {
        "cell_type": "code",
        "source": source,
        "outputs": list(outputs),
        "metadata": metadata,
        "execution_count": None,
    }


def prose(source: str, **more: Any) -> JSON:
    return {"cell_type": "markdown", "source": source, "metadata": {}} | more


def display(data: JSON, **metadata: Any) -> JSON:
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def of_type(kind: str) -> Callable[[str], JSON]:
    return lambda text: code("show()", display({kind: text, "text/plain": "<object>"}))


html, markdown = of_type("text/html"), of_type("text/markdown")
svg = "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' width='90' height='30' "

ATTACKS = (
    # Scripts
    Attack("script", html, "<script>JS</script>"),
    Attack("script from elsewhere", html, '<script src="URL"></script>'),
    Attack("script after closing tags", html, "</div></div></div></main></body><script>JS</script>"),
    Attack("img onerror", html, '<img src=x onerror="JS">'),
    Attack("img onerror, slashes", html, '<img/src="x"/onerror="JS">'),
    Attack("svg onload", html, '<svg onload="JS"></svg>'),
    Attack("svg script", html, "<svg><script>JS</script></svg>"),
    Attack("body onpageshow", html, '<body onpageshow="JS">'),
    Attack("details ontoggle", html, '<details open ontoggle="JS"><summary>more</summary>x</details>'),
    Attack("input autofocus", html, '<input autofocus onfocus="JS">'),
    Attack("video source", html, '<video><source onerror="JS"></video>'),
    Attack("style animation", html, '<style>@keyframes k{}</style><b style="animation-name:k" onanimationstart="JS">b</b>'),
    Attack("declarative shadow root", html, '<p><template shadowrootmode="open"><img src=x onerror="JS"></template></p>', False),
    Attack("comment", html, '<!--><img src=x onerror="JS">-->'),
    Attack("text with a closing script", of_type("text/plain"), '</script></pre><img src=x onerror="JS">', False),
    Attack("javascript type", of_type("application/javascript"), "JS"),
    Attack("javascript type, closing", of_type("application/javascript"), "</script><img src=x onerror='top.a=1;FLAG'>"),
    # Frames and plug-ins
    Attack("iframe srcdoc", html, '<iframe srcdoc="<script>JS</script>"></iframe>'),
    Attack("iframe javascript", html, '<iframe src="javascript:JS"></iframe>'),
    Attack("iframe from elsewhere", html, '<iframe src="URL"></iframe>'),
    Attack("object", html, '<object data="data:text/html,<script>JS</script>"></object>'),
    Attack("object from elsewhere", html, '<object data="URL"></object>'),
    Attack("embed", html, '<embed src="data:text/html,<script>JS</script>">'),
    Attack("foreign object", html, '<svg><foreignObject><iframe srcdoc="<script>JS</script>"></iframe></foreignObject></svg>'),
    # Going elsewhere
    Attack("meta refresh", html, '<meta http-equiv="refresh" content="0;url=URL">'),
    Attack("base", html, '<base href="URL/"><img src="x">'),
    Attack("form", html, '<form action="URL"><button>go</button></form>'),
    Attack("form action of a button", html, '<form><button formaction="javascript:JS">go</button></form>'),
    Attack("link to javascript", html, '<a href="javascript:JS">x</a>'),
    Attack("link to javascript, with a tab", html, '<a href="jav&#x09;ascript:JS">x</a>'),
    Attack("link to javascript, with a control", html, '<a href="&#1;javascript:JS">x</a>'),
    Attack("link to data", html, '<a href="data:text/html,<script>JS</script>">x</a>', False),
    Attack("link to a file beside", html, '<a href="URL.html">x</a>'.replace("URL", "other"), False),
    Attack("link to a file", html, '<a href="file:///etc/hostname">x</a>', False),
    Attack("link that tells", html, '<a href="#top" ping="URL">x</a>'),
    Attack("svg link", html, f"{svg}><a xlink:href=\"javascript:JS\"><text y='20'>x</text></a></svg>"),
    Attack("svg link, animated", html, f"{svg}><a><animate attributeName='href' values=\"javascript:JS\"/><text y='20'>x</text></a></svg>"),
    Attack("area", html, '<map name=m><area href="javascript:JS" shape=default></map>'
           '<img usemap="#m" width=20 height=20 src="data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==">'),
    # Loading from elsewhere
    Attack("picture", html, '<img src="URL">'),
    Attack("picture, srcset", html, '<img srcset="URL 1x">'),
    Attack("picture, source", html, '<picture><source srcset="URL"><img></picture>'),
    Attack("svg picture", html, f'{svg}><image href="URL"/></svg>'),
    Attack("table background", html, '<table background="URL"><tr><td>x</table>'),
    Attack("style url", html, '<div style="background: url(URL)">x</div>'),
    Attack("style url, escaped", html, '<div style="background-color: red; background-image: \\75\\72\\6c(URL)">x</div>'),
    Attack("style import", html, "<style>@import url(URL);</style>"),
    Attack("style sheet", html, '<link rel="stylesheet" href="URL">'),
    Attack("video poster", html, '<video poster="URL"></video>'),
    Attack("audio", html, '<audio src="URL" autoplay></audio>'),
    Attack("input image", html, '<input type="image" src="URL">'),
    # Mutation, and parsers that disagree
    Attack("math and style", html, '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=JS&gt;">', False),
    Attack("svg and style", html, '<svg></p><style><a id="</style><img src=1 onerror=\'FLAG\'>">'),
    Attack("noscript", html, '<noscript><p title="</noscript><img src=x onerror=FLAG>">', False),
    Attack("noembed", html, '<noembed><p title="</noembed><img src=x onerror=FLAG>">', False),
    Attack("xmp", html, '<xmp><p title="</xmp><img src=x onerror=FLAG>">', False),
    Attack("title", html, '<title><p title="</title><img src=x onerror=FLAG>">', False),
    Attack("textarea", html, '<textarea><p title="</textarea><img src=x onerror=FLAG>">', False),
    Attack("select", html, "<select><template><style><!--</template><a rel='--></style></select><img src=x onerror=FLAG>'>", False),
    Attack("nested forms", html, "<form><math><mtext></form><form><mglyph><style></math><img src onerror=FLAG>", False),
    Attack("annotation", html, '<math><annotation-xml encoding="text/html"><style><img src=x onerror="JS"></style></annotation-xml></math>', False),
    Attack("plaintext", html, '<plaintext><img src=x onerror="JS">', False),
    Attack("NUL and slashes", html, '<im\0g src=x onerror="JS"><img\x0csrc=x\x0bonerror="JS">'),
    # SVG
    Attack("svg output", of_type("image/svg+xml"), f'{svg}onload="JS"><script>JS</script><image href="URL"/></svg>', False),
    Attack("svg output, entity", of_type("image/svg+xml"), f'<!DOCTYPE svg [<!ENTITY x SYSTEM "URL">]>{svg}><text y="9">&x;</text></svg>', False),
    Attack("svg output, not svg", of_type("image/svg+xml"), '"><img src=x onerror="JS"><svg>', False),
    # Markdown
    Attack("prose, script", prose, "<script>JS</script>"),
    Attack("prose, inline", prose, 'words <img src=x onerror="JS"> words'),
    Attack("prose, link", prose, "[x](javascript:FLAG)"),
    Attack("prose, link in brackets", prose, "[x](<javascript:FLAG>)"),
    Attack("prose, link with references", prose, "[x](java&#115;cript&colon;FLAG)"),
    Attack("prose, link by reference", prose, "[x]\n\n[x]:\n  javascript:FLAG"),
    Attack("prose, link by address", prose, "<javascript:FLAG>"),
    Attack("prose, picture", prose, "![x](URL)"),
    Attack("prose, picture by reference", prose, "![x]\n\n[x]: URL"),
    Attack("prose, picture's title", prose, '![x](URL "a\\" onerror=FLAG b=\\"")'),
    Attack("prose, diagram", prose, "```mermaid\n</pre><img src=x onerror='FLAG'>\n```"),
    Attack("prose, fence's language", prose, "```x\"><img/src=x/onerror=FLAG>\ncode\n```", False),
    Attack("prose, heading", prose, '# a<img src=x onerror="JS">'),
    Attack("prose, formula", prose, "$x<img src=x onerror='FLAG'>$ \\begin{x}<img src=x onerror='FLAG'>\\end{x}", False),
    Attack("prose, attachment", lambda text: prose("![x](attachment:a)", attachments={"a": {"text/html": text}}), "<script>JS</script>", False),
    Attack("prose, attachment's type", lambda text: prose("![x](attachment:a)", attachments={"a": {text: "AA=="}}), 'image/png;"onerror="JS"a="', False),
    Attack("prose, attachment that is not there", lambda text: prose(f"![x](attachment:b)\n\n{text}"), "<img src=x onerror='FLAG'>", False),
    Attack("prose, fence left open", prose, "````\n", False),
    Attack("markdown output", markdown, "<script>JS</script>"),
    Attack("markdown output, link", markdown, "[x](javascript:FLAG)"),
    # Other places
    Attack("latex link", of_type("text/latex"), "$\\href{javascript:FLAG}{x}$ </div><img src=x onerror='FLAG'>", False),
    Attack("picture's width", lambda text: code("", display({"image/png": "AA=="}, **{"image/png": {"width": text}})), "1 onerror=FLAG"),
    Attack("picture's data", of_type("image/png"), '"><img src=x onerror="JS">', False),
    Attack("type's name", lambda text: code("", display({text: "x", "text/plain": "x"})), 'text/html"><img src=x onerror="JS">', False),
    Attack("widget", lambda text: code("", display({"application/vnd.jupyter.widget-view+json": {"model_id": text}, "text/plain": text})), "</script><img src=x onerror='FLAG'>", False),
    Attack("mermaid type", of_type("text/vnd.mermaid"), "</pre><img src=x onerror='FLAG'>"),
    Attack("stream", lambda text: code("", {"output_type": "stream", "name": "stdout", "text": text}), "\x1b[31;1m\"><img src=x onerror='FLAG'>\x1b[0m", False),
    Attack("traceback", lambda text: code("", {"output_type": "error", "ename": text, "evalue": text, "traceback": [text]}), "</pre><img src=x onerror='FLAG'>", False),
    Attack("error without a traceback", lambda text: code("", {"output_type": "error", "ename": text, "evalue": text, "traceback": []}), "</pre><img src=x onerror='FLAG'>", False),
    Attack("source", code, "</pre><img src=x onerror='FLAG'>", False),
    Attack("source with fences", code, "```\n~~~\n</pre><img src=x onerror='FLAG'>\n````\n<script>FLAG</script>", False),
    Attack("tags", lambda text: code("", {"output_type": "stream", "name": "stdout", "text": "x"}, tags=[text]), '"><img src=x onerror="JS">', False),
    Attack("raw", lambda text: {"cell_type": "raw", "source": text, "metadata": {"raw_mimetype": "text/html"}}, "<img src=x onerror='FLAG'>", False),
)  # fmt: skip

_BREAK = "</title></style></script>\"'><img src=x onerror='top.pwned_0=1'>"
METADATA = {
    "title": f"Report {_BREAK}",
    "kernelspec": {"name": _BREAK, "display_name": _BREAK, "language": _BREAK},
    "language_info": {"name": _BREAK, "pygments_lexer": _BREAK, "file_extension": _BREAK, "mimetype": _BREAK},
    "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}, "x": _BREAK}},
    "authors": [{"name": _BREAK}],
    "path": _BREAK,
}


def hostile(port: int) -> JSON:
    """All attacks in one notebook, numbered from 1."""
    return notebook([attack.make(number, port) for number, attack in enumerate(ATTACKS, 1)], **METADATA)
