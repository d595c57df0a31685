"""Makes the environments of bubblewrap sandboxes (`sandbox/engines/environment.py` finds them).

Layout, as in the images: /opt/python (the interpreter, copied), /opt/venv (the packages), /opt/kernel-sandbox/home (the
home's skeleton). environment_files.py copies interpreter, libraries and commands.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernel_sandbox.errors import EngineError, ImageNotFound
from kernel_sandbox.host import programs
from kernel_sandbox.sandbox.engines.environments import PREFIX_VARIABLE, Environment, find, place_of, shelf
from kernel_sandbox.sandbox.engines.image_names import (
    ARCHIVER,
    MEMBER,
    common,
    debian_packages,
    folder,
    label_size,
    label_words,
    own_files,
    pip_lock,
)
from kernel_sandbox.setup import debian_archive, environment_etc, environment_files, killed_builds, wheels
from kernel_sandbox.setup.build_sandbox import PYTHON, run, sealed
from kernel_sandbox.setup.progress import Progress, Report

FONTS = "usr/share/fonts"


def build(name: str, report: Report) -> Environment:
    """Make an environment, or find it up to date. Raises ImageNotFound for an unknown name, and EngineError."""
    with contextlib.suppress(ImageNotFound):
        environment = find(name)
        report(Progress("environment", f"{environment.directory} is up to date"))
        return environment
    check_room(name)
    place = place_of(name)
    with explained(name), scratch_directory(place) as scratch:
        _make(scratch / "root", name, report)
        facts = {"image": name, "interpreter": str(environment_files.interpreter())}
        (scratch / "environment.json").write_text(json.dumps(facts))
        scratch.chmod(0o755)
        with contextlib.suppress(OSError):  # another one was first, with the same files
            scratch.rename(place)
    return find(name)


def room(name: str) -> int:
    """Return the bytes that an environment takes while it is made, its downloads included."""
    return label_size(name, "room")


def check_room(name: str) -> None:
    """Find out whether an environment could be made. Raises EngineError, with what to do."""
    with explained(name):
        existing = next(path for path in (shelf(), *shelf().parents) if path.exists())
        if not os.access(existing, os.W_OK | os.X_OK):
            reason = errno.EROFS if os.statvfs(existing).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(reason, os.strerror(reason))
        if shutil.disk_usage(existing).free < room(name):
            raise OSError(errno.ENOSPC, "too little room there")


def outdated(name: str) -> list[Path]:
    """Return the older environments of this name, but those that another Python of this machine has made for itself."""
    current = place_of(name)
    others = [path for path in current.parent.glob(f"{name}-{'[0-9a-f]' * 16}") if path != current]
    return [path for path in others if not _is_of_another_python(path)]


def _is_of_another_python(directory: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        made_by = Path(json.loads((directory / "environment.json").read_text())["interpreter"])
        return made_by.exists() and made_by != environment_files.interpreter()
    return False


def remove_outdated(name: str, in_use: set[str]) -> int:
    """Remove older environments of this name, but those whose directory a sandbox uses. Return how many."""
    unused = [directory for directory in outdated(name) if str(directory) not in in_use]
    for directory in unused:
        shutil.rmtree(directory, ignore_errors=True)
    return len(unused)


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Raise EngineError, with what to do, where files cannot be written."""
    try:
        yield
    except OSError as exc:
        raise EngineError(
            f"The environment cannot be made in {shelf()} ({exc.strerror or exc}). It needs "
            f"{room(name) // 1024**2} MB: make room there, or set {PREFIX_VARIABLE} to another directory."
        ) from exc


@contextlib.contextmanager
def scratch_directory(place: Path) -> Iterator[Path]:
    """Give a directory beside `place` that is gone afterwards, unless it was moved away."""
    place.parent.mkdir(parents=True, exist_ok=True)
    killed_builds.remove_directories(shelf(), ".part-*", "*+????????-*")
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".part-", ignore_cleanup_errors=True) as scratch:
        killed_builds.own(Path(scratch))
        target = Path(scratch) / "new"
        target.mkdir()
        yield target


def _make(root: Path, name: str, report: Report) -> None:
    locks = [pip_lock(), folder(name) / "requirements.txt"]
    downloads, instead = label_size(name, "downloads"), root.parents[1] / "wheels"
    packages = wheels.fetch_for_this_machine(locks, report, room=downloads, instead=instead)
    report(Progress("copy the interpreter", sys.base_prefix))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    environment_files.make_root(root)
    if missing := environment_files.missing_commands():
        report(Progress("copy the interpreter", f"cells will lack what this machine has not: {' '.join(missing)}"))
    if debian := debian_packages(name):
        debian_archive.unpack(root, debian, folder(name) / "after-unpacking.sh", report)
    site = root / "opt/venv/lib" / version / "site-packages"
    site.mkdir(parents=True)
    _install(root, packages, folder(name) / "requirements.txt", report)
    _drop_tests(site, folder(name) / "drop-tests.txt")
    if not (site / "pkg_resources").exists():
        shutil.copyfile(common() / "pkg_resources.py", site / "pkg_resources.py")
    finish(root, site)
    environment_etc.link_time_zones(root, site)
    _copy_files(root, name)
    _compile(root, report)
    make_readable(root)
    _import_once(root, name, report)


def _install(root: Path, packages: Path, requirements: Path, report: Report) -> None:
    """Unpack the packages, and what pip's own wheel carries of certificates, in a sandbox of this root."""
    report(Progress("install packages"))
    pip = next(packages.glob("pip-*.whl")).name
    command = [PYTHON, "-P", f"/tmp/wheels/{pip}/pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--no-index", "--find-links=/tmp/wheels", "--no-deps", "--require-hashes", "--no-compile"]
    command += ["--no-cache-dir", "--root-user-action=ignore", "--requirement=/tmp/requirements.txt"]
    given = {"/tmp/wheels": packages, "/tmp/requirements.txt": requirements}
    own = {"/opt/venv": root / "opt/venv"}
    before = _links(root / "opt/venv")
    run(sealed(root, command, writable=own, readable=given), "The packages could not be installed")
    if new := _links(root / "opt/venv") - before:
        # A wheel holds none (PEP 427), and what comes next on the host would follow them.
        raise EngineError(f"The packages made a link, which no wheel should: {sorted(new)[0][0]}")
    bundle = root / environment_etc.CERTIFICATES
    bundle.parent.mkdir(parents=True, exist_ok=True)
    member = [PYTHON, "-I", "-c", MEMBER.read_text(), f"/tmp/wheels/{pip}", "pip/_vendor/certifi/cacert.pem"]
    member += [f"/{environment_etc.CERTIFICATES}"]
    own = {f"/{bundle.parent.relative_to(root)}": bundle.parent}
    run(sealed(root, member, writable=own, readable=given), "The certificates could not be installed")
    environment_etc.link_certificates(root)


def _copy_files(root: Path, name: str) -> None:
    """Copy the image's own files: kernelspecs, settings."""
    for inside, path in own_files(name).items():
        (root / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, root / inside)


def _links(directory: Path) -> set[tuple[str, str]]:
    """Return the links below a directory, and where they lead."""
    return {(str(path), str(path.readlink())) for path in directory.rglob("*") if path.is_symlink()}


def _drop_tests(site: Path, listed: Path) -> None:
    """Remove the tests of packages that have large ones, as the image does."""
    for package in listed.read_text().split() if listed.is_file() else ():
        for directory in [path for path in (site / package).rglob("tests") if path.is_dir()]:
            shutil.rmtree(directory, ignore_errors=True)


def finish(root: Path, site: Path) -> None:
    """Do in a sandbox what the packages leave undone, as the image does."""
    (root / FONTS).mkdir(parents=True, exist_ok=True)  # packages of Debian may bring it
    own = {"/opt/venv": root / "opt/venv", f"/{FONTS}": root / FONTS}
    program = (common() / "finish.py").read_text()
    command = [PYTHON, "-I", "-c", program, f"/{site.relative_to(root)}", f"/{FONTS}"]
    run(sealed(root, command, writable=own), "The packages could not be made ready")


def _compile(root: Path, report: Report) -> None:
    """Compile all modules in a sandbox, as nobody can write bytecode later."""
    total = sum(1 for _ in root.rglob("*.py"))
    command = [PYTHON, "-P", "-m", "compileall", "-j", "0", "--invalidation-mode", "unchecked-hash", "/opt"]
    # Columns of each instruction would be a tenth of all bytecode, and tracebacks through libraries do without.
    variables = {"PYTHONNODEBUGRANGES": "1"}
    command = sealed(root, command, writable={"/opt": root / "opt"}, variables=variables)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=programs.environment(), start_new_session=True, **pipes) as compiler:
        assert compiler.stdout is not None
        try:
            for done, _ in enumerate((line for line in compiler.stdout if line.startswith("Compiling")), 1):
                if done % 50 == 0:
                    report(Progress("compile", "", min(done, total), total))
        except BaseException:
            os.killpg(compiler.pid, signal.SIGKILL)  # its workers too
            raise
    # Its status tells of files that are no Python on purpose (templates, tests of syntax errors).


def make_readable(root: Path) -> None:
    """Set the modes of all below a directory: readable by everybody, writable by the owner alone, no special bits."""
    for path in [root, *root.rglob("*")]:
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            path.chmod((mode & 0o700) | 0o444 | (0o111 if mode & 0o100 else 0))


def holds_ipykernel(root: Path) -> bool:
    """Return whether an environment has a kernel of Python's, which its zygote imports."""
    return any(root.glob("opt/venv/lib/python3.*/site-packages/ipykernel"))


def _import_once(root: Path, name: str, report: Report) -> None:
    """Import the image's modules inside, which shows that they work, and archive them for the zygote.

    matplotlib makes its list of fonts then.
    """
    report(Progress("try it", "import its modules in a sandbox"))
    skeleton = root / "opt/kernel-sandbox/home"
    modules = (*(["ipykernel.kernelapp"] if holds_ipykernel(root) else []), *label_words(name, "preload"))
    home, written = "/opt/kernel-sandbox/home", "/opt/kernel-sandbox/home/.modules"
    command = [PYTHON, "-I", "-c", ARCHIVER.read_text(), written, *modules]
    command = sealed(root, command, writable={home: skeleton}, variables={"HOME": home, "MPLBACKEND": "agg"})
    run(command, "The new environment does not work in a sandbox")
    (skeleton / ".modules").rename(root / "opt/kernel-sandbox/modules")
    make_readable(root / "opt/kernel-sandbox")
