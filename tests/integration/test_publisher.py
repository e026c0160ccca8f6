"""Flights of records: one is handed over before the one before it has landed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import NewTopic

from custsvc.config import Settings
from custsvc.errors import CustsvcError, TemporaryError
from custsvc.kafka import client as kafka
from custsvc.kafka.publisher import Publisher, Record

from .conftest import Topic

PARTS = 3


@pytest.fixture
def small(settings: Settings) -> str:
    """A topic that takes 20,000 bytes at a time."""
    name = f"small-{uuid.uuid4().hex[:12]}"
    client = kafka.admin(settings)
    new = NewTopic(name, PARTS, 1, config={"max.message.bytes": "20000"})
    (made,) = client.create_topics([new]).values()
    made.result(60)
    return name


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    with Publisher(settings.replace(kafka_options={"compression.type": "none"})) as publisher:
        yield publisher


def records(first: int, count: int, size: int = 10) -> list[Record]:
    """Numbered records, round the partitions."""
    return [Record(b"%d" % n, b"%0*d" % (size, n), {}, n % PARTS) for n in range(first, first + count)]


def parts(some: list[Record]) -> list[int]:
    return [record.partition for record in some]


def numbers(topic: Topic, name: str, part: int) -> list[int]:
    return [int(each.value()) for each in topic.records(name) if each.partition() == part]


def test_flights_land_in_their_order_and_say_where_each_partition_goes_on(
    publisher: Publisher, topic: Topic, small: str
) -> None:
    flights = []
    for start in range(0, 900, 300):
        some = records(start, 300)
        flights.append(publisher.hand_over(small, some, parts(some)))
    for number, flight in enumerate(flights, 1):
        publisher.land(flight)
        assert flight.has_landed
        assert flight.counts == dict.fromkeys(range(PARTS), 100)
        assert flight.ends == dict.fromkeys(range(PARTS), number * 100)

    for part in range(PARTS):
        assert numbers(topic, small, part) == list(range(part, 900, PARTS))


@pytest.mark.parametrize("bad", [0, 1, 150, 297, 299])
def test_a_record_that_kafka_refuses_takes_all_later_ones_of_its_partition_with_it(
    publisher: Publisher, topic: Topic, small: str, bad: int
) -> None:
    """Wherever it is within its flight, so also where it has no report of its own."""
    first, second = records(0, 300), records(300, 300)
    whole = first[bad]
    first[bad] = whole._replace(value=b"%030000d" % bad)

    with pytest.raises(CustsvcError):
        for flight in [publisher.hand_over(small, some, parts(some)) for some in (first, second)]:
            publisher.land(flight)

    found = numbers(topic, small, bad % PARTS)
    assert found == list(range(bad % PARTS, bad, PARTS))[: len(found)]

    first[bad] = whole
    for some in (first, second):
        publisher.land(publisher.hand_over(small, some, parts(some)))
    for part in range(PARTS):
        assert numbers(topic, small, part)[-200:] == list(range(part, 600, PARTS))


def test_what_was_on_its_way_at_an_error_counts_as_not_sent(publisher: Publisher, small: str) -> None:
    first, second = records(0, 30), records(30, 30)
    first[7] = first[7]._replace(value=b"%030000d" % 7)
    flights = [publisher.hand_over(small, some, parts(some)) for some in (first, second)]
    with pytest.raises(CustsvcError):
        publisher.land(flights[0])

    with pytest.raises(TemporaryError, match="dropped"):
        publisher.land(flights[1])

    last = records(60, 30)
    publisher.land(publisher.hand_over(small, last, parts(last)))


def test_records_whose_partition_is_not_known_are_all_waited_for(
    publisher: Publisher, topic: Topic, small: str
) -> None:
    keyed = [Record(b"%d" % n, b"%d" % n, []) for n in range(100)]

    assert publisher.send(small, keyed) == 100
    assert sorted(int(each.value()) for each in topic.records(small)) == list(range(100))

    keyed[50] = keyed[50]._replace(value=b"%030000d" % 50)
    with pytest.raises(CustsvcError):
        publisher.send(small, keyed)
