"""What is asked of an index for an image of one's own, by its user or by a source archive, is packages alone."""

from __future__ import annotations

import pytest

from kernel_sandbox.setup.image_request import REQUIREMENT

HASH = f"--hash=sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "line",
    [
        "six",
        "polars>=1.4, <2",
        "uvicorn[standard, more] ~=0.30",
        'colorama; sys_platform == "win32"',
        "tomli>=1; python_version < '3.11' and (extra == 'a' or platform_machine != 'x86_64')",
        f'six==1.16.0 ; python_version >= "3.7" {HASH} {HASH}',
    ],
)
def test_requirement_of_packages_alone_is_taken(line: str) -> None:
    assert REQUIREMENT.fullmatch(line)


@pytest.mark.parametrize("end", ["\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", " ", "\\\n"])
@pytest.mark.parametrize("before", ["six;", "six[a", "six >=", "six", "six=="])
def test_requirement_can_hold_no_option_of_pip(before: str, end: str) -> None:
    assert not REQUIREMENT.fullmatch(f"{before}{end}--extra-index-url http://there/${{PIP_INDEX_URL}}/{end}six")
    assert not REQUIREMENT.fullmatch(f"{before}{end}--pre{end}six")


@pytest.mark.parametrize(
    "line", ["six; ${HOME}", "six; a == '$X'", "six @ http://there/x.whl", "six\n", "six; a\u2028b"]
)
def test_requirement_holds_no_address_and_no_variable(line: str) -> None:
    assert not REQUIREMENT.fullmatch(line)
