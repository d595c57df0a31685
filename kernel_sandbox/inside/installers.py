"""Reads in a shell's command what would install packages: which programs it runs, and what is asked of them. Pure.

What stands in quotes, in a comment or in a here-document is text. `missing_packages` says what comes of the rest.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

OF_DEBIAN = ("apt", "apt-get", "aptitude")
OF_CONDA = ("conda", "mamba", "micromamba")
TOOL = re.compile(rf"pip[\d.]*|uv|{'|'.join((*OF_CONDA, *OF_DEBIAN))}")
PYTHON = re.compile(r"python[\d.]*|\{sys\.executable\}")
"""IPython puts in what stands in braces after this has been read."""
INSTALL = ("install", "add", "download", "wheel", "create", "reinstall", "build-dep")
REFRESH = ("update", "upgrade", "full-upgrade", "dist-upgrade")
_BEFORE = "if then elif else while until do ! { time exec command nohup sudo env nice timeout xargs"
BEFORE = tuple(_BEFORE.split())
"""Words that may stand before a program."""
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=.*", re.DOTALL)
TOKEN = re.compile(
    r"(?P<space>(?:[ \t\r]|\\\n)+)|(?P<comment>#[^\n]*)|(?P<mark>[;&|()<>\n]+)"
    r"""|(?P<word>(?:[^\s;&|()<>'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+)""",
    re.DOTALL,
)
HERE_DOCUMENT = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1([^\n]*\n).*?^[ \t]*\2$", re.DOTALL | re.MULTILINE)
_TAKE_VALUE = """
-r -c -t -i -f -n --requirement --constraint --target --index-url --extra-index-url --find-links --prefix --channel
--name --trusted-host
"""
TAKE_VALUE = tuple(_TAKE_VALUE.split())
TAKE_VALUE_OF_APT = ("-o", "-t", "-c", "--option", "--target-release", "--config-file")
REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]{0,60}(?:\[[\w,.-]{1,60}\])?(?:[<>=!~]=?[\w.*]{1,30})?")
LONGEST = 20_000
"""Characters of a command that are looked at."""


@dataclass(frozen=True)
class InstallerCommand:
    """One run of a program that can install packages."""

    program: tuple[str, ...]
    """The words that name it, as they were written: `pip`, or `python3 -m pip`."""
    tool: str
    action: str
    """What is asked of it; empty for nothing."""
    words: tuple[str, ...]
    """What follows the action."""
    stands_alone: bool
    """Whether nothing else is run."""
    is_redirected: bool

    @property
    def installs(self) -> bool:
        """Whether it would install something."""
        return self.action in INSTALL or self.action in REFRESH

    @property
    def is_debians(self) -> bool:
        """Whether what it would install are packages of Debian."""
        return self.tool in OF_DEBIAN

    def wanted(self) -> tuple[list[str], list[str]]:
        """Return the packages that it would install, and files that list some."""
        names, files, words = [], [], iter(self.words if self.action in INSTALL else ())
        for word in words:
            if word in (TAKE_VALUE_OF_APT if self.is_debians else TAKE_VALUE):
                value = next(words, "")
                if word in ("-r", "--requirement") and re.fullmatch(r"[\w./-]{1,100}\.txt", value):
                    files.append(value)
            elif REQUIREMENT.fullmatch(word):
                names.append(word)
        return names, files


def installer_commands(command: str) -> list[InstallerCommand]:
    """Return what a shell's command runs of the programs that install packages, in order."""
    simple = list(_simple_commands(HERE_DOCUMENT.sub(r"\3", command[:LONGEST])))
    read = (_read(words, len(simple) == 1, redirected) for words, redirected in simple)
    return [found for found in read if found is not None]


def _simple_commands(text: str) -> Iterator[tuple[list[str], bool]]:
    """Part a command into its simple ones: words without redirections, and whether there were some."""
    words: list[str] = []
    redirected = into_file = False
    position = 0
    while token := TOKEN.match(text, position):  # it ends before a quote that is not closed
        position = token.end()
        if token["word"]:
            if not into_file:
                words.append("".join(shlex.split(token["word"])))
            into_file = False
        elif token["mark"] and set(token["mark"]) <= set("<>&") and token["mark"].strip("&"):
            if words and words[-1].isdigit() and text[: token.start()].endswith(words[-1]):
                words.pop()  # the descriptor
            redirected = into_file = True
        elif token["mark"]:
            if words:
                yield words, redirected
            words, redirected, into_file = [], False, False
    if words:
        yield words, redirected


def _read(words: list[str], alone: bool, redirected: bool) -> InstallerCommand | None:
    start = _program_at(words)
    names, rest = words[start : start + 1], words[start + 1 :]
    tool = names[0].rpartition("/")[2] if names else ""
    if PYTHON.fullmatch(tool) and rest[:1] == ["-m"]:
        names, tool, rest = [*names, *rest[:2]], "".join(rest[1:2]), rest[2:]
    if not TOOL.fullmatch(tool):
        return None
    while rest and (rest[0].startswith("-") or (tool == "uv" and rest[0] == "pip")):
        value = rest[0] in (TAKE_VALUE_OF_APT if tool in OF_DEBIAN else TAKE_VALUE)
        rest = rest[2 if value else 1 :]
    return InstallerCommand(tuple(names), tool, "".join(rest[:1]), tuple(rest[1:]), alone, redirected)


def _program_at(words: list[str]) -> int:
    """Return where the program stands, after assignments and words such as sudo with their options."""
    position, after = 0, ""
    while position < len(words):
        word = words[position]
        if word in BEFORE:
            after = word
        elif after and word in ("-u", "-n"):
            position += 1
        elif not ASSIGNMENT.fullmatch(word) and not (after and re.fullmatch(r"-.*|[\d.]+[smhd]?", word)):
            break
        position += 1
    return position
