"""Code out of Markdown's fences."""

from __future__ import annotations

import pytest

from kernel_sandbox.agents.fences import unfence


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("\n```\nx = 1\n```\n\n", "x = 1"),
        ("~~~py\nx = 1\n~~~", "x = 1"),
        ("```python\nx = 1", "x = 1"),
        ("```python\nx = 1\n```\nThis sets x.", "x = 1"),
        ("````\ns = '''\n```\n'''\n````", "s = '''\n```\n'''"),
        ("```\ns = '''\n```\n'''\n```", "s = '''\n```\n'''"),
        ('x = "a"', 'x = "a"'),
        ('"""A docstring."""', '"""A docstring."""'),
        ("s = '''\n```python\n```\n'''", "s = '''\n```python\n```\n'''"),
        ("python = 1\npython", "python = 1\npython"),
        ("  indented = 1", "  indented = 1"),
        ("", ""),
    ],
)
def test_fences_are_parsed_and_code_is_left_alone(written: str, code: str) -> None:
    assert unfence(written) == code
