"""API keys: `ks_<id>_<secret>`, made, read and compared. Pure, apart from the system's randomness.

storage.py keeps their records, authenticator.py asks for them, `kernel-sandbox keys` makes and revokes them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from kernel_sandbox.errors import PolicyError
from kernel_sandbox.service.identity import ROLES, Identity, Role

ID_BYTES, SECRET_BYTES = 8, 32
_KEY = re.compile(rf"ks_([0-9a-f]{{{2 * ID_BYTES}}})_([0-9a-f]{{{2 * SECRET_BYTES}}})", re.ASCII)
_NAME = re.compile(r"[\w.@-]{1,100}", re.ASCII)
MAX_SCOPES = 100
MAX_SCOPE_LENGTH = 256
"""Characters; no session identifier is longer."""
TOUCH_INTERVAL = timedelta(minutes=1)
"""How exact `last_used` is: a busy key must not make a write of every request."""
NO_DIGEST = "0" * 64
"""Compared with where there is no record, so that both ways do the same work."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of a key. It does not hold the secret, and cannot give it back."""

    id: str
    name: str
    """Who uses it. Keys of one name are one identity: a new key can take over from an old one."""
    digest: str = field(repr=False)
    """SHA-256 of the secret, in hexadecimal. The secret has 256 random bits, which nobody can guess from the digest
    however fast the hash is; a slow one (scrypt, argon2) protects what people make up, and would cost each request
    its time, with or without a good key."""
    roles: frozenset[Role]
    created: datetime
    prefixes: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    expires: datetime | None = None
    last_used: datetime | None = None
    revoked: datetime | None = None

    def state(self, now: datetime) -> str:
        """Return "active", "revoked" or "expired"."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"

    @property
    def identity(self) -> Identity:
        return Identity(f"key:{self.name}", self.roles, self.prefixes, self.identifiers)

    def needs_touch(self, now: datetime) -> bool:
        """Whether `last_used` is to be written."""
        return self.last_used is None or now - self.last_used >= TOUCH_INTERVAL


def make_key(
    name: str,
    *,
    roles: Iterable[Role] = ("executor",),
    prefixes: Iterable[str] = (),
    identifiers: Iterable[str] = (),
    expires_in: timedelta | None = None,
) -> tuple[str, KeyRecord]:
    """Make a key: the text for whoever will use it, to be shown once, and the record to keep.

    Raises PolicyError for a name, role or scope that cannot be held.
    """
    now = datetime.now(UTC)
    identifier, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
    record = KeyRecord(identifier, name, digest(secret), frozenset(roles), now, tuple(prefixes), tuple(identifiers))
    _check(record)
    if expires_in is not None:
        record = replace(record, expires=_moment_after(now, expires_in))
    return f"ks_{identifier}_{secret}", record


def _check(record: KeyRecord) -> None:
    if not _NAME.fullmatch(record.name):
        raise PolicyError(f"{record.name!r} cannot be the name of a key: 1 to 100 of letters, digits and . _ - @ only.")
    if not record.roles or not record.roles <= set(ROLES):
        raise PolicyError(f"A key has one or more of the roles {', '.join(ROLES)}.")
    scopes = record.prefixes + record.identifiers
    if len(scopes) > MAX_SCOPES or not all(0 < len(scope) <= MAX_SCOPE_LENGTH for scope in scopes):
        raise PolicyError(
            f"A key has at most {MAX_SCOPES} prefixes and identifiers, of 1 to {MAX_SCOPE_LENGTH} characters."
        )


def _moment_after(now: datetime, duration: timedelta) -> datetime:
    try:
        if duration > timedelta(0):
            return now + duration
    except OverflowError:
        pass
    raise PolicyError("A key expires after a positive number of days, before the year 10000.")


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_key(text: str) -> tuple[str, str] | None:
    """Split a key into its id and its secret; None for what is no key."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


def is_valid(record: KeyRecord | None, secret: str, now: datetime) -> bool:
    """Whether a secret belongs to a record that is active now. The comparison takes the same time for any secret."""
    matches = hmac.compare_digest(record.digest if record else NO_DIGEST, digest(secret))
    return matches and record is not None and record.state(now) == "active"
