"""Traces by OpenTelemetry, for who wants them: the extra `trace`, and an endpoint. Spans hold no data.

What may stand in an attribute is what may stand in the log (logs.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kernel_sandbox.service.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Attribute = str | int | float | bool
SERVICE = "kernel-sandbox"
FLUSH_SECONDS = 3
EXPORT_SECONDS = 5.0
"""How long one export may take. It runs on a thread of its own, and what is not exported in time is dropped."""


class Span:
    """A span that may be of nobody's interest."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def set(self, name: str, value: Attribute) -> None:
        """Set an attribute; no data in it."""
        if self._span is not None:
            self._span.set_attribute(name, value)


_NO_SPAN = Span()


class Tracing:
    """Spans of the service. Without an endpoint it does nothing, and needs no OpenTelemetry."""

    def __init__(self, endpoint: str | None) -> None:
        """Set up the export. Raises SettingsError where an endpoint is set and OpenTelemetry is not installed."""
        self._provider = None if endpoint is None else _provider(endpoint)
        self._tracer = None if self._provider is None else self._provider.get_tracer(SERVICE)

    @contextlib.contextmanager
    def span(self, name: str, **attributes: Attribute) -> Iterator[Span]:
        """Measure what is done within. An exception marks the span, by its type alone, and passes."""
        if self._tracer is None:
            yield _NO_SPAN
            return
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield Span(span)
            except BaseException as exc:
                span.set_attribute("error.type", type(exc).__qualname__)
                raise

    def close(self) -> None:
        """Send what is left, within FLUSH_SECONDS."""
        if self._provider is not None:
            self._provider.force_flush(FLUSH_SECONDS * 1000)
            self._provider.shutdown()


def _provider(endpoint: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        raise SettingsError("trace_endpoint needs OpenTelemetry: pip install 'kernel-sandbox[trace]'.") from exc
    # Not Resource.create, which reads what the environment says of this machine.
    provider = TracerProvider(resource=Resource({"service.name": SERVICE}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
