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

TOOLS = r"(?:pip[\d.]*|uv|conda|mamba|micromamba|apt|apt-get|aptitude)"
INSTALLER = re.compile(
    rf"(?:^|[;&|(\n])\s*(?:sudo\s+)?(?:[\"']?[\w./-]*python[\d.]*[\"']?\s+-m\s+)?(?P<tool>{TOOLS})\s+"
    r"(?:pip\s+)?(?:-\S+\s+)*(?P<action>[a-z-]+)(?P<rest>[^;&|)\n]*)"
)
"""A command of what installs packages, within one of a shell."""
ALONE = re.compile(r"[^;&|)\n]*")
INSTALL = ("install", "add", "download", "wheel")
OTHERS = ("list", "freeze", "show", "update", "upgrade", "uninstall", "remove", "create")
OF_DEBIAN = ("apt", "apt-get", "aptitude")
TAKES_VALUE: tuple[str, ...] = (
    "-r",
    "-c",
    "-t",
    "-i",
    "-f",
    "-n",
    "--requirement",
    "--constraint",
    "--target",
    "--index-url",
)
TAKES_VALUE += ("--extra-index-url", "--find-links", "--prefix", "--channel", "--name", "--trusted-host")
REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]{0,60}(?:\[[\w,.-]{1,60}\])?(?:[<>=!~]=?[\w.*]{1,30})?")
MODULE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}")
LONGEST = 20_000
"""Characters of a command that are looked at."""
MOST_NAMES = 5
LONGEST_CHAIN = 20


class NothingInstalled(RuntimeError):
    """A command was to install something in a sandbox."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it: frames of IPython's would say nothing here
        return [f"{type(self).__name__}: {self}"]


class MissingPackages:
    """Finds the line for an error, and for a command."""

    def __init__(self, words: dict[str, Any]) -> None:
        self._command = words["command"]
        self._imported_as = words["imported_as"]
        self._often = words["often"]
        self._elsewhere = words["elsewhere"]

    def about_error(self, error: BaseException) -> str | None:
        """Return the line for an error, None for one that is about something else."""
        if isinstance(error, subprocess.CalledProcessError):
            command = error.cmd.decode(errors="replace") if isinstance(error.cmd, bytes) else error.cmd  # of %%bash
            return self.about_command(command if isinstance(command, str) else shlex.join(map(str, command)))
        if isinstance(error, FileNotFoundError) and re.fullmatch(TOOLS, str(error.filename)):
            return self._line(option="--apt" if str(error.filename) in OF_DEBIAN else "--with")
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
        found = INSTALLER.search(command[:LONGEST])
        if not found or found["action"] not in (*INSTALL, *OTHERS):
            return None
        names, files = _wanted(found["rest"]) if found["action"] in INSTALL else ([], [])
        if found["tool"] in OF_DEBIAN:
            return self._line(names, option="--apt")
        return self._line([self._imported_as.get(name.lower(), name) for name in names], files)

    def _line(self, packages: Sequence[str] = (), files: Sequence[str] = (), option: str = "--with") -> str:
        asked = [f"{option} {shlex.quote(package)}" for package in packages]
        command = (
            " ".join([self._command, *asked, *files]) if packages or files else f"{self._command} {option} PACKAGE"
        )
        what = f" with {', '.join(packages)}" if packages else ""
        return f"Nothing can be installed in a sandbox. Build an image{what}: {command}"


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


def _wanted(rest: str) -> tuple[list[str], list[str]]:
    """Return the packages that are to be installed, and files that list some, of the words after `install`."""
    try:
        words = iter(shlex.split(rest))
    except ValueError:
        words = iter(rest.split())
    names, files = [], []
    for word in words:
        if word in TAKES_VALUE:
            value = next(words, "")
            if word in ("-r", "--requirement") and re.fullmatch(r"[\w./-]{1,100}\.txt", value):
                files.append(value)
        elif REQUIREMENT.fullmatch(word):
            names.append(word)
    return names[:MOST_NAMES], files[:1]


def _answer(command: str) -> str | None:
    """Return what pip would say where it has nothing to do: what there is, or that all that is asked for is there."""
    import importlib.metadata

    found = INSTALLER.search(command)
    if not found or not found["tool"].startswith("pip"):
        return None
    if found["action"] in ("list", "freeze"):
        there = sorted((str(each.metadata["Name"]), each.version) for each in importlib.metadata.distributions())
        return "\n".join(f"{name}=={version}" for name, version in there)
    named = [word for word in found["rest"].split() if word not in ("-q", "--quiet", "-qq")]
    if found["action"] != "install" or not all(re.fullmatch(r"\w[\w.-]*", name) for name in named):
        return None
    try:
        told = [f"Requirement already satisfied: {name} ({importlib.metadata.version(name)})" for name in named]
    except importlib.metadata.PackageNotFoundError:
        return None
    return "\n".join(told) or None


def judge_commands(shell: Any, missing: MissingPackages) -> None:
    """Have `!command`, `x = !command`, `%pip`, `%conda` and their kin raise where they installed nothing."""

    def judged(run: Any, has_failed: Any) -> Any:
        def system(command: str) -> Any:
            line = missing.about_command(command)
            if line is None:
                return run(command)
            there = _has_tool(command)
            if not there and ALONE.fullmatch(command.strip()):
                if (told := _answer(command)) is None:
                    raise NothingInstalled(line)
                print(told)
                return run("true")
            result = run(command)
            if has_failed(result) or not there:
                raise NothingInstalled(line)
            return result

        return system

    piped, raw = sys.modules["ipykernel.zmqshell"], sys.modules["IPython.core.interactiveshell"]
    for module, name in ((piped, "system"), (raw, "system"), (raw, "getoutput")):
        run = getattr(module, name, None)
        if run is not None:
            setattr(module, name, judged(run, bool if name == "system" else lambda output: False))
    _refuse_magics(shell, missing)


def _has_tool(command: str) -> bool:
    """Return whether there is what would install: the pip of an image of somebody's own may, from a directory."""
    found = INSTALLER.search(command)
    if found is None or found["tool"] in OF_DEBIAN:
        return False
    return bool(shutil.which(found["tool"]) or importlib.util.find_spec(found["tool"].rstrip("0123456789.")))


def _refuse_magics(shell: Any, missing: MissingPackages) -> None:
    """Have the magics of other installers say the same; IPython's own say to use %pip."""

    def magic(name: str) -> Any:
        def refuse(line: str) -> None:
            raise NothingInstalled(missing.about_command(f"{name} {line}") or missing.about_command(f"{name} install"))

        refuse.__doc__ = "Say how an image is built that has a package."
        return refuse

    for name in ("conda", "mamba", "micromamba", "uv"):
        if not shutil.which(name):
            shell.register_magic_function(magic(name), "line", name)
