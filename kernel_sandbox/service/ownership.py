"""Whose session an identifier means: an Address, and the pool's key for it. Pure.

Two identities may use one identifier without seeing each other, for the key names both. Nothing here is ever logged:
an identifier may be a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.identity import Forbidden, Identity, require
from kernel_sandbox.text.characters import hides

LONGEST_IDENTIFIER = 256


class InvalidIdentifier(SandboxError):
    """What was given cannot be a session's identifier."""


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """One session of one owner. Of what a client names, `address_of` and `address_for_admin` make one, and check."""

    owner: str
    """The name of the identity that the session belongs to."""
    identifier: str

    @property
    def key(self) -> str:
        """What the pool calls it. The length keeps ("a:b", "c") apart from ("a", "b:c")."""
        return f"{len(self.owner)}:{self.owner}:{self.identifier}"

    @classmethod
    def from_key(cls, key: str) -> Self:
        """Read a pool's key back."""
        length, _, rest = key.partition(":")
        return cls(rest[: int(length)], rest[int(length) + 1 :])


@dataclass(frozen=True, slots=True, repr=False)
class Reach:
    """All sessions that somebody may know of. Only `reach_of` and `reach_of_admin` make one, and they check."""

    identity: Identity
    owner: str | None
    """Whose they are; None for everybody's."""

    def holds(self, address: Address) -> bool:
        """Whether a session is one of them."""
        return self.owner in (None, address.owner) and self.identity.may_use(address.identifier)

    def require_all(self) -> None:
        """Raise Forbidden unless it is the whole service: for what tells of all sessions together."""
        if self.owner is not None or self.identity.is_scoped:
            raise Forbidden("This tells of all sessions together: it needs an admin's key without prefixes.")


def check_identifier(identifier: str) -> str:
    """Give an identifier back, if it can be one: 1 to 256 characters, each of them to be seen.

    Raises InvalidIdentifier, which does not repeat it.
    """
    if not 1 <= len(identifier) <= LONGEST_IDENTIFIER:
        raise InvalidIdentifier(f"A session's identifier has 1 to {LONGEST_IDENTIFIER} characters.")
    if not identifier.isprintable() or hides(identifier):  # two that look alike would be one to whoever shuts them down
        raise InvalidIdentifier("A session's identifier holds nothing that is not seen, and no spaces but plain ones.")
    if identifier in (".", ".."):  # RFC 3986, section 5.2.4: clients take these out of a path, encoded or not
        raise InvalidIdentifier("A session's identifier is not '.' or '..': clients take these out of addresses.")
    return identifier


def address_of(identity: Identity, identifier: str) -> Address:
    """Name an identity's own session. Raises InvalidIdentifier, and Forbidden for one outside its scope."""
    return _address(reach_of(identity), identity.name, identifier)


def address_for_admin(identity: Identity, owner: str, identifier: str) -> Address:
    """Name anyone's session. Raises Forbidden for who is no admin, and for one outside its scope."""
    return _address(reach_of_admin(identity), owner, identifier)


def reach_of(identity: Identity) -> Reach:
    """Name all sessions of an identity's own that its key may use. Raises Forbidden."""
    require(identity, "executor")
    return Reach(identity, identity.name)


def reach_of_admin(identity: Identity) -> Reach:
    """Name all sessions, whoever owns them, that an admin's key may use. Raises Forbidden."""
    require(identity, "admin")
    return Reach(identity, None)


def _address(reach: Reach, owner: str, identifier: str) -> Address:
    address = Address(owner, check_identifier(identifier))
    if not reach.holds(address):
        # Told from the identifier alone: it says nothing about whether there is such a session.
        raise Forbidden("This key may not use that identifier: ask for a key with its prefix.")
    return address
