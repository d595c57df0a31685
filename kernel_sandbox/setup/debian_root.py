"""A Debian root file system as a base image, for an engine that reaches no registry: debootstrap, then an import.

The mirror is the one that this machine's apt uses. The image builder calls `ensure`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel_sandbox.errors import EngineError, ImageNotFound
from kernel_sandbox.host import directories, programs
from kernel_sandbox.sandbox.engines.docker_client import translated_errors
from kernel_sandbox.setup.progress import Progress, Report
from kernel_sandbox.text.amounts import format_size

if TYPE_CHECKING:
    import docker

SUITE = "bookworm"
"""Debian 12: its Python is 3.11, as in the official slim image, so one lock serves both."""
TOOLS = (
    *("procps", "zip", "unzip", "less", "xz-utils", "bzip2", "file", "bc", "xxd", "bsdextrautils", "time"),
    *("sqlite3", "jq"),
    *("libnss-extrausers", "libgomp1"),
)
"""Debian's packages of commands that cells find, beside those that every Debian has; how a user gets a name; and a
library that lightgbm expects."""
PACKAGES = ",".join(("python3", "ca-certificates", *TOOLS))
REPOSITORY, TAG = "kernel-sandbox/base-debian", SUITE
PACKAGES_LABEL = "org.kernel-sandbox.packages"
"""By which a base with other packages is known to be out of date."""
REFERENCE = f"{REPOSITORY}:{TAG}"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The keys of Debian's archive. Without a keyring debootstrap would go on unverified, if it were not forced."""
STAGE = "make Debian root"
CHUNK = 4 * 1024 * 1024
SEAL = """
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
findmnt --raw --noheadings --output TARGET | while read -r place; do
    place=$(printf %b "$place")
    case $place in
        "$root") ;;
        /) mount -o remount,bind,ro / ;;
        *) mount -o remount,bind,ro "$place" 2>/dev/null || true ;;
    esac
done
cd "$root"
exec "$@"
"""
"""Makes all of this machine's files read-only but the new root, for what unpacks Debian's packages as root."""
DEBIAN_SUITES = {"oldoldstable", "oldstable", "stable", "testing", "unstable", "sid"} | {
    *("buster", "bullseye", "bookworm", "trixie", "forky", "duke")
}
"""A mirror that serves one of these serves bookworm too."""
LEFT_OUT = (
    *("./dev/*", "./proc/*", "./sys/*", "./run/*", "./tmp/*", "./debootstrap"),
    *("./var/cache/*/*", "./var/lib/apt/lists/*", "./var/log/*"),
    *("./usr/share/man/*", "./usr/share/info/*", "./usr/share/locale/*", "./usr/share/lintian"),
    # debootstrap copies these from the host, and writes the mirror's address, which may hold a password.
    *("./etc/resolv.conf", "./etc/hostname", "./etc/apt/sources.list"),
)


def ensure(client: docker.DockerClient, report: Report) -> str:
    """Return the reference of the Debian base image, made now if the engine does not have it with these packages.

    Raises EngineError when this machine cannot make it; the message names the one step that helps.
    """
    with contextlib.suppress(ImageNotFound), translated_errors():
        if client.images.get(REFERENCE).labels.get(PACKAGES_LABEL) == PACKAGES:
            report(Progress(STAGE, f"{REFERENCE} is there"))
            return REFERENCE
    _check_host(client)
    with _scratch_directory() as root:
        _debootstrap(root, debian_mirror(), report)
        _strip_documentation(root)
        _import(client, root, report)
    return REFERENCE


def _check_host(client: docker.DockerClient) -> None:
    if os.geteuid() != 0:
        raise EngineError("A Debian base needs root to be made (debootstrap). Run the same command with sudo -E.")
    if programs.find("debootstrap") is None:
        raise EngineError("debootstrap is missing. Get it with: apt-get install -y debootstrap")
    if not KEYRING.is_file():
        raise EngineError(
            f"{KEYRING} is missing, and without it Debian's packages cannot be verified. "
            "Get it with: apt-get install -y debian-archive-keyring"
        )
    with translated_errors():
        theirs = str(client.version()["Arch"])
    ours = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    if ours != theirs:
        raise EngineError(
            f"This machine is {ours} and the engine's {theirs}: make the image there, or use --base python."
        )


@contextlib.contextmanager
def _scratch_directory() -> Iterator[Path]:
    """Give a private directory that is gone afterwards, however the block ends."""
    # /tmp is often a tmpfs mounted nodev or noexec, where debootstrap refuses to work.
    place = directories.given("TMPDIR") or "/var/tmp"
    with tempfile.TemporaryDirectory(prefix="kernel-sandbox-debian-", dir=place) as directory:
        root = Path(directory) / "root"
        root.mkdir(mode=0o755)
        yield root.resolve()


def _debootstrap(root: Path, mirror: str | None, report: Report) -> None:
    report(Progress(STAGE, f"debootstrap {SUITE} from {_without_password(mirror or 'its default mirror')}"))
    last: deque[str] = deque(maxlen=12)
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(_command(root, mirror), **pipes, text=True, env=programs.environment()) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(_without_password(line.rstrip()))
                report(Progress(STAGE, last[-1].removeprefix("I: "), done=0))
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise EngineError("debootstrap could not make a Debian root:\n" + "\n".join(last))


def _command(root: Path, mirror: str | None) -> list[str]:
    # debootstrap mounts /proc and /sys inside the root. In namespaces of its own, an end by force takes the mounts
    # and every process along, and the directory can be removed.
    command = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-ec", SEAL, "sh", str(root)]
    command += ["debootstrap", "--variant=minbase", "--force-check-gpg", f"--keyring={KEYRING}"]
    command += [f"--include={PACKAGES}", SUITE, str(root)]
    return command + ([mirror] if mirror else [])


def _end(unshare: subprocess.Popen[str]) -> None:
    """Kill debootstrap and all below it, and wait until nothing of them is left.

    unshare waits for its child, the init of the new pid namespace, which the kernel reports as ended only after
    every other process in it has (pid_namespaces(7)).
    """
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        if not children:
            unshare.kill()
    unshare.wait()


def _without_password(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://", text)


def _strip_documentation(root: Path) -> None:
    """Remove what Debian's packages document of themselves, but not their licenses."""
    documents = root / "usr/share/doc"
    if documents.resolve() != documents:  # a link would lead out of the root
        return
    for path in documents.rglob("*"):
        if path.name != "copyright" and (path.is_symlink() or path.is_file()):
            path.unlink()


def _import(client: docker.DockerClient, root: Path, report: Report) -> None:
    with contextlib.closing(_tar(root, report)) as archive, translated_errors():
        label = f'LABEL {PACKAGES_LABEL}="{PACKAGES}"'
        answer = client.api.import_image_from_data(archive, repository=REPOSITORY, tag=TAG, changes=[label])
    # The engine answers 200 before it has read the archive; what went wrong later stands in the answer's lines.
    for line in str(answer).splitlines():
        if problem := json.loads(line).get("error"):
            raise EngineError(f"Docker could not import the Debian root: {problem}")


def _tar(root: Path, report: Report) -> Generator[bytes]:
    """Yield the root as a tar archive, without set-user-id bits. Raises EngineError when tar fails."""
    command = ["tar", "--create", "--one-file-system", "--numeric-owner", "--mode=a-s", f"--directory={root}"]
    command += ["--anchored", *(f"--exclude={pattern}" for pattern in LEFT_OUT), "."]
    sent = 0
    environment = programs.environment()
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment) as tar,
    ):
        assert tar.stdout is not None
        while chunk := tar.stdout.read(CHUNK):
            yield chunk
            sent += len(chunk)
            report(Progress(STAGE, f"import into the engine, {format_size(sent)}", sent))
        if tar.wait():
            log.seek(0)
            raise EngineError(f"tar could not read the Debian root: {log.read().decode(errors='replace').strip()}")


@dataclass(frozen=True, slots=True)
class AptSource:
    """One archive that apt knows: one URI and one suite of an entry."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: str
    """What stands beside it: the text of a stanza, or of a line's brackets."""


def debian_mirror(apt: Path = Path("/etc/apt")) -> str | None:
    """Find the Debian mirror that this machine's apt uses, or None if it uses none (on Ubuntu, for one)."""
    sources = [source for path in _apt_files(apt) for source in parse_sources(path.read_text(), path.suffix)]
    return next((source.uri for source in sources if _is_debian(source, sources)), None)


def _apt_files(apt: Path) -> list[Path]:
    """List apt's source files in the order of sources.list(5)."""
    parts = sorted(path for path in apt.glob("sources.list.d/*") if path.suffix in (".list", ".sources"))
    return [path for path in [apt / "sources.list", *parts] if path.is_file()]


def _is_debian(source: AptSource, sources: list[AptSource]) -> bool:
    """Whether a source is Debian's own archive or a mirror of it; vendors name Debian's suites for theirs, too."""
    if source.suite not in DEBIAN_SUITES or "main" not in source.components:
        return False
    updated = any(other.uri == source.uri and other.suite == f"{source.suite}-updates" for other in sources)
    by_debian = "debian-archive-keyring" in source.options
    named = source.uri.rstrip("/").endswith("/debian")
    # debootstrap reads no mirror lists (mirror+file:) and no discs.
    return source.uri.startswith(("http://", "https://", "file:")) and (updated or by_debian or named)


def parse_sources(text: str, suffix: str) -> list[AptSource]:
    """Read the binary-package entries of a source file of apt: deb822 for ".sources", else one-line style.

    sources.list(5) describes both. Entries that are switched off are left out.
    """
    if suffix == ".sources":
        return [source for stanza in re.split(r"\n\s*\n", text) for source in _parse_stanza(stanza)]
    lines = (re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)", line) for line in text.splitlines())
    return [AptSource(m[2], m[3], tuple(m[4].split()), m[1] or "") for m in lines if m]


def _parse_stanza(stanza: str) -> list[AptSource]:
    lines = [line for line in stanza.splitlines() if not line.startswith("#")]
    pairs = re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t].*)*)", "\n".join(lines), re.MULTILINE)
    fields = {name.lower(): value.split() for name, value in pairs}
    if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"])[0].lower() in ("no", "false", "0"):
        return []
    components = tuple(fields.get("components", ()))
    return [AptSource(uri, suite, components, stanza) for uri in fields.get("uris", []) for suite in fields["suites"]]
