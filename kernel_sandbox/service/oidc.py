"""Bearer tokens of an OpenID provider: JSON Web Tokens (RFC 7519), judged by the provider's public keys (RFC 8725).

`authenticator` asks `TokenVerifier`. The keys come through discovery.py; a provider that is slow, silent or hostile
costs a bounded time and a bounded memory, and is never a reason to let somebody in.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.discovery import ProviderError, fetch_keys
from kernel_sandbox.service.identity import AuthenticationUnavailable, Identity, Role
from kernel_sandbox.service.settings import OidcSettings
from kernel_sandbox.text.characters import hides

ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
"""A key's type to the one algorithm that it is used with. What a token's header asks for is never followed (RFC 8725,
section 3.1): no "none", and no HMAC with a public key for its secret."""
MAX_TOKEN_LENGTH = 16_384
MAX_SUBJECT_LENGTH = 255
"""OpenID Connect Core 1.0, section 2."""
MAX_KEYS = 64
MAX_NUMBER_LENGTH = 1400
"""Of a key's modulus, in base64: RSA with 8192 bits."""
LEEWAY_SECONDS = 30
"""How far the provider's clock may be from ours."""
FRESH_SECONDS = 600.0
"""After it the keys are asked for again, beside the requests; so long may a withdrawn key live on."""
KEPT_SECONDS = 3600.0
"""After it, keys that could not be asked for again open nothing."""
RETRY_SECONDS = 10.0
"""At least so much time lies between two questions to the provider, whatever tokens come."""


class InvalidToken(SandboxError):
    """A token that opens nothing; the text says why, and may be told to whoever sent it."""


class TokenVerifier:
    """Finds out from a bearer token who sends it. Holds the provider's keys, and asks for new ones in bounds."""

    def __init__(self, settings: OidcSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched = self._asked = -math.inf
        """When the keys came, and when the provider was asked last, by the clock."""
        self._fetching: asyncio.Task[None] | None = None
        self.problem: str | None = None
        """What was wrong when the provider was asked last."""

    async def identify(self, token: str) -> Identity:
        """Return who a token is of.

        Raises InvalidToken, or AuthenticationUnavailable where the provider's keys cannot be had.
        """
        algorithm, name = _read_header(token)
        key = await self._key(name)
        if key is None or key.algorithm_name != algorithm:
            raise InvalidToken("The token is not signed with a key of the provider.")
        return self._identity(self._claims(token, key))

    async def aclose(self) -> None:
        """Give up a question to the provider that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _key(self, name: str | None) -> jwt.PyJWK | None:
        """Return the key of that name. A name that is not known may be that of a new key, which is worth a question."""
        age = self._clock() - self._fetched
        if age >= KEPT_SECONDS or not self._has(name):
            await self._ask()
            age = self._clock() - self._fetched
        elif age >= FRESH_SECONDS:
            self._start_asking()
        # Where the provider did not answer, a name that is not known is perhaps that of a good key.
        if age >= KEPT_SECONDS or (self.problem and not self._has(name)):
            raise AuthenticationUnavailable(
                "Tokens cannot be checked now, since the identity provider does not answer. Try again later.",
                retry_after=int(RETRY_SECONDS),
            )
        if name is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(name)

    def _has(self, name: str | None) -> bool:
        return bool(self._keys) if name is None else name in self._keys

    async def _ask(self) -> None:
        """Ask the provider, unless it was asked just now; wait for a question that is under way."""
        task = self._start_asking()
        if task is not None:
            await asyncio.wait([task])

    def _start_asking(self) -> asyncio.Task[None] | None:
        if self._fetching is None and self._clock() - self._asked >= RETRY_SECONDS:
            self._asked = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            found = await fetch_keys(self._settings.issuer)
            # They replace the old ones whole: a key that the provider has withdrawn opens nothing any more.
            self._keys = read_keys(found)
            self._fetched, self.problem = self._clock(), None
        except ProviderError as exc:
            self.problem = str(exc)
        finally:
            self._fetching = None

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        required = ["exp", "iss", "aud", "sub"]
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": required, "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as exc:
            raise InvalidToken(_reason(exc)) from exc
        except (ValueError, TypeError, RecursionError) as exc:  # a signed payload that is no JSON object of its kind
            raise InvalidToken("The token cannot be read.") from exc

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = claims["sub"]
        if not 0 < len(subject) <= MAX_SUBJECT_LENGTH or not subject.isprintable() or hides(subject):
            raise InvalidToken("The token's subject is empty, too long, or not printable.")
        held = _texts(_claim(claims, self._settings.role_claim))
        values: dict[Role, str] = {"executor": self._settings.executor_role, "admin": self._settings.admin_role}
        roles = frozenset(role for role, value in values.items() if value in held)
        return Identity(f"oidc:{self._settings.issuer} {subject}", roles)


def read_keys(found: list[Any]) -> dict[str | None, jwt.PyJWK]:
    """Make verification keys of a provider's JWKs, by their names; others than RSA and P-256 are passed over.

    Raises ProviderError where there are too many, or none that can be used.
    """
    if len(found) > MAX_KEYS:
        raise ProviderError(f"It has {len(found)} keys; at most {MAX_KEYS} are read.")
    keys: dict[str | None, jwt.PyJWK] = {}
    for entry in found:
        if (key := _read_key(entry)) is not None:
            keys.setdefault(entry.get("kid"), key)
    if not keys:
        raise ProviderError("It has no keys for RS256 or ES256.")
    return keys


def _read_key(entry: Any) -> jwt.PyJWK | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str | None):
        return None
    algorithm = ALGORITHMS.get(str(entry.get("kty")))
    public = {name: value for name, value in entry.items() if name in _PUBLIC}
    fits = entry.get("use", "sig") == "sig" and entry.get("alg", algorithm) == algorithm
    if algorithm is None or not fits or (algorithm == "ES256" and entry.get("crv") != "P-256"):
        return None
    if any(not isinstance(value, str) or len(value) > MAX_NUMBER_LENGTH for value in public.values()):
        return None
    try:
        return jwt.PyJWK(public, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


_PUBLIC = ("kty", "n", "e", "crv", "x", "y")


def _read_header(token: str) -> tuple[str, str | None]:
    """Return a token's algorithm and the name of its key: of use to choose a key, and believed in nothing."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidToken("The token is too long.")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as exc:
        raise InvalidToken("This is neither an API key nor a JSON Web Token.") from exc
    algorithm, name = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS.values():
        raise InvalidToken(f"Tokens are signed with {' or '.join(ALGORITHMS.values())}.")
    # RFC 7515, section 4.1.11: what must be understood, and is not, refuses the token. We understand none of it.
    if "crit" in header or "b64" in header or not isinstance(name, str | None):
        raise InvalidToken("The token's header is not understood.")
    return algorithm, name


_REASONS: tuple[tuple[type[jwt.PyJWTError], str], ...] = (
    (jwt.ExpiredSignatureError, "The token has expired."),
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.InvalidAudienceError, "The token is for another audience."),
    (jwt.InvalidIssuerError, "The token is of another issuer."),
    (jwt.MissingRequiredClaimError, "The token lacks one of exp, iss, aud and sub."),
    (jwt.InvalidSignatureError, "The token's signature is wrong."),
)


def _reason(error: jwt.PyJWTError) -> str:
    return next((text for kind, text in _REASONS if isinstance(error, kind)), "The token cannot be read.")


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name, which may hold dots (a URL), or by its path, as in "realm_access.roles"."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _texts(value: Any) -> set[str]:
    if isinstance(value, str):
        return set(value.split())
    return {text for text in value if isinstance(text, str)} if isinstance(value, list) else set()
