"""The outbox: events that wait to be sent, in the order in which each customer changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..domain.events import CustomerEvent


class Depth(NamedTuple):
    """What waits in an outbox: how many events, and the age in seconds of the oldest (0 when none)."""

    waiting: int
    oldest_age: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Events to publish, in an order that keeps each customer's versions; `token` is the reader's own."""

    events: list[CustomerEvent] = field(default_factory=list)
    token: Any = None


class Known(NamedTuple):
    """An event in the store: its id, and whether it is known to be on Kafka."""

    event_id: str
    sent: bool


class Sent(NamedTuple):
    """An event that is known to be on Kafka."""

    customer_id: int
    version: int
    event_id: str


class Outbox(Protocol):
    """The events that are not on Kafka yet, read gap-free and in order per customer."""

    def lead(self) -> AbstractContextManager[bool]:
        """Try to become the one reader. True within the block when we are; at once False when another is.

        Raises ConfigurationError where the database is a restored one, so that nobody can say what is sent.

        Lost leadership shows as TemporaryError from `read` or `done`. Two readers at once, as after a
        network cut, only repeat events: neither loses one.
        """

    def read(self, limit: int) -> Batch:
        """The next events, up to `limit`; empty when there are none. Without `done`, the same again."""

    def ahead(self, batch: Batch, limit: int) -> Batch:
        """The events after those of a `batch` that is not done yet; empty where that cannot be said yet.

        It is what `read` gives after `done(batch)`, or the beginning of it. May run beside the sending of
        `batch` and beside `done(batch)`, in another thread.
        """

    def done(self, batch: Batch) -> None:
        """All events of `batch` are safely on Kafka: never read them again."""

    def wait(self, seconds: float) -> None:
        """Return when there may be new events, at the latest soon after `seconds`."""

    def depth(self) -> Depth:
        """What waits. Works without leadership."""

    def events(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Known]:
        """The events with these (customer id, version); those that do not exist are left out.

        An event that was sent a moment ago may still be shown as not sent.
        """

    def latest(self, limit: int) -> list[Sent]:
        """The events that went out last, up to `limit`, in about the order in which they were sent.

        The newest comes first. Where very many newer ones wait, some of these are left out.
        """

    def adopt(self) -> None:
        """This database was restored, and is the one to go on with: forget how far another one was sent.

        Everything whose sending is not known is read again.
        """

    def source(self) -> str:
        """A URI that tells this database from any other: `urn:custsvc:postgres:<system id>`."""
