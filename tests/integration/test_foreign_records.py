"""Anybody may write any record to a topic: no record ends a role, and each one is accounted for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from custsvc.config import Settings
from custsvc.copies.dead_letters import DeadLetterBox
from custsvc.copies.pipeline import pipeline, steps
from custsvc.copies.rebuild import Rebuild
from custsvc.copies.verify import verify
from custsvc.domain.received import decode
from custsvc.errors import BadEvent, DataRefused, NewerSchema, TooManyBadRecords
from custsvc.kafka import tail
from custsvc.kafka.feed import Feed
from custsvc.kafka.publisher import Record
from custsvc.kafka.reader import Reader
from custsvc.ports.store import Store
from custsvc.relay.guard import check_lineage
from custsvc.relay.resync import resync
from custsvc.runtime.loop import Stop
from tests.sizes import on_one, sizes
from tests.waiting import until

from .conftest import Topic, Workers
from .test_replicate import expected, history, record, rows


class RawName(str):
    """The name of a header that goes out as these bytes."""

    raw: bytes

    def __new__(cls, raw: bytes) -> RawName:
        name = super().__new__(cls, raw.decode("latin-1"))
        name.raw = raw
        return name

    def encode(self, *_: Any) -> bytes:
        return self.raw


def produce_raw(settings: Settings, topic: str, *records: tuple[bytes | None, bytes, bytes]) -> None:
    """Records of a key, a value and a header whose name may be any bytes: our own client sends text only."""
    from kafka import KafkaProducer  # with which botocore comes: a second in each process that imports it

    with closing(KafkaProducer(**_as_kafka_python(settings))) as producer:
        for key, value, name in records:
            producer.send(topic, key=key, value=value, headers=[(RawName(name), b"x")], partition=0).get(60)


def _as_kafka_python(settings: Settings) -> dict[str, Any]:
    """Where Kafka is and how to sign in there, as that client has it."""
    names = {"security.protocol": "security_protocol", "sasl.mechanism": "sasl_mechanism"}
    names |= {"sasl.username": "sasl_plain_username", "sasl.password": "sasl_plain_password"}
    properties = settings.kafka_connection
    found = {theirs: properties[ours] for ours, theirs in names.items() if ours in properties}
    return {"bootstrap_servers": properties["bootstrap.servers"], **found}


NOT_UTF8 = [b"\xff\xfe", b"ce_source\xc3", b"\x80", b"h\xed\xa0\x80"]


@pytest.mark.parametrize("name", NOT_UTF8)
@on_one("postgres")
def test_a_header_with_a_name_that_is_not_utf8_ends_no_role(
    name: bytes, store: Store, settings: Settings, workers: Workers, topic: Topic
) -> None:
    one, two, three = (history(i)[0] for i in (1, 2, 3))
    settings = settings.replace(topic_updates=settings.topic_updates + "-one")
    topic.make_plain(settings.topic_updates)
    workers = workers.with_settings(settings)
    topic.produce(settings.topic_updates, record(one))
    produce_raw(settings, settings.topic_updates, (b"9", b"no event", name), (b"2", two.event.payload, name))
    produce_raw(settings, settings.topic_dead, (b"9", b"no dead letter", name))
    topic.produce(settings.topic_updates, record(three))

    workers.copy(store.replica, store.name)

    until("the good ones are applied", lambda: rows(store.replica) == expected(one, two, three))
    with DeadLetterBox(settings) as box:
        (letter,) = until("the bad one is a dead letter", box.all)
        assert (letter.key, letter.value, letter.reason_class) == (b"9", b"no event", "bad-json")
        assert len(box.retry([letter]).done) == 1
    until("it came back", lambda: len(topic.records(settings.topic_updates)) == 5)
    seen = list(tail.watch(settings, start="beginning", leave_at_end=True))
    assert [each.event.customer_id for each in seen if each.event] == [1, 2, 3]
    check_lineage(settings, store)  # the relay's look at the topic's end
    with closing(Feed(settings)) as feed, feed.watch():
        found = [entry for batch in feed.catch_up(feed.beginning()) for entry in batch]
    assert [entry.customer_id for entry in found] == [1, 2, 3]


# -- what the database of a copy refuses -------------------------------------------------------------------


def refuse(store: Store, name: str) -> None:
    """Somebody has made a rule for the copy's table that one customer breaks, or, with `*`, every one."""
    if store.name == "postgres":
        rule = "false" if name == "*" else f"name <> '{name}'"
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute(f"ALTER TABLE customer ADD CONSTRAINT theirs CHECK ({rule}) NOT VALID")
        return
    rule_of: dict[str, Any] = {"no": "body"} if name == "*" else {"name": {"$ne": name}}
    database = store._connection.database  # type: ignore[attr-defined]
    database.command("collMod", "customer", validator=rule_of)


@pytest.fixture
def refusing(store: Store) -> Iterator[Callable[[str], None]]:
    yield lambda name: refuse(store, name)
    if store.name == "mongo":  # its databases are used again
        store._connection.database.command("collMod", "customer", validator={})  # type: ignore[attr-defined]


@pytest.mark.parametrize("bad", [{1}, {40}, {80}, {7, 8, 50}, set(range(1, 81, 2))], ids=str)
def test_a_record_that_the_database_of_the_copy_refuses_is_a_dead_letter_and_its_neighbours_are_applied(
    bad: set[int],
    store: Store,
    settings: Settings,
    workers: Workers,
    topic: Topic,
    refusing: Callable[[str], None],
) -> None:
    changes = [history(i, 2)[1] if i % 5 else history(i)[0] for i in range(1, 81)]
    changes = [c if i not in bad else history_named(i, "Refused") for i, c in enumerate(changes, 1)]
    refusing("Refused")
    topic.produce(settings.topic_updates, *map(record, changes))

    workers.copy(store.replica, store.name)

    good = [c for c in changes if c.after.id not in bad]
    until("the good ones are applied", lambda: rows(store.replica) == expected(*good))
    with DeadLetterBox(settings) as box:
        letters = until(
            "all bad ones are dead letters", lambda: len(found := box.all()) >= len(bad) and found
        )
    assert {int(each.key or b"0") for each in letters} == bad
    assert {each.reason_class for each in letters} == {"refused"}
    assert not any("Refused" in each.reason.replace("refuses", "") for each in letters)
    # And it goes on.
    (later,) = history(100)
    topic.produce(settings.topic_updates, record(later))
    until("the next is applied", lambda: rows(store.replica)[-1].id == 100)


def history_named(customer_id: int, name: str) -> Any:
    import dataclasses

    from custsvc.domain.customers import Fields
    from custsvc.domain.events import new_change

    customer = dataclasses.replace(history(customer_id)[0].after, fields=Fields(name))
    return new_change("created", None, customer, actor="me")


def test_a_database_that_refuses_everything_stops_the_copy_before_all_is_moved_away(
    store: Store, settings: Settings, workers: Workers, topic: Topic, refusing: Callable[[str], None]
) -> None:
    refusing("*")
    topic.produce(settings.topic_updates, *(record(history(i)[0]) for i in range(1, 41)))

    with pytest.raises(TooManyBadRecords, match="refuses"):
        workers.with_settings(settings.replace(max_bad_records=10)).run_copy(store.replica, "x", Stop())

    # The records before the limit are dead letters, and no position is past anything else.
    dead_letters = len(topic.records(settings.topic_dead))
    assert sum(store.replica.positions(settings.topic_updates).values()) == dead_letters <= 10


def test_a_rebuild_that_the_database_refuses_leaves_the_copy_as_it_was(
    store: Store, settings: Settings, topic: Topic, refusing: Callable[[str], None]
) -> None:
    if store.name == "mongo":
        pytest.skip("a shadow on MongoDB becomes the collection itself, and brings its own rules")
    topic.produce(settings.topic_updates, *(record(history(i)[0]) for i in range(1, 9)))
    refusing("v1 of 7")

    with pytest.raises(DataRefused, match="refuses this data"):
        Rebuild(settings, store, None).run()

    assert rows(store.replica) == []


# -- ends of partitions that hold no record -----------------------------------------------------------------


def produce_in_transactions(settings: Settings, *records: Record) -> None:
    """Each record by a transaction of its own, and one more that is given up: marks stand at every end."""
    producer = Producer({**settings.kafka_connection, "transactional.id": settings.topic_updates})
    producer.init_transactions(60)
    for each in records:
        producer.begin_transaction()
        producer.produce(settings.topic_updates, each.value, each.key, partition=each.partition)
        producer.commit_transaction(60)
    producer.begin_transaction()
    for part in range(settings.partitions):
        producer.produce(settings.topic_updates, b"given up", b"7", partition=part)
    producer.flush(60)
    producer.abort_transaction(60)


@on_one("postgres")
def test_marks_of_transactions_at_the_ends_hold_up_nobody(
    store: Store, settings: Settings, workers: Workers
) -> None:
    changes = [history(i)[0] for i in range(1, 9)]
    produce_in_transactions(settings, *(record(c)._replace(partition=i % 4) for i, c in enumerate(changes)))
    topic = settings.topic_updates
    with Reader(settings) as reader:
        marks = reader.marks()

    workers.copy(store.replica, store.name)

    until(
        "the copy is at the ends",
        lambda: store.replica.positions(topic) == {p: h for p, (_, h) in marks.items()},
    )
    assert rows(store.replica) == expected(*changes)
    # A reader to the end reaches it.
    assert len(list(tail.watch(settings, start="beginning", leave_at_end=True))) == 8
    with closing(Feed(settings)) as feed, feed.watch():
        assert sum(map(len, feed.catch_up(feed.beginning()))) == 8
    check_lineage(settings, store)
    source = settings.replace(backend="mongo" if store.name == "postgres" else "postgres")
    group = f"custsvc-copy-{store.name}"

    def lag() -> int:
        return sum(each["waiting"] for each in steps(source, store) if each["step"] == group)

    until("nothing waits", lambda: lag() == 0)


def test_an_end_without_records_is_neither_lag_nor_a_reason_to_wait(
    store: Store,
    opened: Callable[[str], Store],
    new_database: Callable[[], str],
    settings: Settings,
    workers: Workers,
) -> None:
    """The copy stands still, so nobody moves its positions past the marks."""
    copy = opened(new_database())
    change = history(1)[0]
    produce_in_transactions(settings, record(change)._replace(partition=0))
    copy.replica.apply([decode(change.event.payload, b"1")], settings.topic_updates, {0: 1})
    store.replica.apply([decode(c.event.payload, b"%d" % i) for i in (1, 2) for c in history(i)], "x", {})

    with pipeline(settings, store, copy) as way:
        report = verify(store.replica, copy.replica, way, patience=20.0)

    assert [(each.customer_id, each.kind) for each in report.differences] == [(2, "missing")]
    resync(settings, store)


# -- records of every kind ----------------------------------------------------------------------------------


_NASTY: Sequence[Any] = [
    None, True, 0, -1, 2**63 - 1, 2**63, 2**64 - 1, 1e308, -0.0, "", " ", "\0", "a\0b", "\u202e", "ﷺ" * 100,
    "x" * 401, "x" * 6_000, "🦊" * 2_000, "\\N", "\\.", "'", "$where", "0001-01-01T00:00:00.000Z",
    "9999-12-31T23:59:59.999Z", "2026-02-30T00:00:00.000Z", [], {}, [[]], {"a": {"b": [1, {"c": None}]}},
    {"": ""}, {"$gt": 1}, {"a.b": 1}, {"k": 2**64 - 1}, {"k": "\0"}, {"\0": 1},
    {f"k{n}": n for n in range(60)},
]  # fmt: skip
_OF_THE_CUSTOMER = sorted(orjson.loads(history(1)[0].doc).keys() - {"id", "version"})
_OF_THE_EVENT = sorted(
    orjson.loads(history(1)[0].event.payload).keys() - {"customer_id", "version", "after_change"}
)


def foreign(rng: random.Random, number: int) -> Record:
    """A record as somebody else might write it: an event with some fields wrong, or no event at all."""
    key = b"%d" % number
    event = orjson.loads(history(number)[0].event.payload)
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.6:
            event["after_change"][rng.choice(_OF_THE_CUSTOMER)] = rng.choice(_NASTY)
        else:
            event[rng.choice(_OF_THE_EVENT)] = rng.choice(_NASTY)
    if event.get("schema") not in (1, None):
        event["schema"] = rng.choice((0, -1, "1", True, 1.0, {}))  # a newer one stops a role, and has to
    value: bytes | None = orjson.dumps(event)
    if rng.random() < 0.2:
        value = rng.choice((None, b"", b"null", b"[]", rng.randbytes(rng.randrange(300)), b"[" * 900))
    elif rng.random() < 0.1:
        at = rng.randrange(len(value or b"x"))
        value = (value or b"")[:at] + rng.randbytes(3) + (value or b"")[at:]
    if rng.random() < 0.1:
        key = rng.choice((b"", b"\xff", b"0", b"-1", b"007", b"%d" % 2**70, b"x" * 5_000))
    kind = rng.choice((None, b"\xff", b"custsvc.customer.created.v1"))
    return Record(key, value, [("ce_type", kind)] if rng.random() < 0.5 else [])


def is_event(sent: Record) -> bool:
    try:
        return sent.value is not None and decode(sent.value, sent.key) is not None
    except (BadEvent, NewerSchema):
        return False


@sizes("count", 400, 200_000)
def test_every_foreign_record_is_applied_or_a_dead_letter_and_good_ones_pass(
    store: Store, settings: Settings, workers: Workers, topic: Topic, count: int
) -> None:
    seed = int(time.time()) if count > 1000 else 7
    rng = random.Random(seed)
    bad = [foreign(rng, 1_000_000 + n) for n in range(count)]
    good = [history(n)[0] for n in range(1, count + 1)]
    topic.produce(
        settings.topic_updates, *(r for b, g in zip(bad, good, strict=True) for r in (b, record(g)))
    )

    workers.with_settings(settings.replace(max_bad_records=10 * count)).copy(store.replica, store.name)

    readable = [each for each in bad if is_event(each)]
    unread = [each for each in bad if each.value is not None and not is_event(each)]
    assert len(readable) > count / 20, f"seed {seed}: the generator makes too few that can be read"

    def is_accounted_for() -> bool:
        with DeadLetterBox(settings) as box:
            letters = box.all()
        there = {row.id for row in rows(store.replica)}
        dead_letters = {(each.key, each.value) for each in letters}
        ids = {int(each.key or b"0"): each for each in readable}
        return (
            there >= {c.after.id for c in good}
            and all(i in there or (each.key, each.value) in dead_letters for i, each in ids.items())
            and all((each.key, each.value) in dead_letters for each in unread)
        )

    # To look at all of them takes a while.
    every = 0.05 + count / 20_000
    until(f"everything is accounted for (seed {seed})", is_accounted_for, 300 + count / 100, every=every)
    assert list(tail.watch(settings, start="beginning", leave_at_end=True))
