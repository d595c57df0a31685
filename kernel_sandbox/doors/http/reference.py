"""The OpenAPI description as a page that runs nothing and loads nothing: for machines without a web."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2733; }
h2 { border-bottom: 1px solid #ccd; margin-top: 2.5rem; } h3 { margin-bottom: 0; font-size: 1rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; } pre { background: #f3f5f8; padding: .6rem; overflow-x: auto; }
.method { font-weight: bold; } td { padding: .1rem .8rem .1rem 0; vertical-align: top; }
@media (prefers-color-scheme: dark) { body { background: #14181d; color: #dde3ea; } pre { background: #20262d; } }
"""
_METHODS = ("get", "post", "put", "delete")


def reference_page(description: Mapping[str, Any]) -> str:
    """Write the page of an OpenAPI description."""
    info = description["info"]
    body = "".join(_sections(description))
    below = "".join(f"<p>All paths are below <code>{escape(each['url'])}</code>.</p>" for each in _servers(description))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(info['title'])}</h1>{_paragraphs(info['description'])}"
        f'<p>For programs: <a href="openapi.json">openapi.json</a>.</p>{below}{body}</body></html>'
    )


def _servers(description: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(description.get("servers", ()))


def _sections(description: Mapping[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, operations in description["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                by_tag.setdefault(operation.get("tags", ["Others"])[0], []).append(_operation(path, method, operation))
    for tag, operations_of_tag in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(operations_of_tag)}"


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{escape(each.get('description', ''))}</td></tr>"
        for each in operation.get("parameters", ())
    )
    return (
        f'<h3><span class="method">{method.upper()}</span> <code>{escape(path)}</code></h3>'
        f"{_paragraphs(operation.get('description', operation.get('summary', '')))}"
        f"{f'<table>{parameters}</table>' if parameters else ''}"
    )


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n"))
