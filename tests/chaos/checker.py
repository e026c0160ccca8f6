"""Judges a run from outside: reads the topic, both databases and the mails with the bare drivers.

It uses nothing of custsvc, so a mistake there cannot hide here. The invariants:

- durable: each acknowledged write is at the source, at its version or a later one;
- complete and ordered: per customer, the topic's first occurrences are versions 1, 2, 3 … up to the
  source's, all in one partition;
- converged: the copy's documents are the source's, byte for byte;
- one effect: no mail was accepted twice;
- a webhook endpoint got every event that it asked for, at least once, first ones in order per customer;
- and for long runs: no version of the copy ever fell, no two writers were told the same version, nothing was
  put aside, no role met something that it did not expect.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg2
import pymongo
from confluent_kafka import Consumer, TopicPartition

UPDATES = "MICROSERVICE-CUSTOMER-UPDATES"


@dataclass
class Findings:
    """The observed records, and everything that is wrong with them."""

    customers: int = 0
    records: int = 0
    repeats: int = 0
    mails: int = 0
    calls: int = 0
    problems: list[str] = field(default_factory=list)

    def wrong(self, text: str) -> None:
        self.problems.append(text)


def read_postgres(url: str, only: int | None = None) -> dict[int, tuple[int, str]]:
    """Customers, or one of them, as {id: (version, document)}."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, version, doc FROM customer WHERE %s IS NULL OR id = %s", (only, only))
            return {i: (version, doc) for i, version, doc in cursor}
    finally:
        connection.close()


def read_mongo(url: str, only: int | None = None) -> dict[int, tuple[int, str]]:
    """Customers, or one of them, as {id: (version, document)}."""
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        which = {} if only is None else {"_id": only}
        rows = client.get_default_database().customer.find(which, {"version": 1, "doc": 1})
        return {int(row["_id"]): (int(row["version"]), row["doc"]) for row in rows}


def read_database(backend: str, url: str) -> dict[int, tuple[int, str]]:
    """Everything in one of the databases."""
    return read_postgres(url) if backend == "postgres" else read_mongo(url)


def read_topic(servers: str, topic: str = UPDATES) -> list[tuple[int, int, int]]:
    """Every event as (partition, customer, version), in the order of offsets within each partition."""
    events = (
        (part, json.loads(value or b"")) for part, _, value in read_records(servers, topic) if readable(value)
    )
    return [(part, event["customer_id"], event["version"]) for part, event in events]


def readable(value: bytes | None) -> bool:
    """Whether a record holds JSON at all: tests put some there that does not."""
    try:
        return isinstance(json.loads(value or b""), dict)
    except ValueError:
        return False


def connection(address: str) -> dict[str, str]:
    """Kafka's `user:password@host:port`, or without the user, as its own client is told it."""
    login, _, servers = address.rpartition("@")
    if not login:
        return {"bootstrap.servers": servers}
    user, _, password = map(unquote, login.partition(":"))
    how = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
    return {"bootstrap.servers": servers, **how, "sasl.username": user, "sasl.password": password}


def read_records(servers: str, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    """Every record as (partition, key, value), in the order of offsets within each partition."""
    client = Consumer({**connection(servers), "group.id": "checker", "enable.auto.commit": False})
    found: list[tuple[int, bytes | None, bytes | None]] = []
    try:
        parts = client.list_topics(topic, timeout=60).topics[topic].partitions
        ends = {p: client.get_watermark_offsets(TopicPartition(topic, p), timeout=60) for p in parts}
        left = {p for p, (low, high) in ends.items() if low < high}
        client.assign([TopicPartition(topic, p, ends[p][0]) for p in left])
        while left:
            for message in client.consume(5000, 1.0):
                assert message.error() is None, message.error()
                part, offset = message.partition(), message.offset()
                assert part is not None
                assert offset is not None
                found.append((part, message.key(), message.value()))
                if offset + 1 >= ends[part][1]:
                    left.discard(part)
    finally:
        client.close()
    return found


def read_mails(folder: Path) -> list[str]:
    """The Message-ID of every mail that the catcher accepted."""
    return [str(message_from_bytes(path.read_bytes())["Message-ID"]) for path in folder.rglob("*.eml")]


def check(
    source: dict[int, tuple[int, str]],
    copy: dict[int, tuple[int, str]],
    topic: list[tuple[int, int, int]],
    acknowledged: dict[int, int],
    mails: list[str],
    *,
    grew: Sequence[int] = (),
) -> Findings:
    """Hold all of it together. `acknowledged`: per customer the highest version a client was told.

    `grew`: the numbers of partitions that the topic had before each growth.
    """
    found = Findings(customers=len(source), records=len(topic), mails=len(mails))
    for customer, version in acknowledged.items():
        stored = source.get(customer)
        if stored is None or stored[0] < version:
            found.wrong(f"lost: customer {customer} v{version} was acknowledged, the source has {stored}")
    _check_topic(source, topic, found, grew)
    for customer in source.keys() | copy.keys():
        if source.get(customer) != copy.get(customer):
            found.wrong(f"customer {customer}: source {source.get(customer)}, copy {copy.get(customer)}")
    for message_id, count in Counter(mails).items():
        if count > 1:
            found.wrong(f"mail {message_id} was accepted {count} times")
    return found


def _check_topic(
    source: dict[int, tuple[int, str]],
    topic: list[tuple[int, int, int]],
    found: Findings,
    grew: Sequence[int],
) -> None:
    reached: dict[int, int] = defaultdict(int)
    homes: dict[int, set[int]] = defaultdict(set)
    for part, customer, _ in topic:
        homes[customer].add(part)
    for customer, parts in homes.items():
        if parts - {max(parts), *(max(parts) % before for before in grew)}:
            found.wrong(f"customer {customer} is in partitions {sorted(parts)}")
    # A growth moves customers to added partitions only, and first occurrences go on there.
    for _, customer, version in sorted(topic, key=lambda each: each[0]) if grew else topic:
        if version <= reached[customer]:
            found.repeats += 1
        elif version == reached[customer] + 1:
            reached[customer] = version
        else:
            found.wrong(f"customer {customer}: v{version} came after v{reached[customer]}")
            reached[customer] = version
    for customer, (version, _) in source.items():
        if reached[customer] != version:
            found.wrong(f"customer {customer} is at v{version}, the topic ends at v{reached[customer]}")
    for customer in reached.keys() - source.keys():
        found.wrong(f"customer {customer} is on the topic, but not at the source")


# -- what a long run is judged by as well ------------------------------------------------------------------

_FALLS = """
    CREATE TABLE chaos_fall (id bigint, was bigint, becomes bigint);
    CREATE FUNCTION chaos_watch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' OR NEW.version < OLD.version THEN
            INSERT INTO chaos_fall
            VALUES (OLD.id, OLD.version, CASE TG_OP WHEN 'DELETE' THEN 0 ELSE NEW.version END);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_watch AFTER UPDATE OR DELETE ON customer FOR EACH ROW EXECUTE FUNCTION chaos_watch();
"""


def watch_falls(backend: str, url: str) -> Any:
    """Have a copy remember each version that falls; what `check_falls` needs, None while there is no copy."""
    if backend == "postgres":
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('customer') IS NOT NULL")
            if cursor.fetchone() == (True,):
                cursor.execute(_FALLS)
                return True
        return None
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        return client.admin.command("hello")["operationTime"]


def check_falls(backend: str, url: str, since: Any, found: Findings) -> None:
    """No customer of the copy ever went back to an earlier version, nor away."""
    if backend == "postgres":
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id, was, becomes FROM chaos_fall")
            falls = cursor.fetchall()
    else:
        falls = list(_mongo_falls(url, since))
    for customer, was, becomes in falls:
        found.wrong(f"the copy's customer {customer} fell from v{was} to v{becomes}")


def _mongo_falls(url: str, since: Any) -> Iterator[tuple[int, int, int]]:
    """Replays every change of the copy's customers from the server's own log."""
    at: dict[int, int] = {}
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        customers = client.get_default_database().customer
        with customers.watch(start_at_operation_time=since, max_await_time_ms=2000) as changes:
            while (change := changes.try_next()) is not None:
                customer = int(change["documentKey"]["_id"])
                document = change.get("fullDocument") or change.get("updateDescription", {}).get(
                    "updatedFields", {}
                )
                version = 0 if change["operationType"] == "delete" else int(document.get("version", 1 << 62))
                if version < at.get(customer, 0):
                    yield customer, at[customer], version
                at[customer] = version if version < 1 << 62 else at.get(customer, 0)


def check_told(told: dict[int, list[int]], source: dict[int, tuple[int, str]], found: Findings) -> None:
    """No update was lost: no two writers were told the same version of a customer, nor one that never was."""
    for customer, versions in told.items():
        last = source.get(customer, (0, ""))[0]
        for version, count in Counter(versions).items():
            if count > 1:
                found.wrong(f"{count} writers were told that they made v{version} of customer {customer}")
        if max(versions) > last:
            found.wrong(f"v{max(versions)} of customer {customer} was acknowledged, the source has v{last}")


_OPEN = ("queued", "claimed", "handing_over", "deferred")


def mail_states(backend: str, url: str) -> dict[str, int]:
    """How many notifications are in each state."""
    if backend == "postgres":
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT state, count(*) FROM notification GROUP BY state ORDER BY state")
            return dict(cursor.fetchall())
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        groups = client.get_default_database().notification.aggregate(
            [{"$group": {"_id": "$state", "count": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
        )
        return {group["_id"]: group["count"] for group in groups}


def mails(backend: str, url: str) -> list[dict[str, Any]]:
    """Every notification: its id, state, rule, customer_id and text."""
    names = ("id", "state", "rule", "customer_id", "text")
    if backend == "postgres":
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id, state, rule, customer_id, text FROM notification")
            return [dict(zip(names, row, strict=True)) for row in cursor]
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        rows = client.get_default_database().notification.find()
        return [{**{name: row.get(name) for name in names}, "id": row["_id"]} for row in rows]


def open_mails(backend: str, url: str) -> int:
    """How many notifications have no end yet."""
    states = mail_states(backend, url)
    return sum(states.get(state, 0) for state in _OPEN)


def calls_of(bodies: Iterable[bytes]) -> list[tuple[int, int]]:
    """The calls of a webhook endpoint as (customer, version), as they arrived."""
    events = (json.loads(body) for body in bodies)
    return [(event["customer_id"], event["version"]) for event in events]


def check_calls(wanted: Iterable[tuple[int, int]], calls: Iterable[tuple[int, int]], found: Findings) -> None:
    """A webhook endpoint got every version of `wanted`, at least once; first ones in order per customer."""
    seen: dict[int, list[int]] = defaultdict(list)
    for customer, version in calls:
        found.calls += 1
        if version in seen[customer]:
            continue
        if seen[customer] and version < seen[customer][-1]:
            found.wrong(f"webhook: v{version} of customer {customer} came first after v{seen[customer][-1]}")
        seen[customer].append(version)
    for customer, version in wanted:
        if version not in seen[customer]:
            found.wrong(f"webhook: v{version} of customer {customer} never came")


def check_dead(servers: str, found: Findings, topic: str = UPDATES) -> None:
    """No record was put aside: all of them were good."""
    dead = read_records(servers, f"{topic}-DEAD")
    if dead:
        found.wrong(f"{len(dead)} records are on the dead-letter topic, the first one {dead[0]}")


def check_logs(logs: list[Path], found: Findings) -> None:
    """No role has met something that it did not expect."""
    for log in logs:
        text = log.read_text(errors="replace") if log.exists() else ""
        if "Traceback (most recent call last)" in text:
            at = text.index("Traceback (most recent call last)")
            found.wrong(f"{log.name}: {text[max(0, at - 200) : at + 1500]}")


# -- a backup ----------------------------------------------------------------------------------------------

_TABLES = {"postgres": ("customer", "replica_position"), "mongo": ("customer", "position")}

Dump = dict[str, list[Any]]


def dump(backend: str, url: str) -> Dump:
    """A copy's customers and positions, for `restore`."""
    if backend == "postgres":
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            tables: Dump = {}
            for table in _TABLES[backend]:
                cursor.execute(f"SELECT to_jsonb(t)::text FROM {table} t")
                tables[table] = [row for (row,) in cursor]
            return tables
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        return {table: list(database[table].find()) for table in _TABLES[backend]}


def restore(backend: str, url: str, tables: Dump) -> None:
    """Put a copy back to what it was."""
    if backend == "postgres":
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            for table, rows in tables.items():
                cursor.execute(f"TRUNCATE {table}")
                cursor.execute(
                    f"INSERT INTO {table} SELECT r.* FROM unnest(%s) AS t (row),"
                    f" jsonb_populate_record(NULL::{table}, t.row::jsonb) r",
                    (rows,),
                )
        return
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        for table, rows in tables.items():
            database[table].delete_many({})
            database[table].insert_many(rows)
