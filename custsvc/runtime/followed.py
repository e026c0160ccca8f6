"""Follows single events through the roles: says of each event that a step has handled it, in a debug line.

A role asks `is_on` once a batch, so nothing is paid for events that nobody follows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol


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
    """An event, and the request that caused it."""

    event_id: str
    customer_id: int | None
    version: int
    request_id: str | None
    traceparent: str | None

    @classmethod
    def of(cls, row: Named) -> Followed:
        """The event that a row is about."""
        return cls(row.event_id, row.customer_id, row.version, row.request_id, row.traceparent)

    def names(self) -> dict[str, Any]:
        """What a log line says of it; unknown ids are left out."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def is_on(logger: logging.Logger) -> bool:
    """Whether anybody wants to hear of single events."""
    return logger.isEnabledFor(logging.DEBUG)


def handled(logger: logging.Logger, step: str, events: Iterable[Followed]) -> None:
    """Say that this step has handled these events; `step` is a past participle, as published."""
    for event in events:
        logger.debug("An event was %s", step, extra={"action": f"event_{step}", **event.names()})
