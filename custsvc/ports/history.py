"""The port of old history: which events nobody needs any more, and removing exactly those.

An event says what its customer became. It is outdated when a later event of the same customer is older than a
limit: then its state was replaced before that. So the newest event of each customer always stays, as do the
state at the limit and every state since.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

# These stay for ever. By the first two a merge is undone, and erasing a customer reaches those inside it; the
# third says that nothing before it may be used.
KEPT_OPS: Final = ("merged", "unmerged", "erased")


class Old(NamedTuple):
    """An event in the history: whose, and its exact bytes."""

    customer_id: int
    version: int
    payload: bytes


class Passage(NamedTuple):
    """A part of a walk over the history, oldest first.

    `passed` events were looked at; `outdated` are the events that they outdate. The next walk goes on at
    `mark`; `since` is the greatest time of the events passed. `ended`: no older event than the limit is left.
    """

    outdated: list[Old]
    passed: int
    mark: str
    since: dt.datetime | None
    ended: bool


class History(Protocol):
    """The events of a source that are on Kafka already, by age."""

    def outdated(
        self,
        mark: str,
        before: dt.datetime,
        limit: int,
        *,
        parked: Callable[[], Collection[int]],
        known: Mapping[int, int],
    ) -> Passage:
        """The events that are outdated by the next `limit` events after `mark` ("": the beginning).

        Those up to the version that `known` has for a customer are left out: they were returned before.

        Only events before the time `before` count, and only those that are known to be on Kafka; none of the
        customers that `parked` names is touched. It is called after the store has read what is on Kafka.
        Raises ConfigurationError if that is unknown, as after a restore into another cluster.
        """

    def stored(self, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        """The bytes of the events with these (customer id, version), as stored now."""

    def drop(self, events: Sequence[Old]) -> int:
        """Delete these events, if they still have these bytes; return how many. May be repeated."""
