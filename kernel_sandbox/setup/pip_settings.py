"""What the user has set for pip (PIP_* variables, pip.conf, proxies, certificates), for a pip that runs in a sandbox.

That pip sees no file of the host, so what its settings name is given along: local indexes and directories of wheels at
their own places, certificates and constraints as text. `fetch_sandbox.py` gives them.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kernel_sandbox.errors import EngineError
from kernel_sandbox.host import programs

SECTIONS = ("global", "install", ":env:")
"""In the order in which pip lets the later ones win."""
PASSED = (
    *("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy"),
    *("timeout", "default-timeout", "retries", "pre"),
)
"""What reaches the pip in the sandbox; everything else is about installing here."""
PLACES = ("index-url", "extra-index-url", "find-links")
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
RETRIES = {"retries": "1", "default-timeout": "30"}
"""Unless the user has set them: an index that is out of reach is told in seconds."""
MOST_CERTIFICATES = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class PipSettings:
    """For one run of pip in a sandbox."""

    variables: dict[str, str]
    """Of its environment."""
    places: tuple[Path, ...]
    """Directories of this machine that its settings name: they are to be seen there, read-only, at the same places."""
    constraints: str
    """Lines of constraint files."""
    certificates: bytes
    """A bundle of certificates, or nothing."""


def read_pip_settings() -> PipSettings:
    """Ask pip for its settings. Raises EngineError where this Python has none."""
    settings = RETRIES | dict(_listed())
    variables = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in settings.items() if name in PASSED}
    for name in PROXIES:
        variables |= {key: os.environ[key] for key in (name, name.upper()) if os.environ.get(key)}
    places = {place for name in PLACES for place in _local(settings.get(name, ""))}
    constraints = "".join(map(_pins, settings.get("constraint", "").split()))
    bundle = _certificates(settings.get("cert"))
    return PipSettings(variables, tuple(sorted(places)), constraints, bundle)


def _listed() -> Iterator[tuple[str, str]]:
    """Yield names and values, those that win last."""
    if importlib.util.find_spec("pip") is None:
        raise EngineError(
            "The packages of an image are downloaded as pip is set up here, and this Python has no pip. "
            f"Get it with: {sys.executable} -P -m ensurepip (or, in an environment that uv made: uv pip install pip)"
        )
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "config", "list"]
    told = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=programs.environment(), check=False
    )
    found = []
    for line in told.stdout.splitlines():
        section, _, rest = line.partition(".")
        name, equals, value = rest.partition("=")
        if equals and section in SECTIONS:
            found.append((SECTIONS.index(section), name, " ".join(str(ast.literal_eval(value)).split())))
    yield from ((name, value) for _, name, value in sorted(found))


def _local(values: str) -> Iterator[Path]:
    """Return the directories of this machine among addresses; a relative one means another place each time."""
    for value in values.split():
        parts = urlsplit(value)
        path = Path(unquote(parts.path)) if parts.scheme == "file" else Path(value)
        if path.is_absolute() and path.exists():
            # The files of an index lie beside the directory of its pages, as the pages say: ../../files/NAME.
            yield path.parent if path.name == "simple" else path


def _pins(path: str) -> str:
    """Return the lines of a constraint file that are about versions."""
    try:
        lines = Path(path).read_text().splitlines() if Path(path).is_absolute() else []
    except (OSError, ValueError):
        return ""
    return "".join(f"{line}\n" for line in lines if re.match(r"[A-Za-z0-9][\w.-]*\s*[=<>!~]", line))


def _certificates(named: str | None) -> bytes:
    candidates = [named, *map(os.environ.get, CERTIFICATES), ssl.get_default_verify_paths().cafile]
    for candidate in candidates:
        path = Path(candidate or "")
        if path.is_absolute() and path.is_file():
            return path.read_bytes()[:MOST_CERTIFICATES]
    return b""
