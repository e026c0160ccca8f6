"""Follows single events through the roles: a debug line for each event that a step has handled, and a span.

A role asks `is_on` once a batch, so nothing is paid for events that nobody follows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from . import tracing


class Named(Protocol):
    """A row that names an event and its request."""

    @property
    def event_id(self) -> str: ...
    @property
    def customer_id(self) -> int | None: ...
    @property
    def version(self) -> int: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def traceparent(self) -> str | None: ...


class Followed(NamedTuple):
    """An event, and the request that caused it. `happened`: when, as Unix time, where the outbox knows it."""

    event_id: str
    customer_id: int | None
    version: int
    request_id: str | None
    traceparent: str | None
    happened: float | None = None

    @classmethod
    def of(cls, row: Named) -> Followed:
        """The event that a row is about."""
        return cls(row.event_id, row.customer_id, row.version, row.request_id, row.traceparent)

    def names(self) -> dict[str, Any]:
        """What a log line says of it; unknown ids are left out."""
        return {name: value for name, value in zip(_NAMES, self, strict=False) if value is not None}


_NAMES: Final = Followed._fields[:5]
# The span of each step.
_SPANS: Final[dict[str, tuple[str, tracing.Kind]]] = {
    "published": ("relay", "PRODUCER"),
    "applied": ("replicate", "CONSUMER"),
    "queued": ("notify", "CONSUMER"),
}


def is_on(logger: logging.Logger) -> bool:
    """Whether anybody wants to hear of single events."""
    return tracing.spans is not None or logger.isEnabledFor(logging.DEBUG)


def picks(logger: logging.Logger, traceparent: str | None) -> bool:
    """Whether anybody wants to hear of an event of this trace."""
    return logger.isEnabledFor(logging.DEBUG) or (
        tracing.spans is not None and tracing.is_sampled(traceparent)
    )


def handled(logger: logging.Logger, step: str, events: Iterable[Followed], began: float) -> None:
    """Say that this step has handled these events since this Unix time; `step` is one of _SPANS."""
    is_logged = logger.isEnabledFor(logging.DEBUG)
    for event in events:
        if is_logged:
            about = {"action": f"event_{step}", **event.names()}
            logger.debug("An event was %s", step, extra=about)
        if event.happened is not None:
            span("outbox", "INTERNAL", event, event.happened)
        span(*_SPANS[step], event, began)


def span(
    name: str,
    kind: tracing.Kind,
    event: Followed,
    began: float,
    about: Mapping[str, str] | None = None,
) -> None:
    """A span of an event's step that has ended now, if its trace is kept; `began` is a Unix time."""
    spans = tracing.spans
    if spans is None or event.traceparent is None or not tracing.is_sampled(event.traceparent):
        return
    names = {f"custsvc.{name}": value for name, value in event.names().items() if name != "traceparent"}
    spans.past(name, kind, event.traceparent, began, {**names, **(about or {})})
