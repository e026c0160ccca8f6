"""How much room customers, events and mails take in a database: the figures of docs/capacity.md.

Usage: python benchmarks/capacity.py postgres|mongo [CUSTOMERS [ADDRESS]]
It makes a database of its own, on the server at ADDRESS, else on a server that it starts and removes: so many
made-up customers (500,000 if none is given), each changed once, all events marked as sent, and for a tenth of
them a mail that was sent. Prints bytes of each.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from custsvc.bench.scratch import databases
from custsvc.config import Settings
from custsvc.domain.customers import Stored, utc_now
from custsvc.domain.events import Change, new_change
from custsvc.domain.received import decode
from custsvc.local import LocalServers
from custsvc.notify.intake.notifications import notifications_of
from custsvc.notify.rules.file import load
from custsvc.ports.ledger import Settlement
from custsvc.ports.store import Store
from custsvc.stores import open_store
from custsvc.transfer.seed import seed_customers

_AT_ONCE = 1000
_TABLES = ("customer", "customer_event", "notification", "notification_attempt")

Sizes = Mapping[str, tuple[int, int]]
"""Bytes of each table and of its indexes."""


@contextmanager
def own_server(name: str) -> Iterator[str]:
    """The address of a server that is there only within the block."""
    with tempfile.TemporaryDirectory(prefix="custsvc-bench-") as folder:
        servers = LocalServers(Path(folder), names=[name])
        (address,) = servers.start().values()
        try:
            yield address
        finally:
            servers.stop()


def sizes(store: Store) -> Sizes:
    """As the database reports them, without room that is only reserved."""
    if store.name == "postgres":
        return _of_postgres(store._connections)  # type: ignore[attr-defined]
    return _of_mongo(store._connection.database)  # type: ignore[attr-defined]


def _of_postgres(connections: Any) -> Sizes:
    found = {}
    with connections.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for table in _TABLES:
            # Exactly, without dead rows, as after a while of autovacuum.
            cursor.execute(f"VACUUM (FULL, ANALYZE) {table}")
            cursor.execute("SELECT pg_table_size(%s), pg_indexes_size(%s)", (table, table))
            found[table] = cursor.fetchone()
    return found


def _of_mongo(database: Any) -> Sizes:
    found = {}
    database.client.admin.command("fsync")
    for table in _TABLES[:3]:
        stats = database.command("collStats", table)
        used = stats["storageSize"] - stats.get("freeStorageSize", 0)
        found[table] = (used, stats["totalIndexSize"])
    return found


def change(store: Store, ids: Sequence[int]) -> None:
    """Change each of these customers once."""
    for start in range(0, len(ids), _AT_ONCE):
        found = store.customers.get_many(ids[start : start + _AT_ONCE])
        store.customers.save_many([_next(each) for each in found.values()])


def _next(before: Stored) -> Change:
    old = before.customer()
    fields = old.fields.__class__(
        old.fields.name, old.fields.email, f"+44 20 {before.id:08}", old.fields.metadata
    )
    after = old.changed_to(fields=fields, deleted=False, now=utc_now(), by="b")
    return new_change("updated", before, after, actor="b")


def send_events(store: Store) -> None:
    """Mark all events as sent."""
    with store.outbox.lead():
        while (batch := store.outbox.read(5000)).events:
            store.outbox.done(batch)


def send_mails(store: Store, settings: Settings, ids: Sequence[int]) -> int:
    """A mail about the change of each of these customers, sent at the first try; how many mails."""
    rules, added = load(settings), 0
    for customer_id in ids:
        (payload,) = store.customers.history(customer_id, limit=1)
        rows = notifications_of(decode(payload, b"%d" % customer_id), rules, None, None)
        added += store.ledger.add(rows)
        claimed = store.ledger.claim(len(rows), 60.0)
        store.ledger.advance(claimed, [])
        store.ledger.advance([], [Settlement(each, "sent", "250 2.0.0 OK", code=250) for each in claimed])
    return added


def say(what: str, count: int, size: tuple[int, int]) -> None:
    """One line: bytes of each, and of its entries in indexes."""
    table, indexes = size
    per = max(count, 1)
    print(f"{what:34} {count:>10,} {table / per:>8,.0f} {indexes / per:>8,.0f}", flush=True)  # noqa: T201 - a script


def main() -> None:
    backend, *rest = sys.argv[1:]
    count = int(rest[0]) if rest else 500_000
    with ExitStack() as stack:
        address = rest[1] if len(rest) > 1 else stack.enter_context(own_server(backend))
        settings = Settings.load({"backend": backend, f"{backend}_url": address}, environ={})
        scratch = stack.enter_context(databases(settings, settings.backend))
        store = stack.enter_context(open_store(scratch))
        seed_customers(store.customers, count, 1)
        change(store, range(1, count + 1))
        send_events(store)
        mails = send_mails(store, scratch, range(1, count // 10 + 1))
        print(f"{backend + ', bytes of each':34} {'number':>10} {'table':>8} {'indexes':>8}")  # noqa: T201
        found = sizes(store)
        say("customers", count, found["customer"])
        say("events", 2 * count, found["customer_event"])
        say("sent mails", mails, found["notification"])
        if "notification_attempt" in found:
            say("their attempts", mails, found["notification_attempt"])
        store.ledger.drop_texts(None, -1.0, 10**9)
        say("sent mails without their texts", mails, sizes(store)["notification"])


if __name__ == "__main__":
    main()
