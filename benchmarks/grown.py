"""A database of so many customers: made by the code of `custsvc seed`, its events sent, with statistics."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from multiply import multiply
from pymongo import MongoClient

from custsvc.bench import mongo, postgres, proc
from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.domain.search import asked
from custsvc.errors import ConfigurationError
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores import open_store
from custsvc.stores.mongo.outbox import BY_PENDING
from custsvc.stores.mongo.queries import event_key
from custsvc.transfer.seed import seed_customers

BY = Caller("bench")
# So many customers have a word that nobody else has.
RARE = 100
# So many are made as `custsvc seed` makes them, the rest are copies of them.
SEEDED = 500_000
_TABLES = ("customer", "customer_event")
_AT_ONCE = 20_000
# A share of dead rows after which autovacuum would look at a table.
_DEAD = 0.2

Say = Callable[[str], None]


def rare(number: int) -> str:
    """The word that only this customer has."""
    return f"zyzzyva{number:05}"


@dataclass(slots=True)
class Grown:
    """An open database of `size` customers, with ids from 1 on. `changed`: rows that were, since a vacuum."""

    size: int
    settings: Settings
    store: Store
    random: random.Random
    changed: int = 0
    seeding: list[dict[str, float]] = field(default_factory=list)

    @property
    def service(self) -> CustomerService:
        return CustomerService(self.store.customers)

    def ids(self, count: int) -> list[int]:
        """Random customers, one of them perhaps twice."""
        return [self.random.randint(1, self.size) for _ in range(count)]

    def different_ids(self, count: int) -> list[int]:
        """Random customers, all different: `count`, or as many as there are."""
        return self.random.sample(range(1, self.size + 1), min(count, self.size))

    def tidy(self, *, now: bool = False) -> None:
        """What autovacuum would do by now; with `now` in any case."""
        if self.store.name == "postgres" and (now or self.changed > _DEAD * self.size):
            with closing(psycopg2.connect(self.settings.postgres_url)) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    for table in _TABLES:
                        cursor.execute(f"VACUUM (ANALYZE) {table}")
            self.changed = 0

    def mark_sent(self) -> None:
        """Mark all events as sent, without sending them."""
        if self.store.name == "postgres":
            self._mark_sent_postgres()
        else:
            self._mark_sent_mongo()

    def _mark_sent_postgres(self) -> None:
        with self.store.outbox.lead():  # makes the cursor
            pass
        with (
            closing(psycopg2.connect(self.settings.postgres_url)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(
                "UPDATE outbox_cursor SET prev = pg_current_snapshot(), target = NULL, last_seq = 0"
            )

    def _mark_sent_mongo(self) -> None:
        with MongoClient[dict[str, Any]](self.settings.mongo_url) as client:
            events = client.get_default_database()["customer_event"]
            if not events.find_one({"pending": {"$gt": 0}}, hint=BY_PENDING):
                return
            for first in range(0, self.size + 1, _AT_ONCE):
                part = {"_id": {"$gte": event_key(first, 0), "$lt": event_key(first + _AT_ONCE, 0)}}
                events.update_many(part, {"$unset": {"pending": ""}}, hint="_id_")


@contextmanager
def filled(
    settings: Settings, size: int, database: int, say: Say, *, lists_last: bool = False
) -> Iterator[Grown]:
    """This database with so many customers; those missing are made. `database`: the server's process.

    `lists_last`: the indexes of lists are made when all customers are there, which takes half the time, and
    makes them smaller than growth would.
    """
    with open_store(settings) as store:
        store.migrate(lists=not lists_last)
        store.claim_role("source")
        grown = Grown(size, settings, store, random.Random(size))  # noqa: S311 - which customers are read
        there = store.customers.count(CustomerFilter("include"))
        if there < size:
            if there:
                raise ConfigurationError(
                    f"the database of {size:,} customers has {there:,}: an earlier run was interrupted",
                    fix="remove it, or the folder of its server",
                )
            _fill(grown, database, say)
        if lists_last:
            say(f"{size:,}: making the indexes of lists")
            store.index_lists()
        if not store.customers.count(CustomerFilter().asking(asked(rare(0)))):
            for number in range(RARE):
                grown.service.create(Fields(f"Only {rare(number)}", f"{rare(number)}@example.com"), BY)
        if there < size:
            say(f"{size:,}: vacuum and statistics")
            grown.tidy(now=True)
        say(f"{size:,}: ready")
        yield grown


def database_of(settings: Settings, size: int) -> Settings:
    """Settings of the database of this size on this server, made if it is not there."""
    name = f"custsvc_growth_{size}"
    if settings.backend == "mongo":
        return settings.replace(mongo_url=mongo.create_database(settings.mongo_url, name))
    with closing(psycopg2.connect(settings.postgres_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        there = cursor.fetchone()
    if not there:
        return settings.replace(postgres_url=postgres.create_database(settings.postgres_url, name))
    address = settings.postgres_url
    return settings.replace(postgres_url=address[: address.rindex("/") + 1] + name)


def _fill(grown: Grown, database: int, say: Say) -> None:
    """Make all customers: by seeding, then by copies of what was seeded; all events are sent in the end."""
    seeded = min(grown.size, SEEDED)
    tenths = _Tenths(grown, 0, seeded, database, say)
    seed_customers(grown.store.customers, seeded, 1, progress=tenths.add)
    say(f"{grown.size:,}: marking the events as sent")
    grown.mark_sent()
    if seeded < grown.size:
        url = grown.settings.url(grown.settings.backend)
        tenths = _Tenths(grown, seeded, grown.size, database, say)
        multiply(grown.store, url, seeded, grown.size, tenths.add)
        grown.mark_sent()


class _Tenths:
    """Notes for each tenth of the new customers how long it took, and in whose processor time."""

    def __init__(self, grown: Grown, there: int, size: int, database: int, say: Say) -> None:
        self._grown = grown
        self._there = self._at = there
        self._size = size
        self._database = database
        self._say = say
        self._then = self._now()

    def _now(self) -> tuple[float, ...]:
        return time.monotonic(), time.process_time(), proc.processor_s(self._database) or 0.0

    def add(self, number: int) -> None:
        """So many more are there."""
        self._there += number
        part = self._there - self._at
        if part < self._size / 10 and self._there < self._size:
            return
        now = self._now()
        seconds, ours, theirs = (a - b for a, b in zip(now, self._then, strict=True))
        self._grown.seeding.append(
            {
                "customers": self._there,
                "per_s": round(part / seconds),
                "ours_us": round(ours / part * 1e6, 1),
                "database_us": round(theirs / part * 1e6, 1),
            }
        )
        self._say(f"{self._grown.size:,}: {self._there:,} are there, {part / seconds:,.0f} a second")
        self._at, self._then = self._there, now


def sizes(store: Store, url: str) -> dict[str, dict[str, int]]:
    """Bytes of the tables and each of their indexes, as they grew: nothing is written anew for it."""
    return _of_postgres(url) if store.name == "postgres" else _of_mongo(url)


def _of_postgres(url: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        for table in _TABLES:
            cursor.execute("SELECT pg_table_size(%s)", (table,))
            found[table] = {"table": cursor.fetchall()[0][0]}
            cursor.execute(
                "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index "
                "WHERE indrelid = %s::regclass ORDER BY 2 DESC",
                (table,),
            )
            found[table] |= dict(cursor.fetchall())
    return found


def _of_mongo(url: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    with MongoClient[dict[str, Any]](url) as client:
        client.admin.command("fsync")
        for table in _TABLES:
            stats = client.get_default_database().command("collStats", table)
            found[table] = {"table": stats["storageSize"] - stats.get("freeStorageSize", 0)}
            found[table] |= dict(sorted(stats["indexSizes"].items(), key=lambda each: -each[1]))
    return found


def per_customer(found: dict[str, dict[str, int]], customers: int) -> Sequence[tuple[str, float, float]]:
    """For each table its bytes and those of its indexes, for each customer."""
    return [
        (table, parts["table"] / customers, (sum(parts.values()) - parts["table"]) / customers)
        for table, parts in found.items()
    ]
