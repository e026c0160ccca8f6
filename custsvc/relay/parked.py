"""Parked customers: an event exceeds the topic's size limit, so they wait while all others go on.

Such an event is refused at the write. One that was stored anyway, because the topic's limit was lowered
later, must not block the others. The relay parks its customer from that version on, logs an error, and sends
the customer's events from the history, in order, once the limit allows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import orjson

from ..domain.events import CustomerEvent, stored_event
from ..ports.customers import CustomerStore
from ..ports.facts import Fact, Facts
from ..service.event_limit import AROUND
from ..service.parked import Parked, parked

logger = logging.getLogger(__name__)

_PAGE = 100


class Parking:
    """The parked customers, kept in the source; only those whom the relay `has`."""

    def __init__(self, facts: Facts, has: Callable[[int], bool] = lambda _: True) -> None:
        self._facts = facts
        self._has = has
        self._parked: dict[int, Parked] = {}

    def load(self) -> None:
        self._parked = {each.customer_id: each for each in parked(self._facts) if self._has(each.customer_id)}

    def keep_back(self, events: list[CustomerEvent], limit: int) -> list[CustomerEvent]:
        """Return the events that can be sent; the customers of the others are parked, durably."""
        if not self._parked and max((len(event.payload) for event in events), default=0) + AROUND <= limit:
            return events
        return [event for event in events if not self._is_kept_back(event, limit)]

    def _is_kept_back(self, event: CustomerEvent, limit: int) -> bool:
        waiting = self._parked.get(event.customer_id)
        size = len(event.payload) + AROUND
        if waiting is not None and event.version < waiting.version:
            return False  # was sent before and is sent again now
        if waiting is None and size <= limit:
            return False
        if waiting is None or size > waiting.bytes:
            first = waiting.version if waiting else event.version
            self._park(Parked(event.customer_id, first, max(size, waiting.bytes if waiting else 0)), limit)
        return True

    def _park(self, parked: Parked, limit: int) -> None:
        self._facts.put(f"{Fact.PARKED}{parked.customer_id}", orjson.dumps(parked._asdict()).decode())
        self._parked[parked.customer_id] = parked
        logger.error(
            "Customer %d is parked from version %d on: its event has %d bytes, the topic takes %d. "
            "The others go on; raise the topic's max.message.bytes, and it is sent",
            parked.customer_id,
            parked.version,
            parked.bytes,
            limit,
            extra={"action": "parked", **parked._asdict()},
        )

    def ready(self, customers: CustomerStore, limit: int) -> Iterator[tuple[Parked, list[CustomerEvent]]]:
        """The customers that can be sent now, each with its events from the first unsent one on."""
        for waiting in list(self._parked.values()):
            if waiting.bytes <= limit:
                yield waiting, history_from(customers, waiting.customer_id, waiting.version)

    def leave(self, parked: Parked) -> None:
        """Unpark a customer whose events are on Kafka."""
        self._facts.drop(f"{Fact.PARKED}{parked.customer_id}")
        del self._parked[parked.customer_id]
        logger.info("Customer %d is parked no more", parked.customer_id, extra={"action": "unparked"})


def history_from(customers: CustomerStore, customer_id: int, version: int) -> list[CustomerEvent]:
    """A customer's events from this version on, oldest first."""
    found: list[CustomerEvent] = []
    before: int | None = None
    while payloads := customers.history(customer_id, limit=_PAGE, before_version=before):
        events = [_event(payload) for payload in payloads]
        found += [event for event in events if event.version >= version]
        before = events[-1].version
        if before <= version:
            break
    return found[::-1]


def _event(payload: bytes) -> CustomerEvent:
    # Not by `decode`: the relay also passes on events that a newer custsvc has written to the source.
    read = orjson.loads(payload)
    return stored_event(read["customer_id"], read["version"], read["op"], payload)
