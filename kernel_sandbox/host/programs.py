"""Programs of this machine: where those that we start are found, and the environment that they get.

A search path may have entries that mean the working directory ("", ".", "bin"). Whoever filled that directory would
choose what runs in place of `bwrap`, say, which makes the sandbox. So only absolute entries count. Starts nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

SEARCH_PATHS = (
    *("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "PERL5LIB", "JUPYTER_PATH", "JUPYTER_CONFIG_PATH"),
    *("XDG_CONFIG_DIRS", "XDG_DATA_DIRS"),
)
"""Lists of directories from which programs, libraries, modules, templates and settings are taken."""
PLACES = (
    *("PYTHONHOME", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX", "PYTHONSTARTUP", "PIP_CONFIG_FILE", "BASH_ENV", "ENV"),
    *(
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
        "DOCKER_CONFIG",
        "DOCKER_CERT_PATH",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "OPENSSL_CONF", "NETRC"),
    *("OPENSSL_MODULES", "OPENSSL_ENGINES", "GCONV_PATH", "LOCPATH", "INPUTRC", "TERMINFO"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"),
)
"""Single files and directories of the same kind; of the certificates it depends who may get data and keys."""
PRELOADS = ("LD_PRELOAD", "LD_AUDIT")
"""Lists of libraries that every program loads; a bare name is looked for in the system's places (ld.so(8))."""


def search_path(variable: str = "PATH", environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the entries of a search path that are the same in each working directory."""
    entries = environ.get(variable, os.defpath if variable == "PATH" else "").split(os.pathsep)
    return [entry for entry in entries if Path(entry).is_absolute()]


def find(name: str, path: str | None = None) -> str | None:
    """Return where a program is, on PATH unless told; None where there is none."""
    return shutil.which(name, path=path or os.pathsep.join(search_path()) or os.devnull)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment for a program: ours, without what means another thing in each directory, and changed."""
    return without_relative(os.environ) | changes


def without_relative(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without relative entries of search paths and relative places."""
    clean = dict(environ)
    for variable in SEARCH_PATHS:
        if variable in clean:
            clean[variable] = os.pathsep.join(search_path(variable, environ))
            if not clean[variable]:
                del clean[variable]
    for variable in PLACES:
        if not Path(clean.get(variable, "/")).is_absolute():
            del clean[variable]
    for variable in PRELOADS:
        libraries = clean.get(variable, "").replace(":", " ").split()
        kept = [name for name in libraries if name.startswith("/") or "/" not in name]
        if kept != libraries:
            clean[variable] = ":".join(kept)
            if not kept:
                del clean[variable]
    clean.setdefault("PATH", os.defpath)
    return clean


def clean_up() -> None:
    """Give this process such an environment, for what other libraries start (docker-py its credential helpers)."""
    _left_out[:] = relative_entries()
    clean = environment()
    for name in os.environ.keys() - clean.keys():
        del os.environ[name]
    os.environ.update(clean)


def relative_entries() -> list[str]:
    """Return the variables that meant another thing in each directory when this process began."""
    clean = without_relative(os.environ)
    given = {name: os.environ[name] for name in (*SEARCH_PATHS, *PLACES, *PRELOADS) if os.environ.get(name)}
    return _left_out or [name for name, value in given.items() if value != clean.get(name)]


_left_out: list[str] = []
