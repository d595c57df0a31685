"""Bearer tokens against a provider that runs: who is let in, who is not, and what a bad provider can do."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kernel_sandbox.service import discovery, oidc
from kernel_sandbox.service.identity import AuthenticationUnavailable, Identity
from kernel_sandbox.service.oidc import InvalidToken, TokenVerifier
from kernel_sandbox.service.settings import OidcSettings, SettingsError
from tests.service.provider import (
    AUDIENCE,
    Provider,
    claims_of,
    public_jwk,
    public_pem,
    rsa_key,
    running_provider,
    signed,
    signed_by_hand,
)

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def shared() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


def verifier(provider: Provider, clock: Clock | None = None, **changes: Any) -> TokenVerifier:
    return TokenVerifier(OidcSettings(provider.issuer, AUDIENCE, **changes), clock or Clock())


async def refusal(tokens: TokenVerifier, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await tokens.identify(token)
    return str(caught.value)


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand, as an attacker would."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


# Tokens


async def test_token_names_its_subject_and_roles(shared: Provider) -> None:
    identity = await verifier(shared).identify(shared.token(sub="user-1", roles=["executor", "other"]))
    assert identity == Identity(f"oidc:{shared.issuer} user-1", frozenset({"executor"}))


async def test_elliptic_key_is_accepted(provider: Provider) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    provider.keys.append(public_jwk("curve", key))
    identity = await verifier(provider).identify(provider.token(key, kid="curve", algorithm="ES256"))
    assert identity.name.endswith(" user-1")


@pytest.mark.parametrize(
    ("claim", "value", "expected"),
    [
        ("roles", ["executor", "admin"], {"executor", "admin"}),
        ("roles", "admin executor", {"executor", "admin"}),
        ("roles", ["Executor", "root"], set()),
        ("roles", None, set()),
        ("roles", {"executor": True}, set()),
        ("roles", [["executor"], 7, "admin"], {"admin"}),
        ("realm.access", {"executor": 1}, set()),
        ("https://example.com/roles", ["executor"], {"executor"}),
    ],
)
async def test_roles_come_from_the_claim(shared: Provider, claim: str, value: Any, expected: set[str]) -> None:
    tokens = verifier(shared, role_claim=claim)
    identity = await tokens.identify(shared.token(**{"roles": None, claim: value}))
    assert identity.roles == expected


async def test_role_names_and_nested_claim_can_be_chosen(shared: Provider) -> None:
    tokens = verifier(shared, role_claim="realm_access.roles", executor_role="Pool User", admin_role="ops")
    identity = await tokens.identify(shared.token(realm_access={"roles": ["Pool User"]}))
    assert identity.roles == {"executor"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "api://other"}, "another audience"),
        ({"aud": ["api://other", "api://third"]}, "another audience"),
        ({"aud": None}, "lacks one of"),
        ({"iss": "http://127.0.0.1:1"}, "another issuer"),
        ({"iss": None}, "lacks one of"),
        ({"sub": None}, "lacks one of"),
        ({"sub": ""}, "subject"),
        ({"sub": "x" * 256}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"exp": None}, "lacks one of"),
        ({"exp": int(time.time()) - 60}, "expired"),
        ({"exp": "soon"}, "cannot be read"),
        ({"nbf": int(time.time()) + 600}, "not valid yet"),
        ({"iat": int(time.time()) + 600}, "not valid yet"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_token_with_a_wrong_claim_is_refused(shared: Provider, changes: dict[str, Any], reason: str) -> None:
    assert reason in await refusal(verifier(shared), shared.token(**changes))


async def test_clocks_may_differ_a_little(shared: Provider) -> None:
    now = int(time.time())
    tokens = verifier(shared)
    assert await tokens.identify(shared.token(exp=now - 10))
    assert await tokens.identify(shared.token(nbf=now + 10, iat=now + 10))


async def test_unsigned_token_is_refused(shared: Provider) -> None:
    claims = claims_of(shared.token())
    algorithms: list[Any] = ["none", "None", "NONE", "", None, ["RS256"], {}]
    for algorithm in algorithms:
        token = forged({"alg": algorithm, "kid": "first", "typ": "JWT"}, claims)
        assert "signed with RS256 or ES256" in await refusal(verifier(shared), token), algorithm


async def test_public_key_is_no_secret_for_hmac(shared: Provider) -> None:
    claims = claims_of(shared.token())
    unsigned = forged({"alg": "HS256", "kid": "first", "typ": "JWT"}, claims)[:-1]
    for secret in (public_pem(shared.key), json.dumps(shared.keys[0]).encode()):
        signature = hmac.digest(secret, unsigned.encode(), hashlib.sha256)
        token = f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
        assert "signed with RS256 or ES256" in await refusal(verifier(shared), token)


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
async def test_other_algorithm_of_the_same_key_is_refused(shared: Provider, algorithm: str) -> None:
    assert "signed with" in await refusal(verifier(shared), shared.token(algorithm=algorithm))


async def test_algorithm_must_be_that_of_the_named_key(provider: Provider) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    provider.keys.append(public_jwk("curve", key))
    assert "not signed with a key" in await refusal(verifier(provider), provider.token(kid="curve"))


async def test_signature_of_another_key_is_refused(shared: Provider) -> None:
    assert "signature" in await refusal(verifier(shared), shared.token(rsa_key()))
    head, body, signature = shared.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    other = forged({}, {**claims, "roles": ["admin"]}).split(".")[1]
    assert "signature" in await refusal(verifier(shared), f"{head}.{other}.{signature}")


@pytest.mark.parametrize(
    "header", [{"crit": ["b64"]}, {"b64": True}, {"crit": ["exp"]}, {"kid": 7}, {"kid": ["first"]}]
)
async def test_header_that_is_not_understood_is_refused(shared: Provider, header: dict[str, Any]) -> None:
    good = {"alg": "RS256", "kid": "first"}
    claims = claims_of(shared.token())
    assert await verifier(shared).identify(signed_by_hand(good, claims, shared.key))
    assert await refusal(verifier(shared), signed_by_hand({**good, **header}, claims, shared.key))


@pytest.mark.parametrize(
    "text",
    ["", "x", "a.b.c", "....", "ks_0_0", "\x00", "é" * 9, "a" * 20_000, "e30.e30.e30", "W10.e30.", "[" * 9000],
)
async def test_what_is_no_token_is_refused_without_asking(provider: Provider, text: str) -> None:
    await refusal(verifier(provider), text)
    assert provider.asked == []


async def test_payload_that_is_no_object_is_refused(shared: Provider) -> None:
    for payload in (b"[[]]", b"7", b"null", b'"text"', b"", b"\xff", b"[" * 5000 + b"]" * 5000):
        await refusal(verifier(shared), signed(payload, shared.key, "RS256", {"kid": "first"}))


async def test_key_withdrawn_or_not_for_signatures_is_passed_over(provider: Provider) -> None:
    small = rsa_key(1024)
    other = rsa_key()
    provider.keys += [
        public_jwk("encrypts", other) | {"use": "enc"},
        public_jwk("other", other, alg="RS512"),
        public_jwk("small", small),
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": "RSA", "kid": "endless", "n": "A" * 100_000, "e": "AQAB"},
        {"kty": "EC", "kid": "big", "crv": "P-521", "x": "AA", "y": "AA"},
        {"kty": ["RSA"], "kid": {}},
        "text",
        None,
    ]
    tokens = verifier(provider)
    assert await tokens.identify(provider.token())
    for name in ("encrypts", "other"):
        assert "not signed with a key" in await refusal(tokens, provider.token(other, kid=name))
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        weak = provider.token(small, kid="small")
    assert await refusal(tokens, weak)


async def test_token_without_a_key_name_needs_a_single_key(provider: Provider) -> None:
    provider.keys = [public_jwk(None, provider.key)]
    assert await verifier(provider).identify(provider.token(kid=None))
    provider.keys = [public_jwk("first", provider.key), public_jwk("second", rsa_key())]
    assert "not signed with a key" in await refusal(verifier(provider), provider.token(kid=None))


# The provider


async def test_keys_are_fetched_once(provider: Provider) -> None:
    tokens = verifier(provider)
    await asyncio.gather(*(tokens.identify(provider.token()) for _ in range(20)))
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_unknown_key_is_asked_for_but_not_each_time(provider: Provider) -> None:
    clock = Clock()
    tokens = verifier(provider, clock)
    await tokens.identify(provider.token())
    for number in range(20):
        assert "not signed with a key" in await refusal(tokens, provider.token(kid=f"k{number}"))
    assert provider.asked.count("/keys") == 1
    clock.now += oidc.RETRY_SECONDS
    for number in range(20):
        await refusal(tokens, provider.token(kid=f"k{number}"))
    assert provider.asked.count("/keys") == 2


async def test_rotated_key_is_found_and_the_old_one_forgotten(provider: Provider) -> None:
    clock = Clock()
    tokens = verifier(provider, clock)
    old = provider.token()
    await tokens.identify(old)
    provider.key = rsa_key()
    provider.keys = [public_jwk("second", provider.key)]
    clock.now += oidc.RETRY_SECONDS
    assert await tokens.identify(provider.token(kid="second"))
    assert "not signed with a key" in await refusal(tokens, old)


async def test_withdrawn_key_ends_by_itself(provider: Provider) -> None:
    clock = Clock()
    tokens = verifier(provider, clock)
    token = provider.token()
    await tokens.identify(token)
    provider.keys = [public_jwk("second", rsa_key())]
    clock.now += oidc.FRESH_SECONDS
    assert await tokens.identify(token), "it is asked beside the request, which does not wait"
    deadline = time.monotonic() + 10
    with pytest.raises(InvalidToken, match="not signed with a key"):
        while time.monotonic() < deadline:
            await tokens.identify(token)
            await asyncio.sleep(0.01)


async def unavailable(tokens: TokenVerifier, token: str) -> AuthenticationUnavailable:
    with pytest.raises(AuthenticationUnavailable) as caught:
        await tokens.identify(token)
    return caught.value


async def test_provider_that_is_down_lets_nobody_in_and_comes_back(provider: Provider) -> None:
    clock = Clock()
    tokens = verifier(provider, clock)
    provider.status = 500
    assert (await unavailable(tokens, provider.token())).retry_after == oidc.RETRY_SECONDS
    asked = len(provider.asked)
    await unavailable(tokens, provider.token())
    assert len(provider.asked) == asked, "it is not asked again at once"
    provider.status = 200
    clock.now += oidc.RETRY_SECONDS
    assert await tokens.identify(provider.token())


async def test_keys_outlive_the_provider_for_a_bounded_time(provider: Provider) -> None:
    clock = Clock()
    tokens = verifier(provider, clock)
    token = provider.token()
    await tokens.identify(token)
    provider.status = 503
    clock.now += oidc.KEPT_SECONDS - 1
    assert await tokens.identify(token)
    clock.now += oidc.RETRY_SECONDS
    await unavailable(tokens, token)


async def test_provider_that_is_not_there_lets_nobody_in() -> None:
    with running_provider() as provider:
        token = provider.token()
    await unavailable(verifier(provider), token)


async def test_silent_provider_costs_a_bounded_time(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "READ_SECONDS", 0.3)
    provider.hangs.set()
    started = time.monotonic()
    tokens = verifier(provider)
    results = await asyncio.gather(*(unavailable(tokens, provider.token()) for _ in range(5)))
    assert len(results) == 5
    assert time.monotonic() - started < 5
    assert len(provider.asked) == 1


async def test_closing_gives_up_a_question(provider: Provider) -> None:
    provider.hangs.set()
    tokens = verifier(provider)
    waiting = asyncio.create_task(tokens.identify(provider.token()))
    deadline = time.monotonic() + 10
    while not provider.asked:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await tokens.aclose()
    with pytest.raises(AuthenticationUnavailable):
        await waiting


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b'{"keys": []}', "no keys for RS256"),
        (b'{"keys": {}}', "no set of keys"),
        (b"{}", "no set of keys"),
        (b"[]", "no JSON object"),
        (b"not JSON", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
    ],
)
async def test_answer_that_is_no_set_of_keys_lets_nobody_in(provider: Provider, raw: bytes, problem: str) -> None:
    provider.raw = raw
    tokens = verifier(provider)
    await unavailable(tokens, provider.token())
    assert problem in (tokens.problem or "")


async def test_set_of_keys_is_bounded(provider: Provider) -> None:
    token = provider.token()
    good = provider.keys
    provider.keys = good + [good[0] | {"kid": f"k{n}"} for n in range(oidc.MAX_KEYS - 1)]
    assert await verifier(provider).identify(token)
    provider.keys.append(good[0] | {"kid": "one more"})
    await unavailable(verifier(provider), token)
    provider.keys = [*good, {"kty": "none", "x": "x" * discovery.MAX_DOCUMENT_BYTES}]
    await unavailable(verifier(provider), token)


async def test_compressed_answer_is_not_unfolded(provider: Provider) -> None:
    provider.raw = gzip.compress(json.dumps({"keys": provider.keys}).encode())
    provider.raw_headers["Content-Encoding"] = "gzip"
    tokens = verifier(provider)
    await unavailable(tokens, provider.token())
    assert "not JSON" in (tokens.problem or "")


async def test_redirect_is_not_followed(provider: Provider) -> None:
    provider.status = 302
    provider.headers["Location"] = f"{provider.issuer}/keys"
    await unavailable(verifier(provider), provider.token())
    assert "/keys" not in provider.asked


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"issuer": "http://127.0.0.1:1"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"jwks_uri": None}, "names no keys"),
        ({"jwks_uri": 7}, "names no keys"),
        ({"jwks_uri": "http://192.0.2.1/keys"}, "over https"),
        ({"jwks_uri": "file:///etc/passwd"}, "over https"),
        ({"jwks_uri": "http://[::1"}, "over https"),
    ],
)
async def test_description_that_leads_elsewhere_is_refused(
    provider: Provider, changes: dict[str, Any], problem: str
) -> None:
    provider.description |= changes
    tokens = verifier(provider)
    await unavailable(tokens, provider.token())
    assert problem in (tokens.problem or "")


def test_issuer_must_be_trustworthy() -> None:
    for issuer in ("http://example.com", "ftp://example.com", "example.com", "", "http://localhost.example.com"):
        with pytest.raises(SettingsError, match=r"oidc\.issuer"):
            OidcSettings(issuer, AUDIENCE)
    for issuer in ("https://example.com/realm", "http://localhost:8080", "http://[::1]:8080"):
        assert OidcSettings(issuer, AUDIENCE).issuer == issuer
