"""The order in which MongoDB's two places of waiting events are read."""

from __future__ import annotations

from itertools import islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from custsvc.stores.mongo.window import merged

Event = dict[str, Any]


@st.composite
def two_places(draw: st.DrawFn) -> tuple[list[Event], list[list[Event]]]:
    """Events apart, and carried ones of each customer, as the database returns them.

    Each customer's clocks rise with its versions; a part of its events, the last ones, may be apart.
    """
    apart: list[Event] = []
    carried: list[list[Event]] = []
    for customer in range(draw(st.integers(0, 6))):
        clocks = sorted(draw(st.sets(st.integers(1, 30), max_size=8)))
        events = [{"customer": customer, "pending": clock} for clock in clocks]
        kept = draw(st.integers(0, len(events)))
        apart += events[kept:]
        if kept:
            # A document holds them in the order of their versions, but nothing here relies on it.
            carried.append(draw(st.permutations(events[:kept])))
    apart.sort(key=lambda event: event["pending"])
    carried.sort(key=lambda events: min(event["pending"] for event in events))
    return apart, carried


@given(two_places())
def test_the_events_of_both_places_come_once_and_by_their_clocks(
    places: tuple[list[Event], list[list[Event]]],
) -> None:
    apart, carried = places

    found = list(merged(iter(apart), iter(carried)))

    assert [event["pending"] for event, _ in found] == sorted(event["pending"] for event, _ in found)
    assert sorted(id(event) for event, is_carried in found if not is_carried) == sorted(map(id, apart))
    held = [id(event) for events in carried for event in events]
    assert sorted(id(event) for event, is_carried in found if is_carried) == sorted(held)


@given(two_places(), st.integers(1, 5))
def test_no_more_customers_are_read_than_what_was_taken_of_them_needs(
    places: tuple[list[Event], list[list[Event]]], limit: int
) -> None:
    """A backlog of any size is not read into memory for its first page."""
    apart, carried = places
    waiting = iter(carried)

    taken = list(islice(merged(iter(apart), waiting), limit))

    last = taken[-1][0]["pending"] if taken else 0
    left = list(waiting)
    later = [events for events in carried if min(event["pending"] for event in events) > last]
    assert len(left) >= len(later) - 1
