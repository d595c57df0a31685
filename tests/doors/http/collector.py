"""A collector of OpenTelemetry traces of our own, on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """What it has been sent."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.received: list[bytes] = []

    def _resources(self) -> Iterator[Any]:
        for body in self.received:
            yield from ExportTraceServiceRequest.FromString(body).resource_spans

    def spans(self) -> list[dict[str, Any]]:
        """Every span: its name, ids and attributes."""
        found = [span for resource in self._resources() for scope in resource.scope_spans for span in scope.spans]
        return [
            {
                "name": span.name,
                "id": span.span_id,
                "parent": span.parent_span_id,
                "attributes": {a.key: a.value.int_value or a.value.string_value for a in span.attributes},
                "events": len(span.events),
                "message": span.status.message,
            }
            for span in found
        ]

    def resource(self) -> set[str]:
        """The names of what is told about the sender."""
        return {attribute.key for resource in self._resources() for attribute in resource.resource.attributes}


@contextmanager
def running_collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
