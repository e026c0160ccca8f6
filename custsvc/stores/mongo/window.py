"""The events that wait at one moment, in the order of their clocks, a page at a time.

All pages are of one snapshot. So the next page follows the one before, whatever was written or marked as sent
in between, and each event is read once. Where the outbox is read anew for each page instead, the server walks
past all that was marked in the last minutes, because it keeps that for older snapshots.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator, Sequence, Set
from contextlib import suppress
from itertools import count, islice, repeat
from time import monotonic as _now

import pymongo
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from .connection import Document

# Seconds. The server keeps snapshots for minutes, but nobody should have to rely on that.
_AGE = 10.0

Events = Generator[Document, None, None]
OfCustomers = Generator[list[Document], None, None]
Waiting = tuple[Document, bool]
"""An event that waits, and whether its customer carries it; else it is in the history."""


class Window:
    """A snapshot's events that are not `known`. To be closed; not for several threads at once."""

    def __init__(self, session: ClientSession, apart: Events, carried: OfCustomers, known: Set[str]) -> None:
        """`apart` and `carried` read in this session, as `merged` wants them."""
        self._session = session
        self._places = apart, carried
        self._known = known
        self._waiting = merged(apart, carried)
        self._until = _now() + _AGE
        self._is_over = False
        self.taken = 0

    def page(self, limit: int) -> list[Waiting]:
        """The next ones, up to `limit`; empty if there are no more, or the snapshot is too old."""
        if self._is_over or _now() > self._until:
            self.close()
            return []
        unknown = self._waiting
        if self._known:
            unknown = (each for each in unknown if each[0]["id"] not in self._known)
        found = list(islice(unknown, limit))
        self.taken += len(found)
        if len(found) < limit:
            self.close()
        return found

    def close(self) -> None:
        """Give back what the server holds for it."""
        if self._is_over:
            return
        self._is_over = True
        with suppress(PyMongoError), pymongo.timeout(1.0):
            for each in self._places:
                each.close()
            self._session.end_session()


def merged(apart: Iterator[Document], carried: Iterator[list[Document]]) -> Iterator[Waiting]:
    """The events of both places by their clocks.

    `apart`: those in the history, by their clocks. `carried`: those of each customer, by the oldest of each.
    A customer's carried ones have lower clocks than those apart.
    """
    # Those whose turn has not come, by clock; the number is for those with the same clock.
    due: list[tuple[int, int, Document]] = []
    numbers = count()
    event, of_customer = next(apart, None), next(carried, None)
    while due or of_customer is not None:
        clock = due[0][0] if due else _clock_of(of_customer or [])
        if event is not None and event["pending"] < clock:
            clock = event["pending"]
        if of_customer is not None and _clock_of(of_customer) <= clock:
            for each in of_customer:
                heapq.heappush(due, (each["pending"], next(numbers), each))
            of_customer = next(carried, None)
        elif due and due[0][0] == clock:
            yield heapq.heappop(due)[2], True
        elif event is not None:
            yield event, False
            event = next(apart, None)
    if event is not None:
        yield event, False
        yield from zip(apart, repeat(False))


def _clock_of(events: Sequence[Document]) -> int:
    """The lowest clock of these."""
    return min(int(each["pending"]) for each in events)
