"""A copy ends at every customer's highest version, for any topic and any number of reads."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import TopicPartition

from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, Stored
from custsvc.domain.events import Change, new_change
from custsvc.domain.received import ReceivedEvent
from custsvc.errors import NewerSchema, PositionLost, TemporaryError, TooManyBadRecords
from custsvc.kafka import client as kafka
from custsvc.kafka.publisher import Record
from custsvc.ports.contents import Row
from custsvc.ports.replica import Applied, Positions, Replica
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop
from tests.sizes import sizes
from tests.waiting import until

from .conftest import Topic, Workers

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 0, dt.UTC)


def history(customer_id: int, versions: int = 1) -> list[Change]:
    """The changes of a customer from its creation on."""
    after = Customer(customer_id, Fields(f"v1 of {customer_id}"), False, 1, NOW, "me", NOW, "me")
    changes = [new_change("created", None, after, actor="me")]
    for version in range(2, versions + 1):
        before = Stored(customer_id, version - 1, False, changes[-1].doc)
        after = after.changed_to(
            fields=Fields(f"v{version} of {customer_id}"), deleted=False, now=NOW, by="me"
        )
        changes.append(new_change("updated", before, after, actor="me"))
    return changes


def record(change: Change) -> Record:
    return Record(b"%d" % change.event.customer_id, change.event.payload, [])


def rows(replica: Replica) -> list[Row]:
    return replica.scan(0, 1_000_000)


def expected(*changes: Change) -> list[Row]:
    return [Row(c.after.id, c.after.version, c.after.deleted, c.doc) for c in changes]


def test_a_copy_ends_at_the_highest_versions(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    one, two = history(1, 5), history(2, 3)
    topic.produce(settings.topic_updates, *(record(c) for c in [*one, *two]))

    workers.copy(store.replica, store.name)

    until("both are there", lambda: rows(store.replica) == expected(one[-1], two[-1]))


def test_the_whole_topic_again_changes_nothing(
    store: Store, new_database: object, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """R1."""
    changes = [c for i in range(1, 50) for c in history(i, 3)]
    topic.produce(settings.topic_updates, *(record(c) for c in changes))
    first = workers.copy(store.replica, store.name)
    until("all are there", lambda: len(rows(store.replica)) == 49)
    before = rows(store.replica)
    first.ask()
    counting = Faulty(store.replica, 0, forget_positions=True)

    workers.copy(counting, store.name)
    until("all was read again", lambda: counting.events >= len(changes))

    assert counting.written == 0
    assert rows(store.replica) == before


@sizes("each", 1, 100)
def test_a_thousand_bad_records_go_to_the_dead_letter_topic_and_their_neighbours_are_applied(
    store: Store, settings: Settings, workers: Workers, topic: Topic, each: int
) -> None:
    """R9: a bad one before every so many good ones."""
    good = [history(i)[0] for i in range(1, 1000 * each + 1)]
    kinds = [
        Record(b"1", b"{not json", [("h", b"x")]),
        Record(b"1", json.dumps({"customer_id": "1", "version": []}).encode(), []),
        Record(None, good[0].event.payload, []),
        Record(b"1", b'{"name": "\xff\xfe"}', []),
        Record(None, None, []),
    ]
    bad = [kinds[n % len(kinds)] for n in range(1000)]
    bad[502] = Record(b"1", b"x" * 900_000, [])  # more than is fetched at once
    # A compacted topic takes no record without a key; a topic that somebody else made may.
    settings = settings.replace(topic_updates=settings.topic_updates + "-plain")
    topic.make_plain(settings.topic_updates)
    workers = workers.with_settings(settings)
    mixed = [[b, *map(record, good[n * each : (n + 1) * each])] for n, b in enumerate(bad)]
    topic.produce(settings.topic_updates, *(r for some in mixed for r in some))

    workers.copy(store.replica, store.name)

    until("the good ones are applied", lambda: store.replica.digest(0).customers == len(good), 600)
    assert rows(store.replica) == expected(*good)
    dead = until("all bad ones are there", lambda: _all(topic, settings.topic_dead, 1000))
    assert sorted((r.key() or b"", r.value() or b"") for r in dead) == sorted(
        (r.key or b"", r.value or b"") for r in bad
    )
    about = [dict(r.headers()) for r in dead]
    assert len({(a["dead_partition"], a["dead_offset"]) for a in about}) == 1000
    assert {a["dead_class"] for a in about} == {
        b"bad-json",
        b"bad-field",
        b"bad-key",
        b"bad-utf8",
        b"no-value",
    }
    assert all(a["dead_reason"] and a["dead_topic"] == settings.topic_updates.encode() for a in about)
    assert [a["h"] for a in about if "h" in a] == [b"x"] * 200


def _all(topic: Topic, name: str, count: int) -> list[object] | None:
    found = topic.records(name)
    return found if len(found) >= count else None


def test_a_flood_of_bad_records_stops_the_copy_before_they_are_moved_away(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """R9."""
    bad = [Record(b"7", b"no event", [])] * 12
    topic.produce(settings.topic_updates, record(history(7)[0]), *bad)

    with pytest.raises(TooManyBadRecords, match=r"too many bad records: 11 .*partition \d+ offset \d+"):
        workers.with_settings(settings.replace(max_bad_records=10)).run_copy(store.replica, "x", Stop())

    assert topic.records(settings.topic_dead) == []
    workers.copy(store.replica, "x")
    until("with a higher limit they pass", lambda: len(topic.records(settings.topic_dead)) == 12)


def test_a_newer_schema_stops_the_copy_instead_of_being_skipped(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """R9."""
    newer = json.loads(history(1)[0].event.payload) | {"schema": 3}
    topic.produce(settings.topic_updates, Record(b"1", json.dumps(newer).encode(), []))

    with pytest.raises(NewerSchema, match=r"partition \d+ offset 0"):
        workers.run_copy(store.replica, store.name, Stop())

    assert store.replica.positions(settings.topic_updates) == {}


def test_a_position_that_fell_out_of_the_log_stops_the_copy_loudly(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """R10."""
    topic.produce(settings.topic_updates, record(history(1)[0]))
    (there,) = topic.records(settings.topic_updates)
    store.replica.apply([], settings.topic_updates, {there.partition(): 1000})

    part = there.partition()
    with pytest.raises(PositionLost, match=rf"partition {part}: it ends at 1, before the position 1000"):
        workers.run_copy(store.replica, store.name, Stop())


def test_records_that_retention_took_unread_stop_the_copy_and_the_gap_is_named(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """R10."""
    settings = settings.replace(topic_updates=settings.topic_updates + "-plain")
    topic.make_plain(settings.topic_updates)
    workers = workers.with_settings(settings)
    topic.produce(settings.topic_updates, *(record(c) for c in history(1, 8)))
    store.replica.apply([], settings.topic_updates, {0: 2})
    admin = kafka.admin(settings)
    (gone,) = admin.delete_records([TopicPartition(settings.topic_updates, 0, 5)]).values()
    gone.result(60)

    with pytest.raises(PositionLost, match=r"partition 0: offsets 2 to 4 are gone \(3 records\)") as lost:
        workers.run_copy(store.replica, store.name, Stop())

    assert "replicate --rebuild" in (lost.value.fix or "")
    assert store.replica.positions(settings.topic_updates) == {0: 2}


def test_a_copy_starts_from_its_own_positions_even_where_the_group_knows_none(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """R11."""
    topic.produce(settings.topic_updates, *(record(c) for c in history(1, 10)))
    records = topic.records(settings.topic_updates)
    store.replica.apply([], settings.topic_updates, {records[0].partition(): 10})
    more = history(1, 11)[-1]
    counting = Faulty(store.replica, 0)

    workers.copy(counting, f"never-seen-{store.name}")
    topic.produce(settings.topic_updates, record(more))

    until("it was read", lambda: counting.events > 0)
    assert rows(store.replica) == expected(more)
    assert counting.events == 1


class Faulty:
    """A real copy whose database is away for the first tries to apply."""

    def __init__(self, replica: Replica, outages: int, *, forget_positions: bool = False) -> None:
        self._replica = replica
        self._forget = forget_positions
        self.outages = outages
        self.events = 0
        self.written = 0

    def begin(self, topic: str) -> dict[int, int]:
        return {} if self._forget else self._replica.begin(topic)

    def applying(self, events: Sequence[ReceivedEvent]) -> Callable[[str, Positions], Applied]:
        def write(topic: str, positions: Positions) -> Applied:
            if self.outages > 0:
                self.outages -= 1
                raise TemporaryError("away", dependency="postgres")
            applied = self._replica.apply(events, topic, positions)
            self.events += len(events)
            self.written += applied.written
            return applied

        return write

    def scan(self, after_id: int, limit: int) -> list[Row]:
        return self._replica.scan(after_id, limit)

    def rows(self, ids: Sequence[int]) -> list[Row]:
        return self._replica.rows(ids)


def test_an_outage_of_the_copys_database_is_waited_out_and_nothing_is_dead_lettered(
    store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    """R7."""
    changes = history(1, 3)
    topic.produce(settings.topic_updates, record(changes[0]))
    away = Faulty(store.replica, 3)
    workers.copy(away, store.name)
    until("the outage was met", lambda: away.outages < 3)

    topic.produce(settings.topic_updates, *(record(c) for c in changes[1:]))

    until("the copy has caught up", lambda: rows(store.replica) == expected(changes[-1]))
    assert topic.records(settings.topic_dead) == []


def test_two_copies_share_the_partitions(
    store: Store, other_store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    one, two = Faulty(store.replica, 0), Faulty(other_store.replica, 0)
    workers.copy(one, store.name)
    workers.copy(two, store.name)
    changes = [history(i)[0] for i in range(1, 401)]

    def both_work() -> bool:
        topic.produce(settings.topic_updates, *(record(c) for c in changes))
        return one.events > 0 and two.events > 0

    until("both have partitions", both_work)
    until("all are there", lambda: rows(store.replica) == expected(*changes))
