"""The stream of events and its consumer: whole frames, reconnects at the position, repeats dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.client import Event, EventsLost, Latest, NotPermitted, Unavailable
from custsvc.client.stream import Frame, Frames

from .ways import Clock, Scripted, problem

AT = "2026-11-23T20:40:00.123Z"


def raw(customer_id: int, version: int, name: str = "Ann") -> dict[str, Any]:
    after = {"id": customer_id, "name": name, "email": None, "phone": None, "metadata": {}, "deleted": False}
    after |= {"version": version, "created_on": AT, "created_by": "a", "updated_on": AT, "updated_by": "a"}
    event = {"id": f"{customer_id}/{version}", "event_ts": AT, "op": "updated", "customer_id": customer_id}
    return event | {"version": version, "changed": ["name"], "before_change": None, "after_change": after}


def sent(place: str, event: dict[str, Any]) -> bytes:
    return f"id: {place}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


class Cut(httpx.SyncByteStream):
    """A stream that is cut off behind its parts, or ends."""

    def __init__(self, *parts: bytes, cut: bool = True) -> None:
        self._parts, self._cut = parts, cut

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        if self._cut:
            raise httpx.ReadError("connection reset by peer")


def stream(*parts: bytes, cut: bool = True) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Cut(*parts, cut=cut))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=8)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_frames_are_the_same_in_whatever_pieces_they_come(
    sent: list[tuple[str, str]], end: str, data: st.DataObject
) -> None:
    whole = "".join(f": hello{end}id: {i}{end}data: {d}{end}{end}" for i, d in sent).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    # A held-back half of a line end comes with the next byte.
    frames = Frames()
    found = [frame for piece in (*pieces, b": end") for frame in frames.of(piece)]

    assert found == [Frame("message", i, d) for i, d in sent]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_signs_that_python_takes_for_line_ends_end_no_line(sign: str) -> None:
    (found,) = Frames().of(f"data: a{sign}b\n\n".encode())

    assert found.data == f"a{sign}b"


def test_a_stream_goes_on_where_it_was_cut_off_and_gives_no_half_event(scripted: Scripted) -> None:
    half = sent("1.2", raw(8, 1))[:-9]
    client, seen = scripted(
        stream(b"retry: 2000\n\nid: 0.0\n\n", sent("1.0", raw(7, 1)), half),
        httpx.ConnectError("refused"),
        problem(503, "too-many-streams", {"Retry-After": "5"}),
        stream(sent("1.2", raw(8, 1)), b"id: 4.4\n: still here\n\n", cut=False),
        stream(sent("5.5", raw(7, 2))),
    )
    events = iter(client.events())

    found = [next(events) for _ in range(3)]

    assert [(e.customer_id, e.version, e.position) for e in found] == [
        (7, 1, "1.0"),
        (8, 1, "1.2"),
        (7, 2, "5.5"),
    ]
    assert [request.headers.get("Last-Event-ID") for request in seen] == [None, "1.0", "1.0", "1.0", "4.4"]


def test_a_stream_that_ends_at_once_is_not_opened_without_a_pause(scripted: Scripted) -> None:
    clock = Clock()
    client, _ = scripted(
        *[stream(b"id: 0\n\n", cut=False) for _ in range(9)], NotImplementedError(), clock=clock
    )

    with pytest.raises(NotImplementedError):
        next(iter(client.events()))

    assert len(clock.slept) == 9
    assert sum(clock.slept) > 5


def test_lost_events_are_reported_and_never_skipped(scripted: Scripted) -> None:
    lost = b'event: lost\nid: 3.3\ndata: {"reason": "the topic no longer holds them"}\n\n'
    client, seen = scripted(stream(lost, sent("4.3", raw(7, 9))))

    with pytest.raises(EventsLost, match="no longer holds") as caught:
        next(iter(client.events(after="0.0")))

    assert caught.value.position == "3.3"
    assert seen[0].headers["Last-Event-ID"] == "0.0"


def test_a_stream_that_is_refused_says_so_at_once(scripted: Scripted) -> None:
    client, seen = scripted(problem(401, "unauthorized"))

    with pytest.raises(NotPermitted):
        next(iter(client.events()))

    assert len(seen) == 1


def test_a_stream_gives_up_when_asked_to(scripted: Scripted) -> None:
    clock = Clock()
    client, _ = scripted(*[httpx.ConnectError("refused")] * 1000, clock=clock)

    with pytest.raises(Unavailable):
        next(iter(client.events(within=60)))

    assert 30 < clock.now <= 60


def test_a_stream_sends_its_filters(scripted: Scripted) -> None:
    client, seen = scripted(stream(sent("1", raw(7, 1))))

    next(iter(client.events(from_beginning=True, customer=7, ops=["created", "deleted"])))

    assert dict(seen[0].url.params) == {"from": "beginning", "customer": "7", "op": "created,deleted"}


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 6)), max_size=40))
def test_a_consumer_sees_each_customer_only_rise_and_its_highest_version(
    delivered: list[tuple[int, int]],
) -> None:
    events = [Event.of(raw(*each)) for each in delivered]

    seen = [(e.customer_id, e.version) for e in Latest()(events)]

    for customer_id in {each for each, _ in delivered}:
        versions = [v for i, v in seen if i == customer_id]
        assert versions == sorted(set(versions))
        assert versions[-1] == max(v for i, v in delivered if i == customer_id)


def test_an_event_whose_work_failed_comes_again() -> None:
    latest, event = Latest(), Event.of(raw(7, 1))

    def work() -> None:
        for _ in latest([event]):
            raise ValueError("the work failed")

    with pytest.raises(ValueError, match="failed"):
        work()

    assert list(latest([event, event])) == [event]
    assert list(latest([event])) == []


def test_the_memory_holds_the_customers_that_changed_last() -> None:
    latest = Latest(most=2)
    one, two, three = (Event.of(raw(n, 1)) for n in (1, 2, 3))

    assert list(latest([one, two, Event.of(raw(1, 2)), three])) != []

    assert [latest.is_news(each) for each in (one, two, three)] == [False, True, False]


def test_a_given_memory_is_used() -> None:
    mine = {7: 4}

    assert [e.version for e in Latest(mine)([Event.of(raw(7, v)) for v in (3, 4, 5)])] == [5]
    assert mine == {7: 5}
