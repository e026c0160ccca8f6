"""The outbox: events that wait to be sent, in the order in which each customer changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from ..domain.events import CustomerEvent


class Depth(NamedTuple):
    """How many events wait in an outbox, and the age in seconds of the oldest (0 if none)."""

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
        """Try to become the only reader. True within the block if we are; False at once if another is.

        Raises ConfigurationError if the database was restored, so that it is unknown which events were sent.

        Lost leadership shows as TemporaryError from `read` or `done`. Two readers at once, as after a
        network cut, only repeat events: neither loses one.
        """

    def read(self, limit: int) -> Batch:
        """The next events, up to `limit`; empty if there are none. Without `done`, the same ones again."""

    def ahead(self, batch: Batch, limit: int) -> Batch:
        """The events after those of a `batch` that is not done yet; empty if they are not known yet.

        They are those that `read` returns after `done(batch)`, or the first of them. May run in another
        thread, beside the sending of `batch` and beside `done(batch)`.
        """

    def together(self, first: Batch, second: Batch) -> Batch:
        """Two batches as one, for `ahead` and `done`; neither is empty, `second` is the later one."""

    def done(self, batch: Batch) -> None:
        """All events of `batch` are safely on Kafka: never read them again."""

    def wait(self, seconds: float) -> None:
        """Return when there may be new events, at the latest soon after `seconds`."""

    def depth(self) -> Depth:
        """The waiting events. Works without leadership."""

    def events(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Known]:
        """The events with these (customer id, version); those that do not exist are left out.

        An event that was just sent may still be shown as not sent.
        """

    def latest(self, limit: int) -> list[Sent]:
        """The events sent last, up to `limit`, in about the order in which they were sent.

        The newest comes first. If very many newer ones wait, some of these are left out.
        """

    def adopt(self) -> None:
        """Continue with this restored database, with all events that are not known to be sent.

        In another cluster of PostgreSQL it does not know which ones were: then all are read again.
        """

    def source(self) -> str:
        """A URI that identifies this database: `urn:custsvc:postgres:<system id>`."""
