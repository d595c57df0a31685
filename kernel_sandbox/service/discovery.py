"""The documents of an OpenID provider, over the network: its description and its public keys, bounded in size and time.

OpenID Connect Discovery 1.0, section 4; RFC 7517. oidc.py makes keys of what comes, and decides when to ask again.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from kernel_sandbox.errors import SandboxError
from kernel_sandbox.service.identity import is_trustworthy

CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 3.0, 5.0, 10.0
MAX_DOCUMENT_BYTES = 256 * 1024
"""A description has about 2 KB, and a set of ten keys about 5."""


class ProviderError(SandboxError):
    """The provider does not answer, or not with what it should."""


async def fetch_keys(issuer: str) -> list[Any]:
    """Fetch a provider's public keys (JWKs), not checked in any way. Raises ProviderError."""
    limits = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        # No redirects: what the issuer names is asked, and nobody else.
        async with asyncio.timeout(TOTAL_SECONDS), httpx.AsyncClient(timeout=limits, follow_redirects=False) as client:
            description = await _fetch(client, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            place = description.get("jwks_uri")
            # Section 4.3: another issuer's description is not this one's.
            if description.get("issuer") != issuer or not isinstance(place, str):
                raise ProviderError("Its description is of another issuer, or names no keys.")
            if not is_trustworthy(place):
                raise ProviderError("Its keys are not served over https.")
            keys = (await _fetch(client, place)).get("keys")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError) as exc:
        raise ProviderError(f"It does not answer ({type(exc).__name__}).") from exc
    if not isinstance(keys, list):
        raise ProviderError("Its answer is no set of keys.")
    return keys


async def _fetch(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    # Not compressed: a small answer could unfold to a large one.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with client.stream("GET", url, headers=headers) as response:
        if response.status_code != httpx.codes.OK:
            raise ProviderError(f"It answers with status {response.status_code}.")
        content = bytearray()
        async for chunk in response.aiter_raw(16_384):
            content += chunk
            if len(content) > MAX_DOCUMENT_BYTES:
                raise ProviderError(f"Its answer has more than {MAX_DOCUMENT_BYTES} bytes.")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise ProviderError("Its answer is not JSON.") from exc
    if not isinstance(document, dict):
        raise ProviderError("Its answer is no JSON object.")
    return document
