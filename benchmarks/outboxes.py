"""The outbox that a comparison drains: filled once, read from its beginning in each turn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import psycopg2
from bson import Int64
from pymongo import MongoClient
from pymongo.write_concern import WriteConcern

from custsvc.bench import mongo, postgres
from custsvc.bench.latency import Writes
from custsvc.bench.roles import until
from custsvc.config import Backend, Settings
from custsvc.domain.customers import Customer, Fields, Stored, utc_now
from custsvc.domain.events import new_change
from custsvc.service.customers import Caller
from custsvc.stores import open_store
from custsvc.transfer.seed import seed_customers

PUBLICATION = "peer_publication"
_ORIGIN = "peer_origin"
_OPLOG_MB = 4000.0
_FIRST_ID = 1_000_000  # above those of seeded customers


def prepare_postgres(url: str) -> None:
    """Let the server, once it is started again, write what logical decoding needs."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET wal_level = logical")


def prepare_mongo(url: str) -> None:
    """An oplog that holds a backlog of 200,000 customers and their events."""
    with MongoClient[dict[str, Any]](url) as client:
        client.admin.command("replSetResizeOplog", 1, size=_OPLOG_MB)


class Postgres:
    """An outbox with a replication slot from before its first row, which each turn of a peer copies."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = psycopg2.connect(settings.url("postgres"))
        self._connection.autocommit = True
        self._turn = itertools.count(1)
        self._prefix = settings.url("postgres").rpartition("/")[2]
        self._run(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE customer_event")
        self._run("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", self._slot(0))

    def seed(self, count: int) -> None:
        with open_store(self._settings) as store:
            seed_customers(store.customers, count, 1)

    def rewind(self) -> str:
        """Make all events wait again; returns the name of a slot that has read none of them."""
        self._run("DELETE FROM outbox_cursor")
        self._drop_slots(but=self._slot(0))
        slot = self._slot(next(self._turn))
        self._run("SELECT pg_copy_logical_replication_slot(%s, %s)", self._slot(0), slot)
        postgres.checkpoint(self._settings.url("postgres"))
        return slot

    @contextmanager
    def writes(self, *, plain: bool) -> Iterator[Writes | None]:
        """The writes of a latency trial: those of custsvc's service, whoever reads them."""
        del plain
        yield None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._drop_slots()
        self._connection.close()

    def _slot(self, turn: int) -> str:
        return f"{self._prefix}_{turn}" if turn else f"{self._prefix}_{_ORIGIN}"

    def _drop_slots(self, but: str = "") -> None:
        """Drop this database's slots, without which it can be dropped, once no sender uses them."""
        for slot in self._slots():
            if slot != but:
                until(partial(self._is_left, slot), 30, f"{slot} is left")
                self._run("SELECT pg_drop_replication_slot(%s)", slot)

    def _is_left(self, slot: str) -> bool:
        return slot not in self._slots("AND active")

    def _slots(self, which: str = "") -> list[str]:
        query = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
        with self._connection.cursor() as cursor:
            cursor.execute(f"{query} {which}")
            return [name for (name,) in cursor]

    def _run(self, statement: str, *values: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)


class Mongo:
    """An outbox whose change stream each turn of a peer reads from the time before its first document."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def seed(self, count: int) -> None:
        with open_store(self._settings) as store:
            seed_customers(store.customers, count, 1)

    def rewind(self) -> str:
        """Make all events wait again; returns the time from which a peer shall read."""
        mongo.mark_all_pending(self._settings.url("mongo"))
        return self._since

    @contextmanager
    def writes(self, *, plain: bool) -> Iterator[Writes | None]:
        """Custsvc's own writes; if `plain`, inserts of events alone.

        custsvc keeps an event within its customer until it is sent, where a connector does not find it.
        """
        if not plain:
            yield None
            return
        with MongoClient[dict[str, Any]](self._settings.url("mongo")) as client:
            yield _Events(client)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return


class _Events:
    """Writes that insert the event of a change, and no customer."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        database = client.get_default_database()
        self._events = database.get_collection("customer_event", write_concern=WriteConcern("majority"))
        self._ids = itertools.count(_FIRST_ID)
        self._known: dict[int, Customer] = {}

    def create(self, fields: Fields, caller: Caller, /) -> Stored:
        now = utc_now()
        customer = Customer(next(self._ids), fields, False, 1, now, caller.actor, now, caller.actor)
        return self._insert("created", None, customer)

    def replace(self, customer_id: int, fields: Fields, caller: Caller, /) -> Stored:
        last = self._known[customer_id]
        before = Stored(last.id, last.version, last.deleted, last.encode())
        after = last.changed_to(fields=fields, deleted=False, now=utc_now(), by=caller.actor)
        return self._insert("updated", before, after)

    def _insert(self, op: str, before: Stored | None, after: Customer) -> Stored:
        change = new_change(op, before, after, actor=after.updated_by)
        event = change.event
        key = {"customer_id": Int64(event.customer_id), "version": Int64(event.version)}
        self._events.insert_one({"_id": key, "payload": event.payload.decode()})
        self._known[after.id] = after
        return Stored(after.id, after.version, after.deleted, change.doc)


OF: dict[Backend, type[Postgres | Mongo]] = {"postgres": Postgres, "mongo": Mongo}
