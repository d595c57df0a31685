"""Who sends a request: an API key, a token of an identity provider, or, on loopback without either, anybody.

The HTTP routes and the MCP server ask `Authenticator.identify`. What the answer allows is in identity.py.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NoReturn

from kernel_sandbox.service.identity import Identity, Unauthenticated
from kernel_sandbox.service.keys import is_valid, parse_key
from kernel_sandbox.service.logs import log_event
from kernel_sandbox.service.oidc import InvalidToken, TokenVerifier
from kernel_sandbox.service.settings import ServerSettings, SettingsError
from kernel_sandbox.service.storage import Store

ANONYMOUS = Identity("anonymous", frozenset({"executor", "admin"}))
"""Everybody, where a server serves this machine only and asks nobody who they are."""
_CHALLENGE = 'Bearer realm="kernel-sandbox"'


class Authenticator:
    """Finds out who sends a request. `async with` opens it.

    With `keys = "auto"` the first key that is made, at the start or at any time after it, ends that everybody is let
    in: until then each request looks for one.
    """

    def __init__(self, settings: ServerSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._takes_keys = False
        self._tokens: TokenVerifier | None = None

    async def __aenter__(self) -> Authenticator:
        """Decide what is asked for. Raises SettingsError where everybody in the network would be let in."""
        settings = self._settings
        self._takes_keys = settings.keys == "on"
        await self._look_for_keys()
        self._tokens = TokenVerifier(settings.oidc) if settings.oidc else None
        if not settings.is_loopback and self.modes == ("open",):
            raise SettingsError(
                f"host = {settings.host!r} lets others in, and there are no keys yet. Make one first: "
                "kernel-sandbox keys create NAME; or set oidc.issuer, or host to 127.0.0.1."
            )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._tokens is not None:
            await self._tokens.aclose()

    async def _look_for_keys(self) -> None:
        """Take keys from the first one on. Revoking the last lets nobody in again."""
        if self._settings.keys == "auto" and not self._takes_keys and await self._store.has_keys():
            self._takes_keys = True
            log_event("keys are asked for")

    @property
    def modes(self) -> tuple[str, ...]:
        """What is accepted: "keys", "oidc", or "open" for anything."""
        accepted = [name for name, on in (("keys", self._takes_keys), ("oidc", self._tokens is not None)) if on]
        return tuple(accepted) or ("open",)

    async def identify(self, authorization: str | None, api_key: str | None) -> Identity:
        """Find out who sends a request, from the values of Authorization and of x-api-key or x-ms-apikey.

        Raises Unauthenticated; AuthenticationUnavailable or StorageError where that cannot be found out now.
        """
        await self._look_for_keys()
        if self.modes == ("open",):
            return ANONYMOUS
        scheme, _, token = (authorization or "").partition(" ")
        credential = api_key or (token.strip() if scheme.lower() == "bearer" else "")
        if not credential:
            raise Unauthenticated(f"Say who you are: {self._accepted}.", challenge=_CHALLENGE)
        if self._takes_keys and (parts := parse_key(credential)):
            return await self._key_identity(*parts)
        if self._tokens is not None and not api_key:
            return await self._token_identity(self._tokens, credential)
        _refuse(f"This is no key of the right form. Send {self._accepted}.")

    @property
    def _accepted(self) -> str:
        texts = {"keys": "an API key, as x-api-key or a bearer token", "oidc": "a bearer token of the provider"}
        return ", or ".join(text for name, text in texts.items() if name in self.modes)

    async def _key_identity(self, id: str, secret: str) -> Identity:
        now = datetime.now(UTC)
        record = await self._store.find_key(id)
        if not is_valid(record, secret, now) or record is None:
            _refuse("The API key is not known, has expired, or was revoked.")
        if record.needs_touch(now):
            await self._store.touch_key(id, now)
        return record.identity

    async def _token_identity(self, tokens: TokenVerifier, token: str) -> Identity:
        try:
            return await tokens.identify(token)
        except InvalidToken as exc:
            _refuse(str(exc))


def _refuse(reason: str) -> NoReturn:
    """Raise Unauthenticated, with the reason in the header too (RFC 6750, section 3.1)."""
    plain = reason.replace('"', "'")
    challenge = f'{_CHALLENGE}, error="invalid_token", error_description="{plain}"'
    raise Unauthenticated(reason, challenge=challenge) from None
