"""The HTML that a page may have: an allow-list, kept by nh3 (ammonia), which parses as browsers do and writes it anew.

`page` calls both: `clean_fragment` for each piece that a notebook brings, so that it can neither reach outside its
place nor dress as ours, and `clean_page` for the whole body, after every other program has touched it. The only
module that imports nh3.

Foreign content (svg, math) is out, with all that is in it: parsers disagree on it, which mutation XSS lives on
(https://research.securitum.com/mutation-xss-via-mathml-mutation-dompurify-2-0-17-bypass/).
"""

from __future__ import annotations

import re

import nh3

from kernel_sandbox.session.outputs.pictures import PICTURE_SUFFIXES, SVG, data_url

_TAGS = set(
    "a abbr b bdi bdo blockquote br caption center cite code col colgroup dd del details dfn div dl dt em figcaption "  # noqa: SIM905
    "figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q rp rt ruby s samp small span strike strong sub "
    "summary sup table tbody td tfoot th thead tr tt u ul var wbr".split()
)
_GONE = set(
    "script style title iframe noscript noembed noframes object template svg math textarea select video audio".split()  # noqa: SIM905
)
"""Tags that leave with what is in them; of others that are not allowed, the text stays."""
_CELLS = {"align", "colspan", "rowspan"}
_ATTRIBUTES = {
    "*": {"class", "style", "title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "ol": {"start"},
    "td": _CELLS,
    "th": _CELLS,
} | {f"h{level}": {"id"} for level in range(1, 7)}
# `data-mime-type` is what JupyterLab's style sheet knows stderr by.
_OUR_ATTRIBUTES = {**_ATTRIBUTES, "div": {"id", "data-mime-type", "data-type"}}

# A link goes to the web, to a mail program or within the page: no file of the reader's, nothing that is run.
_LINK = re.compile(r"(?:https?://|mailto:)[^\x00-\x20]+|#[^\x00-\x20]*", re.IGNORECASE)
# A picture is within the page: one from elsewhere would tell its server who reads, and what.
_PICTURE = re.compile(rf"data:(?:{'|'.join(map(re.escape, PICTURE_SUFFIXES))});base64,[A-Za-z0-9+/]+={{0,2}}")
_STYLES = {"color", "background-color", "text-align", "vertical-align", "font-weight", "font-style", "text-decoration"}
_STYLE_VALUE = re.compile(r"#[0-9a-f]{3,8}|[a-z-]{1,24}|[0-9]{3}|(?:rgb|hsl)a?\([0-9.,% ]{1,40}\)", re.IGNORECASE)
# pandas' tables, and the names that Pygments gives to tokens.
_CLASS = re.compile(r"dataframe|highlight|anchor-link|[a-z]{1,2}[0-9a-z]?")

_LEFT_OUT = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="260" height="24"><rect width="260" height="24" fill="#eee"/>'
    '<text x="8" y="16" font-family="sans-serif" font-size="12" fill="#666">A picture from elsewhere, left out</text>'
    "</svg>"
)
PLACEHOLDER = data_url(SVG, _LEFT_OUT.encode())


def clean_fragment(html: str) -> str:
    """Reduce a piece of a notebook's HTML to the allow-list: whole, closed, and without names of our own."""
    return _FRAGMENT.clean(html)


def clean_page(html: str) -> str:
    """Reduce the body of a page to the allow-list, and the classes and ids of its cells."""
    return _PAGE.clean(html)


def shows_something(fragment: str) -> bool:
    """Whether there is anything to see in a cleaned fragment."""
    return "<img " in fragment or "<hr" in fragment or bool(re.sub(r"<[^>]*>|&nbsp;|\s", "", fragment))


def _attribute(tag: str, name: str, value: str) -> str | None:
    if name == "href":
        return value if _LINK.fullmatch(value) else None
    if name == "src":
        return value if _PICTURE.fullmatch(value) else PLACEHOLDER
    if name == "style":
        return _style(value)
    return value


def _fragment_attribute(tag: str, name: str, value: str) -> str | None:
    if name == "class":
        return " ".join(filter(_CLASS.fullmatch, value.split())) or None
    return _attribute(tag, name, value)


def _style(value: str) -> str | None:
    """Keep the declarations of colours and alignments; what is written with escapes or functions is none of them."""
    pairs = (declaration.partition(":") for declaration in value.split(";"))
    named = ((name.strip().lower(), text.strip()) for name, _, text in pairs)
    kept = [f"{name}: {text}" for name, text in named if name in _STYLES and _STYLE_VALUE.fullmatch(text)]
    return "; ".join(kept) or None


_SCHEMES = {"http", "https", "mailto", "data"}
_FRAGMENT = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=_GONE,
    attributes=_ATTRIBUTES,
    attribute_filter=_fragment_attribute,
    url_schemes=_SCHEMES,
)
_PAGE = nh3.Cleaner(
    tags=_TAGS,
    clean_content_tags=_GONE,
    attributes=_OUR_ATTRIBUTES,
    attribute_filter=_attribute,
    url_schemes=_SCHEMES,
)
