"""The pipeline under load: the throughput of each step, and the latency of a change to topic and copy.

In each direction (PostgreSQL → MongoDB, MongoDB → PostgreSQL) customers are seeded with their events, the
relay drains them to a topic, and replicate applies that topic to the other database. The roles run as
separate processes, as a user starts them; beside each, a bare loop does the same work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson

from ..config import BACKENDS, Backend, Settings
from ..domain.customers import Customer, Stored, utc_now
from ..domain.events import Change, new_change
from ..kafka import client as kafka
from ..kafka import offsets
from ..kafka.publisher import Publisher, Record
from ..kafka.reader import Reader
from ..ports.customers import CustomerFilter
from ..stores import open_store
from ..transfer.seed import made_up, seed_customers
from . import latency, mongo, postgres, scratch
from .report import Measure
from .roles import Role, until

_BARE_INSERT = 20_000
_BATCH = 5000
_HOT = 2000
_PATIENCE = 280.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """The amount of work of a run."""

    events: int = 200_000
    seconds: float = 20.0
    rate: int = 500


def run(
    settings: Settings, sizes: Sizes, *, only: str = "", say: Callable[[str], None] = lambda _: None
) -> Iterator[Measure]:
    """Yield each measure at once, except those whose name does not contain `only`."""
    for source in BACKENDS:
        # Plain JSON, which the measuring reads itself; so no schema is registered for scratch topics either.
        plain = settings.replace(backend=source, event_format="json")
        yield from _Direction(plain, sizes, only, say).run()


class _Direction:
    """One direction: from one database through Kafka into the other."""

    def __init__(self, settings: Settings, sizes: Sizes, only: str, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._sizes = sizes
        self._only = only
        self._say = say
        self.source: Backend = settings.backend
        self.copy: Backend = settings.other_backend

    def run(self) -> Iterator[Measure]:
        drained = self._wants("seed") or self._wants("relay") or self._wants("apply")
        if drained:
            with scratch.databases(self._settings, *BACKENDS) as s, scratch.topics(s) as s:
                yield from self._drains(s)
        if self._wants("latency"):
            with scratch.databases(self._settings, *BACKENDS) as s, scratch.topics(s) as s:
                self._say(f"latency from {self.source} at {self._sizes.rate} writes/s")
                yield from latency.measure(s, self._sizes.seconds, self._sizes.rate)

    def _wants(self, step: str) -> bool:
        return self._only in step

    def _drains(self, settings: Settings) -> Iterator[Measure]:
        seeded = self._seed(settings)
        if self._wants("seed"):
            yield replace(seeded, bare=self._bare_seed())
        if not (self._wants("relay") or self._wants("apply")):
            return
        relayed = self._relay(settings)
        if self._wants("relay"):
            yield replace(relayed, bare=self._bare_relay(settings))
        if self._wants("apply"):
            yield replace(self._apply(settings, "distinct"), bare=self._bare_apply(settings))
            with self._listed_copy(settings) as s:
                listed = self._apply(s, "distinct, listed")
            with self._listed_copy(settings) as s:
                yield replace(listed, bare=self._bare_loop(s))
            with scratch.databases(self._settings, self.copy) as s, scratch.topics(s) as s:
                self._say("filling a topic with changes of few customers")
                _fill_hot(s, self._sizes.events)
                yield replace(self._apply(s, "hot"), bare=self._bare_apply(s))

    def _seed(self, settings: Settings) -> Measure:
        self._say(f"seeding {self._sizes.events:,} customers into {self.source}")
        with open_store(settings) as store:
            started = time.perf_counter()
            seed_customers(store.customers, self._sizes.events, 1)
            seconds = time.perf_counter() - started
        return Measure(f"seed {self.source}", _rate(self._sizes.events, seconds), "customers/s")

    def _bare_seed(self) -> float:
        seconds = 0.0
        with scratch.databases(self._settings, self.source) as s, self._bare(s, self.source) as bare:
            customers = _new_customers(self._sizes.events)
            while changes := list(islice(customers, _BARE_INSERT)):
                seconds += bare.insert(changes)
        return _rate(self._sizes.events, seconds)

    def _relay(self, settings: Settings) -> Measure:
        self._say(f"relay drains {self.source}")
        if self.source == "postgres":
            postgres.checkpoint(settings.postgres_url)
        client, topic, servers = kafka.admin(settings), settings.topic_updates, settings.kafka_servers
        with Reader(settings) as reader:
            parts = reader.partitions()

        def published() -> bool:
            # One request: Kafka must be as free to take events as it is for the bare loop.
            return sum(offsets.ends(client, topic, parts, servers).values()) >= self._sizes.events

        with Role(settings, "relay") as role:
            started = role.began("leading")
            seconds = until(published, _PATIENCE, "the relay drains the outbox") - started
            role.measure()
        name, value = f"relay from {self.source}", _rate(self._sizes.events, seconds)
        return Measure(name, value, "events/s", rss_mb=role.rss_mb, cpu_ms=role.cpu_ms(self._sizes.events))

    def _bare_relay(self, settings: Settings) -> float:
        if self.source == "mongo":
            mongo.mark_all_pending(settings.mongo_url)
        with scratch.topics(settings) as s, self._bare(s, self.source) as bare:
            producer = kafka.Producer(
                {
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": 2,
                    "partitioner": "murmur2_random",
                    "queue.buffering.max.messages": 200_000,
                    **s.kafka_connection,
                }
            )
            started = time.perf_counter()
            for page in bare.events(_BATCH):
                for key, value in page:
                    producer.produce(s.topic_updates, value, key)
                producer.flush()
            return _rate(self._sizes.events, time.perf_counter() - started)

    def _apply(self, settings: Settings, kind: str) -> Measure:
        self._say(f"replicate applies {kind} customers into {self.copy}")
        with open_store(settings, self.copy) as store:

            def applied() -> bool:
                positions = store.replica.positions(settings.topic_updates)
                return sum(positions.values()) >= self._sizes.events

            with Role(settings, "replicate", "--backend", self.copy) as role:
                started = role.began("assigned")
                seconds = until(applied, _PATIENCE, "replicate applies the topic") - started
                role.measure()
            rows = store.customers.count(CustomerFilter("include"))
        return Measure(
            f"apply into {self.copy}, {kind}",
            _rate(self._sizes.events, seconds),
            "events/s",
            rss_mb=role.rss_mb,
            cpu_ms=role.cpu_ms(self._sizes.events),
            detail=f"{rows:,} customers",
        )

    def _bare_apply(self, settings: Settings) -> float:
        with scratch.databases(settings, self.copy) as s:
            return self._bare_loop(s)

    def _bare_loop(self, settings: Settings) -> float:
        with self._bare(settings, self.copy) as bare:
            client = kafka.consumer(settings, "bench-bare", enable_partition_eof=False)
            try:
                client.subscribe([settings.topic_updates])
                messages = client.consume(1, _PATIENCE)
                started = time.perf_counter()
                done = 0
                while done < self._sizes.events:
                    messages += client.consume(_BATCH - len(messages), 0.1)
                    bare.apply(_newest(messages))
                    done, messages = done + len(messages), []
                return _rate(self._sizes.events, time.perf_counter() - started)
            finally:
                client.close()

    @contextmanager
    def _listed_copy(self, settings: Settings) -> Iterator[Settings]:
        """A new copy of the same topics, with the indexes for lists."""
        with scratch.databases(settings, self.copy) as s:
            with open_store(s, self.copy) as store:
                store.index_lists()
            yield s

    def _bare(self, settings: Settings, backend: Backend) -> Any:
        bare = postgres.Bare if backend == "postgres" else mongo.Bare
        return closing(bare(settings.url(backend)))


def _newest(messages: list[Any]) -> list[tuple[dict[str, Any], bytes]]:
    """The newest state of each customer, parsed, and its bytes."""
    newest: dict[int, tuple[dict[str, Any], bytes]] = {}
    for message in messages:
        value = message.value()
        after = orjson.loads(value)["after_change"]
        known = newest.get(after["id"])
        if known is None or after["version"] > known[0]["version"]:
            newest[after["id"]] = after, value[value.rindex(b'"after_change":') + 15 : -1]
    return list(newest.values())


def _new_customers(count: int) -> Iterator[Change]:
    now = utc_now()
    for number, fields in enumerate(made_up(count, 1), 1):
        customer = Customer(number, fields, False, 1, now, "bench", now, "bench")
        yield new_change("created", None, customer, actor="bench")


def fill(settings: Settings, kind: str, count: int) -> None:
    """A topic with `count` events: of as many new customers (`distinct`), or of few (`hot`)."""
    if kind == "hot":
        _fill_hot(settings, count)
        return
    changes = _new_customers(count)
    with Publisher(settings) as publisher:
        while some := list(islice(changes, _BATCH)):
            records = [Record(b"%d" % c.after.id, c.event.payload, []) for c in some]
            publisher.send(settings.topic_updates, records)


def _fill_hot(settings: Settings, count: int) -> None:
    """A topic with `count` events about few customers, each changed many times."""
    current = list(_new_customers(min(_HOT, count)))
    with Publisher(settings) as publisher:
        sent = 0
        while sent < count:
            some = current[: count - sent]
            records = [Record(b"%d" % c.after.id, c.event.payload, []) for c in some]
            sent += publisher.send(settings.topic_updates, records)
            current = [_changed(change) for change in current]


def _changed(change: Change) -> Change:
    last = change.after
    before = Stored(last.id, last.version, last.deleted, change.doc)
    fields = replace(last.fields, phone=f"+1 555 {last.version:07d}")
    after = last.changed_to(fields=fields, deleted=False, now=utc_now(), by="bench")
    return new_change("updated", before, after, actor="bench")


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds)
