"""Copies of this machine's Python, of the libraries that it needs, and of ordinary commands, as a root directory."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host import programs
from kernel_sandbox.setup.environment_etc import copy_system_data, make_etc

PYTHON = "opt/python"
_COMMANDS = """
[ arch awk b2sum base32 base64 basename basenc bash bc bunzip2 bzcat bzdiff bzgrep bzip2 bzless bzmore cat chgrp chmod
chown cksum clear cmp column comm cp csplit cut dash date dd df diff diff3 dir dircolors dirname du echo egrep env
expand expr factor false fgrep file find flock fmt fold free getconf getent getopt grep groups gunzip gzip head
hexdump hostid hostname iconv id infocmp install ionice join jq kill ldd less link ln locale logname ls lscpu lzcat
lzma mawk md5sum mkdir mkfifo mktemp more mv nawk nice nl nohup nproc numfmt od openssl paste pathchk perl pgrep pidof
pkill pmap pr printenv printf prlimit ps ptx pwd readlink realpath rev rgrep rm rmdir sdiff sed seq setsid sh sha1sum
sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split sqlite3 stat stty sum sync tac tail tar taskset
tee test time timeout top touch tput tr true truncate tsort tty uname unexpand uniq unlink unlzma unxz unzip uptime
users vdir vmstat w watch wc which who whoami xargs xxd xz xzcat xzdiff xzgrep xzless yes zcat zcmp zdiff zegrep
zfgrep zgrep zip zipinfo zless zmore
"""
COMMANDS = tuple(_COMMANDS.split())
"""What cells run with `!`, in either engine: here those of them that this machine has, in an image Debian's."""
# What PEP 600 lets a wheel expect of a machine, as far as anything in an image asks for it; how names are found; and
# two that wheels expect all the same: ffmpeg's and lightgbm's.
_EXPECTED_LIBRARIES = """libgcc_s.so.1 libstdc++.so.6 libm.so.6 libdl.so.2 librt.so.1 libpthread.so.0 libutil.so.1
libresolv.so.2 libnsl.so.1 libnss_files.so.2 libnss_dns.so.2 libz.so.1 libexpat.so.1 libatomic.so.1
libmvec.so.1 libgomp.so.1"""
EXPECTED_LIBRARIES = tuple(_EXPECTED_LIBRARIES.split())
_LEFT_OUT = """
site-packages dist-packages __pycache__ test tests idlelib tkinter turtledemo ensurepip config-* _tkinter*
*.a *.pyc"""
LEFT_OUT = tuple(_LEFT_OUT.split())
_PLACES = """dev etc home/sandbox mnt/data mnt/input opt/kernel-sandbox/run opt/kernel-sandbox/home opt/venv/bin proc
run sys tmp usr/bin var/tmp"""
PLACES = tuple(_PLACES.split())
"""Where something is mounted later must be a directory: the root is read-only by then."""


def make_root(root: Path) -> None:
    """Make the directories, and copy interpreter, libraries and commands. Raises EngineError and OSError."""
    for place in PLACES:
        (root / place).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    make_etc(root)
    executables = [_copy_interpreter(root), *_copy_commands(root)]
    extensions = sorted((root / PYTHON).rglob("lib-dynload/*.so"))
    _copy_libraries(root, [*executables, *extensions])
    _hide_origin(root)


def _hide_origin(root: Path) -> None:
    """Name the interpreter's place in the sandbox wherever it names its own, which may be in somebody's home.

    Programs and libraries hold it as text of a fixed length, where more slashes change nothing. Its last part stays:
    linkers let a shorter text be the end of a longer one, such as the version that Python reads.
    """
    for prefix in {Path(sys.base_prefix), Path(sys.base_prefix).resolve()}:
        if prefix.is_relative_to("/usr") or len(prefix.parts) < 3:
            continue
        own, above = str(prefix).encode(), str(prefix.parent).encode()
        shorter = (b"/opt" if len(above) >= 4 else b"").ljust(len(above), b"/") + own[len(above) :]
        link = root / "opt" / prefix.name
        if not link.exists():
            link.symlink_to(Path(PYTHON).name)
        for path in [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]:
            data = path.read_bytes()
            if own in data:
                path.write_bytes(data.replace(own, shorter if b"\0" in data else f"/{PYTHON}".encode()))


def interpreter() -> Path:
    """Return the program that runs this, behind any virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _copy_interpreter(root: Path) -> Path:
    """Copy the base interpreter (not a virtual environment's) and its standard library; return where it was."""
    executable = interpreter()
    standard_library = Path(sysconfig.get_path("stdlib")).resolve()
    target = root / PYTHON
    # Python finds its prefix from the executable's place, so both keep their places below it.
    below = standard_library.relative_to(Path(sys.base_prefix).resolve())
    shutil.copytree(standard_library, target / below, symlinks=False, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (target / below / "lib-dynload").mkdir(exist_ok=True)  # without it Python thinks that it is not installed
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (target / "bin").mkdir()
    shutil.copyfile(executable, target / "bin" / name)
    (target / "bin" / name).chmod(0o755)
    (target / "bin/python3").symlink_to(name)
    environment = root / "opt/venv"
    for alias in ("python", "python3", name):
        (environment / "bin" / alias).symlink_to(f"/{PYTHON}/bin/{name}")
    version = ".".join(map(str, sys.version_info[:3]))
    text = f"home = /{PYTHON}/bin\ninclude-system-site-packages = false\nversion = {version}\n"
    (environment / "pyvenv.cfg").write_text(text)
    return executable


def missing_commands() -> list[str]:
    """Name the commands that cells will lack, since this machine does."""
    return [command for command in COMMANDS if _find_command(command) is None]


def _find_command(command: str) -> str | None:
    return programs.find(command, "/usr/bin:/bin:/usr/local/bin")


def _copy_commands(root: Path) -> list[Path]:
    """Copy commands by what they really are (busybox is many), never with a set-user-id bit."""
    originals = []
    for command in COMMANDS:
        found = _find_command(command)
        if found is None:
            continue
        original = Path(found).resolve()
        copy = root / "usr/bin" / original.name
        if not copy.exists():
            shutil.copyfile(original, copy)
            copy.chmod(0o755)
            originals.append(original)
        if original.name != command and not (root / "usr/bin" / command).exists():
            (root / "usr/bin" / command).symlink_to(original.name)
    return originals


def _copy_libraries(root: Path, files: list[Path]) -> None:
    needed = shared_libraries(files)
    libc = next((path for path in sorted(needed) if re.match(r"(libc\.so|libc\.musl|ld-musl)", path.name)), None)
    if libc is None:
        raise EngineError("This Python is linked statically: its extension modules cannot be used in a sandbox.")
    searched = {path.parent for path in needed} | {Path("/usr/lib64"), Path("/usr/lib")}
    for name in EXPECTED_LIBRARIES:
        found = next((place / name for place in sorted(searched) if (place / name).exists()), None)
        if found is not None:
            needed.add(found)
    needed |= shared_libraries(sorted(needed))
    copy_system_data(root, libc)
    for library in needed:
        # The loader looks only in the system's own places: what comes from elsewhere goes beside the C library.
        own = str(library).startswith(("/lib", "/usr/lib"))
        target = root / (library if own else libc.parent / library.name).relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(library, target)
            target.chmod(0o755)


def shared_libraries(files: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that programs and libraries load, their own loader included, as ldd lists them."""
    try:
        listed = subprocess.run(
            ["ldd", *map(str, files)], capture_output=True, text=True, check=False, env=programs.environment(LC_ALL="C")
        )
    except FileNotFoundError as exc:
        raise EngineError("ldd is missing on this machine: install the package that has it (libc-bin).") from exc
    found = set()
    for line in listed.stdout.splitlines():
        if match := re.match(r"\s+(?:\S+ => )?(/\S+) \(0x", line):
            found.add(Path(match[1]))
    return found
