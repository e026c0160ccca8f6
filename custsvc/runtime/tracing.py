"""Spans for OpenTelemetry, an optional extra: a request, its event's steps and its mails in one trace.

Off, which is the default, nothing is imported, and each place that could make a span reads `spans` once. A
request's span is the parent of all others: its id travels in the event's `traceparent`. Steps make spans only
for events in a sampled trace, so sampling by `serve` (`OTEL_TRACES_SAMPLER`) limits what all roles pay.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from .. import __version__
from ..config import Settings
from .extras import needs

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

Kind = Literal["SERVER", "PRODUCER", "CONSUMER", "CLIENT", "INTERNAL"]

# Seconds to send the last spans when a role ends.
_GRACE: Final = 3.0
_SAMPLED: Final = 1
_NANO: Final = 1_000_000_000

spans: Spans | None = None
"""Makes this process's spans; None if tracing is off."""


class Spans:
    """Makes spans with OpenTelemetry's SDK."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._trace = trace
        self._context = TraceContextTextMapPropagator()
        self._provider = provider
        self._tracer = provider.get_tracer("custsvc", __version__)

    def begin(self, name: str, traceparent: str | None) -> Any:
        """A span of a request that has begun just now; its caller's trace goes on, or a new one begins."""
        return self._tracer.start_span(name, self._parent(traceparent), self._trace.SpanKind.SERVER)

    def traceparent(self, span: Any) -> str | None:
        """The trace context to pass on."""
        carrier: dict[str, str] = {}
        self._context.inject(carrier, self._trace.set_span_in_context(span))
        return carrier.get("traceparent")

    def past(
        self,
        name: str,
        kind: Kind,
        traceparent: str,
        began: float,
        about: Mapping[str, Any],
    ) -> None:
        """A span of something that began at this Unix time and has ended now."""
        span = self._tracer.start_span(
            name,
            self._parent(traceparent),
            self._trace.SpanKind[kind],
            about,
            start_time=int(began * _NANO),
        )
        span.end(max(int(began * _NANO), time.time_ns()))

    def failed(self, span: Any) -> None:
        """Mark the span as that of an error."""
        span.set_status(self._trace.StatusCode.ERROR)

    def close(self) -> None:
        """Send the last spans, if their receiver takes them in time."""
        closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        closing.start()
        closing.join(_GRACE)

    def _parent(self, traceparent: str | None) -> Context | None:
        return self._context.extract({"traceparent": traceparent}) if traceparent else None


def is_sampled(traceparent: str | None) -> bool:
    """Whether the spans of this trace are kept."""
    return traceparent is not None and bool(int(traceparent[-2:], 16) & _SAMPLED)


def start(settings: Settings, role: str) -> None:
    """Turn tracing on for this process, if the settings say so. Raises NotInstalled without the extra.

    Where the spans go, and which are kept, is said by OpenTelemetry's own variables (`OTEL_…`).
    """
    if settings.tracing == "off":
        return
    with needs("otel"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    use(role, BatchSpanProcessor(OTLPSpanExporter()))


def use(role: str, processor: SpanProcessor) -> None:
    """Turn tracing on, with spans given to this processor."""
    global spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": f"custsvc-{role}"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(processor)
    spans = Spans(provider)


def stop() -> None:
    """Turn tracing off, after the last spans were sent."""
    global spans
    ending, spans = spans, None
    if ending is not None:
        ending.close()


@contextmanager
def tracing(settings: Settings, role: str) -> Iterator[None]:
    """Tracing for a role, if the settings say so, until the end of the block."""
    if settings.tracing == "off":
        yield
        return
    start(settings, role)
    try:
        yield
    finally:
        stop()
