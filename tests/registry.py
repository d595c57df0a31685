"""A registry of one image on loopback, which answers whatever it is asked for with the same manifest.

https://github.com/opencontainers/distribution-spec; the engine takes registries of this machine without TLS.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Image:
    """An image with one file, /who."""

    manifest: bytes
    blobs: dict[str, bytes]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def image_of(who: str, architecture: str) -> Image:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        member = tarfile.TarInfo("who")
        member.size = len(who)
        tar.addfile(member, io.BytesIO(who.encode()))
    layer = gzip.compress(plain.getvalue(), mtime=0)
    described: dict[str, Any] = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["/who"]}}
    described["rootfs"] = {"type": "layers", "diff_ids": [digest_of(plain.getvalue())]}
    config = json.dumps(described).encode()
    parts = [{"mediaType": kind, "size": len(blob), "digest": digest_of(blob)} for kind, blob in
             ((CONFIG, config), (LAYER, layer))]  # fmt: skip
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
    return Image(json.dumps(manifest).encode(), {digest_of(blob): blob for blob in (config, layer)})


@contextlib.contextmanager
def serving(image: Image) -> Iterator[str]:
    """Serve an image under any name, tag and digest; gives the registry's host and port."""

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, reference = self.path.split("/")[-2:]
            content = image.blobs.get(reference) if kind == "blobs" else image.manifest
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Type", MANIFEST if kind == "manifests" else "application/octet-stream")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
