"""Judges a run from outside: reads the topic, both databases and the mails with the bare drivers.

It uses nothing of custsvc, so a mistake there cannot hide here. The invariants:

- durable: each acknowledged write is at the source, at its version or a later one;
- complete and ordered: per customer, the topic's first occurrences are versions 1, 2, 3 … up to the
  source's, all in one partition;
- converged: the copy's documents are the source's, byte for byte;
- one effect: no mail was accepted twice.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path

import psycopg2
import pymongo
from confluent_kafka import Consumer, TopicPartition

UPDATES = "MICROSERVICE-CUSTOMER-UPDATES"


@dataclass
class Findings:
    """What was seen, and everything that is wrong with it."""

    customers: int = 0
    records: int = 0
    repeats: int = 0
    mails: int = 0
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
    with pymongo.MongoClient(url) as client:
        which = {} if only is None else {"_id": only}
        rows = client.get_default_database().customer.find(which, {"version": 1, "doc": 1})
        return {int(row["_id"]): (int(row["version"]), row["doc"]) for row in rows}


def read_database(backend: str, url: str) -> dict[int, tuple[int, str]]:
    """Everything in one of the databases."""
    return read_postgres(url) if backend == "postgres" else read_mongo(url)


def read_topic(servers: str, topic: str = UPDATES) -> list[tuple[int, int, int]]:
    """Every event as (partition, customer, version), in the order of offsets within each partition."""
    events = ((part, json.loads(value)) for part, _, value in read_records(servers, topic) if readable(value))
    return [(part, event["customer_id"], event["version"]) for part, event in events]


def readable(value: bytes | None) -> bool:
    """Whether a record holds JSON at all: tests put some there that does not."""
    try:
        return isinstance(json.loads(value or b""), dict)
    except ValueError:
        return False


def read_records(servers: str, topic: str) -> list[tuple[int, bytes | None, bytes | None]]:
    """Every record as (partition, key, value), in the order of offsets within each partition."""
    client = Consumer({"bootstrap.servers": servers, "group.id": "checker", "enable.auto.commit": False})
    found = []
    try:
        parts = client.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {p: client.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in parts}
        left = {p for p, (low, high) in ends.items() if low < high}
        client.assign([TopicPartition(topic, p, ends[p][0]) for p in left])
        while left:
            for message in client.consume(5000, 1.0):
                assert message.error() is None, message.error()
                part = message.partition()
                found.append((part, message.key(), message.value()))
                if message.offset() + 1 >= ends[part][1]:
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
) -> Findings:
    """Hold all of it together. `acknowledged`: per customer the highest version a client was told."""
    found = Findings(customers=len(source), records=len(topic), mails=len(mails))
    for customer, version in acknowledged.items():
        stored = source.get(customer)
        if stored is None or stored[0] < version:
            found.wrong(f"lost: customer {customer} v{version} was acknowledged, the source has {stored}")
    _check_topic(source, topic, found)
    for customer in source.keys() | copy.keys():
        if source.get(customer) != copy.get(customer):
            found.wrong(f"customer {customer}: source {source.get(customer)}, copy {copy.get(customer)}")
    for message_id, count in Counter(mails).items():
        if count > 1:
            found.wrong(f"mail {message_id} was accepted {count} times")
    return found


def _check_topic(
    source: dict[int, tuple[int, str]], topic: list[tuple[int, int, int]], found: Findings
) -> None:
    reached: dict[int, int] = defaultdict(int)
    homes: dict[int, int] = {}
    for part, customer, version in topic:
        if homes.setdefault(customer, part) != part:
            found.wrong(f"customer {customer} is in partitions {homes[customer]} and {part}")
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
