"""The files that programs look for by name, in a root directory for bubblewrap: /etc, locales, certificates, terminals.

Nothing here tells which machine made them: what is the system's own is the C library's and the terminals' data.
"""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

from kernel_sandbox.inside.accounts import account_files
from kernel_sandbox.sandbox.engines.image_names import common

TERMINALS = "ansi dumb linux screen screen-256color tmux tmux-256color vt100 vt220 xterm xterm-256color xterm-color"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_ETC = {
    "hostname": "sandbox\n",
    "resolv.conf": "",
    "os-release": 'PRETTY_NAME="Linux"\nNAME="Linux"\nID=linux\n',
    "shells": "/bin/sh\n/bin/bash\n",
    "timezone": "Etc/UTC\n",
}


def make_etc(root: Path) -> None:
    """Write the files that every sandbox has alike; the engine shows its own user and hosts over three of them."""
    for path in sorted((common() / "etc").iterdir()):
        shutil.copyfile(path, root / "etc" / path.name)
    for name, text in (account_files(65534) | _ETC).items():
        (root / "etc" / name).write_text(text)
    (root / "etc/mtab").symlink_to("/proc/self/mounts")
    (root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (root / "usr/share").mkdir(parents=True, exist_ok=True)


def copy_system_data(root: Path, libc: Path) -> None:
    """Copy what the C library, perl, file and full-screen programs read at run time, as far as this machine has it."""
    places = [Path("/usr/lib/locale/C.utf8"), Path("/usr/share/misc/magic.mgc")]
    below = libc.parent.relative_to("/usr" if libc.is_relative_to("/usr") else "/")  # /lib leads to /usr/lib
    places += [Path("/usr", below, name) for name in ("gconv", "perl-base")]
    for place in places:
        target = root / place.relative_to("/")
        if target.exists():
            continue
        if place.is_dir():
            shutil.copytree(place, target, symlinks=False)
        elif place.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, target)
    for terminal in TERMINALS.split():
        _copy_terminal(root, f"{terminal[0]}/{terminal}")


def _copy_terminal(root: Path, name: str) -> None:
    for place in ("/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo", "/etc/terminfo"):
        if Path(place, name).is_file():
            target = root / "usr/share/terminfo" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(place, name), target)
            return


def link_time_zones(root: Path, site: Path) -> None:
    """Link the time zones of the package tzdata to where the C library looks for them."""
    inside, zones = Path("/", site.relative_to(root), "tzdata/zoneinfo"), root / "usr/share/zoneinfo"
    if not zones.exists():  # as Debian's package has it
        zones.symlink_to(inside)


def link_certificates(root: Path) -> None:
    """Link the certificates to where this Python's OpenSSL looks for them."""
    looked = ssl.get_default_verify_paths()
    for place, target in ((looked.openssl_cafile, f"/{CERTIFICATES}"), (looked.openssl_capath, "/etc/ssl/certs")):
        link = root / place.lstrip("/")
        if place.startswith(("/etc/", "/usr/")) and not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
