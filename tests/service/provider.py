"""An OpenID provider of our own, on loopback: real HTTP, real keys. Tests change what it answers while it runs."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
AUDIENCE = "api://kernel-sandbox"


def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=bits)


def public_jwk(name: str | None, key: PrivateKey, **more: Any) -> dict[str, Any]:
    """The public half of a key, as providers publish it."""
    if isinstance(key, rsa.RSAPrivateKey):
        entry = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        entry = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**entry, "use": "sig", **({} if name is None else {"kid": name}), **more}


def public_pem(key: PrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form)


def signed(payload: bytes, key: Any, algorithm: str, headers: dict[str, Any]) -> str:
    """A token of any payload. (What makes claims refuses to make bad ones.)"""
    return jwt.api_jws.encode(payload, key, algorithm=algorithm, headers=headers)


def signed_by_hand(header: dict[str, Any], claims: dict[str, Any], key: rsa.RSAPrivateKey) -> str:
    """A token with any header, and a good signature by RS256."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = key.sign(b".".join(parts), padding.PKCS1v15(), hashes.SHA256())
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    return jwt.decode(token, options={"verify_signature": False})


class Provider:
    """What it answers, and how often it was asked."""

    def __init__(self, address: str) -> None:
        self.issuer = address
        self.key = rsa_key()
        self.keys: list[Any] = [public_jwk("first", self.key)]
        self.description: Any = {"issuer": address, "jwks_uri": f"{address}/keys"}
        self.status = 200
        self.raw: bytes | None = None
        """Answered in place of the keys, with `raw_headers`."""
        self.raw_headers: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.hangs = threading.Event()
        self.asked: list[str] = []

    def token(self, key: Any = None, *, kid: str | None = "first", algorithm: str = "RS256", **changes: Any) -> str:
        """A good token, but for the changes; a claim of None is left out."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "user-1", "iat": now, "exp": now + 300}
        claims |= {"roles": ["executor"], **changes}
        headers = {} if kid is None else {"kid": kid}
        present = {name: value for name, value in claims.items() if value is not None}
        return signed(json.dumps(present).encode(), self.key if key is None else key, algorithm, headers)

    def answer(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return self.status, json.dumps(self.description).encode()
        if path == "/keys":
            return self.status, self.raw if self.raw is not None else json.dumps({"keys": self.keys}).encode()
        return 404, b"{}"


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        status, body = self.provider.answer(self.path)
        if self.provider.hangs.is_set():
            while self.provider.hangs.is_set():
                time.sleep(0.02)
            return
        self.send_response(status)
        own = self.provider.raw_headers if self.path == "/keys" else {}
        for name, value in {**self.provider.headers, **own}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # a reader that had enough

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def running_provider() -> Iterator[Provider]:
    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.provider = provider = Provider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        provider.hangs.clear()
        server.shutdown()
        server.server_close()
        thread.join()
