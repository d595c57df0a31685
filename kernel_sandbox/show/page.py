"""The HTML of a scrubbed notebook: `python -P -m kernel_sandbox.show.page`, JSON on stdin to a page on stdout.

`rendering` starts it. It is a process of its own because what renders here (a Markdown parser, lexers, an HTML parser,
all of regular expressions) can be made to take hours by a few kilobytes: it is given a deadline and a limit of memory.
The only module that imports nbconvert, whose templates and style sheet it uses. Of its `sanitize_html` nothing is
needed: that knows no SVG and no styles, lets pictures load from anywhere, and is not the last to touch the page.
"""

from __future__ import annotations

import html
import re
import resource
import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
from nbconvert.exporters.html import HTMLExporter
from nbconvert.exporters.templateexporter import TemplateExporter
from nbconvert.filters.highlight import Highlight2HTML

from kernel_sandbox.session.outputs import data_url, picture_of
from kernel_sandbox.session.transcript.reading import parse_notebook
from kernel_sandbox.show.policy import POLICY_TAGS
from kernel_sandbox.show.tags import clean_fragment, clean_page, shows_something
from kernel_sandbox.text.characters import visible, visible_source

MAX_MEMORY = 4 * 1024**3
"""Bytes of address space."""
MAX_HTML = 1024 * 1024
"""Characters of one text/html; a longer one is shown as its text."""

_HEAD = (
    # JupyterLab's editor scrolls long lines by a script; without one they would be cut.
    f"{POLICY_TAGS}<style>img {{ max-width: 100%; }} .jp-InputArea-editor .highlight {{ overflow-x: auto; }}</style>\n"
)

# The head, style sheets and body of nbconvert's page, for a notebook without cells: nothing in it is a notebook's.
_FRAME = """\
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
"""
_CELLS = "{%- extends 'lab/base.html.j2' -%}"


class _Exporter(HTMLExporter):
    """nbconvert's exporter, which reads no template of the working directory and cleans Markdown as it is made."""

    def default_filters(self) -> Iterable[tuple[str, Any]]:
        yield from super().default_filters()  # type: ignore[no-untyped-call]
        # An output has one kind by now; and the last two would change what is cleaned at the end.
        yield from (("filter_data_type", _kinds), ("strip_files_prefix", _same), ("clean_html", _same))

    def from_notebook_node(self, nb: Any, resources: Any = None, **kw: Any) -> Any:
        """Render, as HTMLExporter does, but for its second parser of the page: the cleaning parses it after all."""
        lexer = nb.metadata.language_info.name
        lexer = "ipython3" if lexer == "python" else lexer
        highlight = Highlight2HTML(pygments_lexer=lexer, parent=self)  # type: ignore[no-untyped-call]
        self.register_filter("highlight_code", highlight)  # type: ignore[no-untyped-call]
        return TemplateExporter.from_notebook_node(self, nb, resources, **kw)

    @jinja2.pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Make HTML of Markdown; where that fails, as for an attachment that is not there, show the source."""
        try:
            rendered = super().markdown2html(context, source)
        except Exception:  # noqa: BLE001 (nbconvert and mistune raise what they like)
            rendered = f"<pre>{html.escape(source)}</pre>"
        return clean_fragment(rendered)


def _kinds(data: Mapping[str, str]) -> list[str]:
    return list(data)


def _same(text: str) -> str:
    return text


def make_page(notebook: Any) -> str:
    """Make the page of a scrubbed notebook (nbformat's NotebookNode, which is changed)."""
    title = html.escape(notebook.metadata.pop("title"))
    for cell in notebook.cells:
        cell.source = visible_source(cell.source) if cell.cell_type == "code" else visible(cell.source)
        if cell.cell_type == "code":
            cell.outputs = [shown for output in cell.outputs for shown in _shown(output)]
        elif cell.cell_type == "raw":
            cell.update(cell_type="markdown", source=f"<pre>{html.escape(cell.source)}</pre>")
    body = clean_page(_export(_CELLS, notebook))
    frame = _export(_FRAME, type(notebook)(notebook, cells=[]))
    frame = re.sub(r"<title>.*?</title>", "", frame, count=1, flags=re.DOTALL)
    before, _, after = frame.partition("</main>")
    before = before.replace("<head>", f"<head>\n{_HEAD}<title>{title}</title>\n", 1)
    return f"{before}{body}</main>{after}\n"


def _export(template: str, notebook: Any) -> str:
    settings = {"template_name": "lab", "raw_template": template, "extra_template_basedirs": []}
    exporter = _Exporter(**settings)  # type: ignore[no-untyped-call]
    # Without a directory of its own it would look for the user's custom.css.
    text, _ = exporter.from_notebook_node(notebook, {"config_dir": "/dev/null"})
    return str(text)


def _shown(output: Any) -> Iterable[Any]:
    """Give an output as it is shown: of a bundle one kind, and a word where a script was left out."""
    if "data" not in output:
        return [output]
    data = output.data
    source = data.get("text/html", "")
    output.data = _one_kind(data, output.metadata)
    if "<script" not in source.lower():
        return [output]
    note = type(output)({"text/plain": "[The script that came with this output is left out.]"})
    return [output, type(output)(output_type="display_data", metadata=type(output)(), data=note)]


def _one_kind(data: Mapping[str, str], metadata: Mapping[str, Any]) -> dict[str, str]:
    source = data.get("text/html", "")
    cleaned = clean_fragment(source) if len(source) <= MAX_HTML else ""
    if shows_something(cleaned):
        return {"text/html": cleaned}
    if "text/markdown" in data:
        return {"text/markdown": data["text/markdown"]}
    picture = picture_of(data)
    if picture:
        sides = "".join(f' {side}="{pixels}"' for side, pixels in metadata.get(picture.kind, {}).items())
        return {"text/html": f'<img alt="figure" src="{data_url(picture.kind, picture.data)}"{sides}>'}
    kind = "text/latex" if "text/latex" in data else "text/plain"
    return {kind: data[kind]}


def main() -> None:
    """Read a notebook from stdin and write its page."""
    allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MAX_MEMORY if allowed == resource.RLIM_INFINITY else min(MAX_MEMORY, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")  # nbconvert's, about lexers that there are not
    notebook = parse_notebook(sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(make_page(notebook).encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
