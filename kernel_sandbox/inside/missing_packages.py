"""What a kernel says where a package is missing, or is to be installed: one line, with the command that helps.

Its words come from the host (`kernel_sandbox.sandbox.known_packages`), which knows the image. The line stands as a note
beside an error (PEP 678), or is the error: a command that installs nothing is none that went well.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from kernel_sandbox.inside.installers import OF_CONDA, OF_DEBIAN, TOOL, InstallerCommand, installer_commands

FUNCTION = re.compile(r"[A-Za-z_]\w*")
"""What a shell takes as the name of a function."""
PACKAGE = re.compile(r"\w[\w.-]*")
MODULE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")
WITH_PIP = ("pip", "setuptools", "wheel")
"""What is brought up to date before other packages are installed."""
ABOUT = ("Name", "Version", "Summary", "Home-page", "Author", "License")
MOST_NAMES = 5
LONGEST_CHAIN = 20


class NothingInstalled(RuntimeError):
    """A command was to install something in a sandbox."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it: frames of IPython's would say nothing here
        return [f"{type(self).__name__}: {self}"]


class MissingPackages:
    """Finds the line for an error, and for a command."""

    def __init__(self, words: dict[str, Any]) -> None:
        self._advice, self._command = words["advice"], words["command"]
        self._takes_file, self._apt_end = words["takes_file"], words["apt_end"]
        self._imported_as = words["imported_as"]
        self._often = words["often"]
        self._elsewhere = words["elsewhere"]

    def about_error(self, error: BaseException) -> str | None:
        """Return the line for an error, None for one that is about something else."""
        if isinstance(error, subprocess.CalledProcessError):
            command = error.cmd.decode(errors="replace") if isinstance(error.cmd, bytes) else error.cmd  # of %%bash
            return self.about_command(command if isinstance(command, str) else shlex.join(map(str, command)))
        if isinstance(error, FileNotFoundError) and TOOL.fullmatch(str(error.filename)):
            return self._line(is_debians=str(error.filename) in OF_DEBIAN)
        chain: list[BaseException] = []
        while isinstance(error, ImportError) and len(chain) < LONGEST_CHAIN:
            chain.append(error)
            error = error.__cause__ or error.__context__  # type: ignore[assignment]
        missing = next((one for one in chain if isinstance(one, ModuleNotFoundError)), None)
        return self._about_module(str(missing.name)) if missing is not None and missing.name else None

    def _about_module(self, name: str) -> str | None:
        top = name.partition(".")[0]
        if not MODULE.fullmatch(top) or top in getattr(sys, "stdlib_module_names", ()) or _is_there(top):
            return None
        if top == "pip":
            return self._line()
        package = self._imported_as.get(top.lower(), top)
        if package in self._often or package in self._elsewhere or package != top:
            image = f" The image {self._elsewhere[package]} has it." if package in self._elsewhere else ""
            return f"{package} is not in this image.{image} {self._line([package])}"
        if near := _nearest_module(top):
            return f"Did you mean {near}?"
        return (
            f"There is no {top} on sys.path, where a module of yours would be. If it is a package: it is not in "
            f"this image. {self._line([package])}"
        )

    def about_command(self, command: str) -> str | None:
        """Return the line for a command that would install something, None for any other."""
        found = [each for each in installer_commands(command) if each.installs]
        packages: list[str] = []
        debian: list[str] = []
        files: list[str] = []
        for each in found:
            names, listed = each.wanted()
            files += listed
            if each.is_debians:
                debian += names
            else:
                packages += [self._imported_as.get(name.lower(), name) for name in names]
        packages = [name for name in packages if name not in WITH_PIP] or packages
        if not found:
            return None
        return self._line(packages, files, debian, all(each.is_debians for each in found))

    def _line(
        self,
        packages: Sequence[str] = (),
        files: Sequence[str] = (),
        debian: Sequence[str] = (),
        is_debians: bool = False,
    ) -> str:
        packages, debian = list(dict.fromkeys(packages))[:MOST_NAMES], list(dict.fromkeys(debian))[:MOST_NAMES]
        asked = [*(f"--with {shlex.quote(name)}" for name in packages), *(f"--apt {name}" for name in debian)]
        files = files[:1] if self._takes_file else []
        if not asked and not files:
            asked = ["--apt PACKAGE" if is_debians else "--with PACKAGE"]
        what = f" with {', '.join([*packages, *debian])}" if packages or debian else ""
        end = self._apt_end if debian or is_debians else ""
        command = " ".join([self._command, *asked, *files])
        return f"Nothing can be installed in a sandbox. {self._advice}{what}: {command}{end}"


def _is_there(module: str) -> bool:
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _nearest_module(name: str) -> str | None:
    """Return the module that is nearly called so, of those that can be imported."""
    import difflib

    known = set(getattr(sys, "stdlib_module_names", ()))
    for place in sys.path:
        try:
            entries = os.listdir(place or ".")[:5000]
        except OSError:
            continue
        known.update(entry.partition(".")[0] for entry in entries if not entry.endswith("-info"))
    found = difflib.get_close_matches(name, [each for each in known if each.isidentifier()], 1, 0.8)
    return found[0] if found else None


def _answer(asked: InstallerCommand) -> tuple[str, int] | None:
    """Return what pip would say where it has nothing to do, and its exit status; None where it would do something."""
    import importlib.metadata

    if asked.is_debians:
        return None
    if asked.action in ("list", "freeze"):
        there = sorted((str(each.metadata["Name"]), each.version) for each in importlib.metadata.distributions())
        return "\n".join(f"{name}=={version}" for name, version in there), 0
    named = [word for word in asked.words if word not in ("-q", "--quiet", "-qq")]
    if asked.action not in ("install", "show") or not named or not all(map(PACKAGE.fullmatch, named)):
        return None
    told = []
    for name in named:
        try:
            about = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            return (f"WARNING: Package(s) not found: {name}", 1) if asked.action == "show" else None
        if asked.action == "install":
            told.append(f"Requirement already satisfied: {name} ({about['Version']})")
        else:
            told.append("\n".join(f"{field}: {about[field]}" for field in ABOUT if about[field]))
    return "\n---\n".join(told) if asked.action == "show" else "\n".join(told), 0


def _with_answers(command: str, answers: list[tuple[InstallerCommand, tuple[str, int]]]) -> str:
    """Write a command whose programs that are not there say what is known: each is a function of the shell."""
    cases: dict[str, list[str]] = {}
    for asked, (text, status) in answers:
        says = f"printf '%b\\n' {_quoted(text)}; exit {status}"
        if asked.stands_alone and not asked.is_redirected:
            return says
        program, rest = asked.program[0], [*asked.program[1:], asked.action, *asked.words]
        if FUNCTION.fullmatch(program):
            cases.setdefault(program, []).append(f"{_quoted(' '.join(rest), '%s')}) {says};;")
    functions = [
        f'{program}() ( case "$*" in {" ".join(dict.fromkeys(said))} *) command {program} "$@";; esac )\n'
        for program, said in cases.items()
    ]
    return "".join(functions) + command


def _quoted(text: str, form: str = "%b") -> str:
    """Quote a text for `printf %b`; IPython would put variables in at braces and dollars."""
    if form == "%b":
        text = text.replace("\\", "\\\\").replace("{", "\\0173").replace("}", "\\0175").replace("$", "\\044")
    return shlex.quote(text)


def judge_commands(shell: Any, missing: MissingPackages) -> None:
    """Have `!command`, `x = !command`, `%pip`, `%conda` and their kin raise where they installed nothing."""

    def judged(run: Any, has_failed: Any) -> Any:
        def system(command: str) -> Any:
            found = installer_commands(command)
            absent = [each for each in found if not _has_tool(each)]
            answers = [(each, told) for each in absent if (told := _answer(each)) is not None]
            answered = [each for each, _ in answers]
            open_ones = [each for each in found if each.installs and each not in answered]
            line = missing.about_command(command) if open_ones else None
            there = not any(each in absent for each in open_ones)
            if line and not there and found[0].stands_alone:
                raise NothingInstalled(line)
            result = run(_with_answers(command, answers))
            if line and (has_failed(result) or not there):
                raise NothingInstalled(line)
            return result

        return system

    piped, raw = sys.modules["ipykernel.zmqshell"], sys.modules["IPython.core.interactiveshell"]
    for module, name in ((piped, "system"), (raw, "system"), (raw, "getoutput")):
        run = getattr(module, name, None)
        if run is not None:
            setattr(module, name, judged(run, bool if name == "system" else lambda output: False))
    _answer_magics(shell)


def _has_tool(asked: InstallerCommand) -> bool:
    """Return whether there is what would run: the pip of an image of somebody's own may install from a directory.

    Debian's tools install nothing for a user, but answer.
    """
    if asked.is_debians:
        return not asked.installs and shutil.which(asked.tool) is not None
    return bool(shutil.which(asked.tool) or importlib.util.find_spec(asked.tool.rstrip("0123456789.")))


def _answer_magics(shell: Any) -> None:
    """Have the magics of other installers say the same; IPython's own say to use %pip."""

    def magic(name: str) -> Any:
        def run(line: str) -> None:
            shell.system(f"{name} {line}")

        run.__doc__ = "Say how an image is built that has a package."
        return run

    for name in (*OF_CONDA, "uv"):
        if not shutil.which(name):
            shell.register_magic_function(magic(name), "line", name)
