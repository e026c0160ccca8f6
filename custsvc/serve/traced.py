"""Spans of requests, where tracing is on."""

from __future__ import annotations

from ..http.asked import ASK
from ..http.guard import PROBES
from ..http.request import Request
from ..runtime import tracing
from .measure import method_of, route_of


def begin(request: Request) -> None:
    """Begin the span of a request, except of probes; its trace context goes on with the request's event."""
    environ = request.environ
    if (spans := tracing.spans) is None or ASK in environ or environ["PATH_INFO"].rstrip("/") in PROBES:
        return
    request.span = spans.begin(method_of(request), request.traceparent)
    request.traceparent = spans.traceparent(request.span)


def end(request: Request, route: str | None, status: int) -> None:
    """End the span of a request of this route, None for an unknown path."""
    if (span := request.span) is None or (spans := tracing.spans) is None:
        return
    method, pattern = method_of(request), route_of(route) or "/"
    span.update_name(f"{method} {pattern}")
    span.set_attributes(
        {
            "http.request.method": method,
            "http.route": pattern,
            "http.response.status_code": status,
            "custsvc.request_id": request.id,
        }
    )
    if status >= 500:
        spans.failed(span)
    span.end()
