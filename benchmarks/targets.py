"""Where events arrive: waits until all have, and measures from the first one to the last."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Self

import connectors
import orjson
import psycopg2
from confluent_kafka import TopicPartition
from meter import Result, Turn
from pymongo import MongoClient

from custsvc.bench import proc
from custsvc.bench.roles import until
from custsvc.config import Backend, Settings
from custsvc.errors import CustsvcError
from custsvc.kafka import client as kafka
from custsvc.kafka.reader import Reader

_PATIENCE = 280.0
_OURS = "custsvc"
_FIRST = "the first event is on the topic"

Place = tuple[int, int]  # customer and version


class _Start(NamedTuple):
    """What was seen when the first events had arrived."""

    at: float
    events: int
    cpu_s: float
    database_cpu_s: float


def drained(settings: Settings, turn: Turn, events: int, database: int) -> Result:
    """Wait until this many events are on the topic. `database`: the process id of the database."""
    with Reader(settings) as topic:
        parts = topic.partitions()

        def sent() -> int:
            return sum(high for _, high in topic.marks(parts).values())

        _until(lambda: sent() > 0, turn, _FIRST)
        start = _start(turn, sent(), database)
        half = (events + start.events) // 2
        middle = _until(lambda: sent() >= half, turn, "half of the events are on the topic")
        seen = sent()
        end = _until(lambda: sent() >= events, turn, "all events are on the topic")
        later = _rate(events - seen, end - middle) if seen < events else None
        result = _result(start, end, turn, events, database, later)
        if (most := sent()) != events:
            raise CustsvcError(f"{most:,} events are on the topic instead of {events:,}")
        return result


def warmed_up(settings: Settings, turn: Turn, events: int) -> float:
    """Wait until this many events are on the topic; returns the monotonic time of the first."""
    with Reader(settings) as topic:
        parts = topic.partitions()

        def sent() -> int:
            return sum(high for _, high in topic.marks(parts).values())

        first = _until(lambda: sent() > 0, turn, _FIRST)
        _until(lambda: sent() >= events, turn, "the events to warm up are on the topic")
        return first


def applied(
    target: Postgres | Mongo, turn: Turn, last: Sequence[Place], events: int, database: int
) -> Result:
    """Wait until the last event of each partition is in the target, and so all before it are."""
    _until(target.has_any, turn, "the first change is in the copy")
    start = _start(turn, target.versions(), database)
    end = _until(lambda: target.has(last), turn, "the last change of each partition is in the copy")
    result = _result(start, end, turn, events, database, None)
    # Each customer's version counts its events; two tasks may end at different times.
    _until(lambda: target.versions() == events, turn, f"the copy has had {events:,} events", pause=0.5)
    return result


def last_of_each_partition(settings: Settings) -> list[Place]:
    """The customer and version of each partition's last event."""
    with Reader(settings) as topic:
        ends = {part: high for part, (_, high) in topic.marks().items() if high}
    found: list[Place] = []
    with closing(kafka.consumer(settings, "custsvc-bench-last")) as client:
        client.assign([TopicPartition(settings.topic_updates, part, end - 1) for part, end in ends.items()])
        deadline = time.monotonic() + 60
        while len(found) < len(ends) and time.monotonic() < deadline:
            for message in client.consume(len(ends), 0.5):
                if message.error() is None:
                    event = orjson.loads(message.value() or b"")
                    found.append((event["customer_id"], event["version"]))
    if len(found) != len(ends):
        raise CustsvcError(f"only {len(found)} of {len(ends)} partitions gave their last event")
    return found


class Postgres:
    """The copy in PostgreSQL: custsvc's table, or the peer's, which is made here."""

    def __init__(self, settings: Settings, name: str) -> None:
        # A constant of our own, in every statement below.
        self._table = "customer" if name.startswith(_OURS) else connectors.COPY
        self._connection = psycopg2.connect(settings.url("postgres"))
        self._connection.autocommit = True
        if not name.startswith(_OURS):
            with self._connection.cursor() as cursor:
                cursor.execute(connectors.COPY_TABLE)

    def has_any(self) -> bool:
        return bool(self._one(f"SELECT count(*) FROM (SELECT FROM {self._table} LIMIT 1) AS t"))  # noqa: S608

    def versions(self) -> int:
        """The versions of all customers, added up."""
        return int(self._one(f"SELECT coalesce(sum(version), 0) FROM {self._table}"))  # noqa: S608

    def has(self, places: Sequence[Place]) -> bool:
        query = f"SELECT count(*) FROM {self._table} WHERE (id, version) IN %s"  # noqa: S608
        return bool(self._one(query, (tuple(places),)) == len(places))

    def _one(self, query: str, values: tuple[Any, ...] = ()) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values)
            (found,) = cursor.fetchone() or (0,)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connection.close()


class Mongo:
    """The copy in MongoDB: custsvc's collection, or the peer's."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._client = MongoClient[dict[str, Any]](settings.url("mongo"))
        self._customers = self._client.get_default_database()[
            "customer" if name.startswith(_OURS) else connectors.COPY
        ]

    def has_any(self) -> bool:
        return self._customers.find_one({}, {"version": 1}) is not None

    def versions(self) -> int:
        """The versions of all customers, added up."""
        (found,) = list(
            self._customers.aggregate([{"$group": {"_id": None, "n": {"$sum": "$version"}}}])
        ) or [{"n": 0}]
        return int(found["n"])

    def has(self, places: Sequence[Place]) -> bool:
        found = self._customers.find({"_id": {"$in": [customer for customer, _ in places]}}, {"version": 1})
        return {(each["_id"], each["version"]) for each in found} == set(places)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()


OF: dict[Backend, type[Postgres | Mongo]] = {"postgres": Postgres, "mongo": Mongo}


def _start(turn: Turn, events: int, database: int) -> _Start:
    return _Start(time.monotonic(), events, turn.processor_s(), proc.processor_s(database) or 0.0)


def _result(start: _Start, end: float, turn: Turn, events: int, database: int, later: float | None) -> Result:
    counted = max(1, events - start.events)
    return Result(
        value=_rate(counted, end - start.at),
        start_s=start.at - turn.started,
        rss_mb=turn.peak_mb(),
        cpu_ms=(turn.processor_s() - start.cpu_s) / counted * 1e6,
        later=later,
        database_cpu_ms=((proc.processor_s(database) or 0.0) - start.database_cpu_s) / counted * 1e6,
    )


def _until(done: Callable[[], bool], turn: Turn, what: str, *, pause: float = 0.02) -> float:
    """As `until`, and look every second whether the process still does its work."""
    looked = time.monotonic()

    def check() -> bool:
        nonlocal looked
        if time.monotonic() - looked > 1:
            turn.check()
            looked = time.monotonic()
        return done()

    return until(check, _PATIENCE, what, pause=pause)


def _rate(count: int, seconds: float) -> float:
    return count / max(seconds, 0.001)
