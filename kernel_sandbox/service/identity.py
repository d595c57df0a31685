"""Who somebody is, and what that allows: values, without I/O.

`authenticator` finds out who sends a request; keys and tokens become an `Identity`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, get_args
from urllib.parse import urlsplit

from kernel_sandbox.errors import SandboxError

Role = Literal["executor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


class Unauthenticated(SandboxError):
    """Nobody says who they are, or says it wrongly: HTTP 401."""

    def __init__(self, message: str, *, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge
        """The value of WWW-Authenticate (RFC 6750, section 3)."""


class Forbidden(SandboxError):
    """They are known, and may not do this: HTTP 403."""


class AuthenticationUnavailable(SandboxError):
    """Nobody can be told apart now, since the identity provider does not answer: HTTP 503."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds, for the header of that name."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request comes from. Holds no secret, and may be logged."""

    name: str
    """The owner of what it makes: "anonymous", "key:NAME", or "oidc:ISSUER SUBJECT"."""
    roles: frozenset[Role]
    """"executor" uses sessions of its own; "admin" sees and shuts down everybody's. Neither implies the other."""
    prefixes: tuple[str, ...] = ()
    """What session identifiers must begin with; with `identifiers` empty too, they are free."""
    identifiers: tuple[str, ...] = ()
    """Session identifiers that are allowed as they are."""

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    def may_use(self, identifier: str) -> bool:
        """Whether the identity may name a session so."""
        free = not self.prefixes and not self.identifiers
        return free or identifier in self.identifiers or identifier.startswith(self.prefixes)

    @property
    def is_scoped(self) -> bool:
        """Whether there are identifiers that it may not use."""
        return bool(self.prefixes or self.identifiers)

    def prefixed(self, identifier: str) -> str:
        """Begin an identifier that the service makes up as those of the identity must."""
        return f"{self.prefixes[0]}{identifier}" if self.prefixes else identifier


def require(identity: Identity, role: Role) -> None:
    """Raise Forbidden unless the identity has the role."""
    if role not in identity.roles:
        raise Forbidden(f"This needs the role {role!r}, which {identity.name} does not have.")


def is_local_request(host: str | None, origin: str | None) -> bool:
    """Whether the headers Host and Origin are those of a program of this machine, or of the server's own page.

    A server that takes everybody must ask this: a web page in a browser on this machine reaches loopback too. It
    sends its own site as Origin, and with DNS rebinding also as Host.
    """
    with contextlib.suppress(ValueError):
        if host is not None and is_loopback(urlsplit(f"//{host}").hostname or ""):
            return origin is None or urlsplit(origin).netloc == host
    return False


def is_own_site(site: str | None) -> bool:
    """Whether Sec-Fetch-Site is that of a program, of the server's own page, or of an address that a person typed.

    A browser sends no Origin with a page's plain GETs (pictures, scripts, links); this it sends with each request to
    loopback. "same-site" is another port of this machine, and so another program's page. See
    https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header.
    """
    return site in (None, "same-origin", "none")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine and nobody else's; a name that must be resolved is not."""
    try:
        return host.lower() == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_trustworthy(url: str) -> bool:
    """Whether what is fetched from there is what its host sent: over https, or from this machine."""
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    except ValueError:
        return False
