"""One relay beside two that share the work: events a second, and who spends how much processor time on one.

Usage: python benchmarks/shards.py postgres|mongo [EVENTS [ROUNDS]]
On servers of its own, by turns on the same events (100,000, three rounds): all relays lead before the events
become new. Prints a row for each turn, and the ratio of the medians.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import NamedTuple, get_args

import psycopg2

from custsvc.bench import mongo, proc, scratch
from custsvc.bench.roles import Role, until
from custsvc.config import Backend, Settings
from custsvc.kafka.reader import Reader
from custsvc.local import LocalServers
from custsvc.ports.store import Store
from custsvc.relay.guard import check_topic
from custsvc.relay.shards import WHOLE, ask, settle, wanted
from custsvc.stores import open_store
from custsvc.transfer.seed import seed_customers

_PATIENCE = 280.0
_PAUSE = 0.05
_COUNTS = (1, 2)
# It would look at the rows that have just been written while the relays are measured.
_NO_AUTOVACUUM = "ALTER TABLE customer_event SET (autovacuum_enabled = off)"
_ALL_AGAIN = "UPDATE customer_event SET txid = pg_current_xact_id()"


class _Turn(NamedTuple):
    """Events a second, and microseconds of processor time for an event: of relays, database and Kafka."""

    rate: float
    relays: float
    database: float
    kafka: float


def main() -> None:
    """The command line above."""
    backend, *numbers = sys.argv[1:] or [""]
    if backend not in get_args(Backend):
        sys.exit(__doc__)
    events, rounds = [int(each) for each in numbers] + [100_000, 3][len(numbers) :]
    with tempfile.TemporaryDirectory(prefix="custsvc-bench-") as folder:
        servers = LocalServers(Path(folder), names=[backend, "kafka"])
        try:
            env = servers.start()
            settings = Settings(
                **{f"{backend}_url": env[f"CUSTSVC_{backend.upper()}_URL"]},  # type: ignore[arg-type]
                backend=backend,  # type: ignore[arg-type]
                kafka=env["CUSTSVC_KAFKA"],
                data_dir=Path(folder),
            )
            pids = [servers.server(name).pid or 0 for name in (backend, "kafka")]
            with scratch.databases(settings, settings.backend) as s, open_store(s) as store:
                seed_customers(store.customers, events, 1)
                _report(list(_turns(s, store, events, rounds, pids)))
        finally:
            servers.stop()


def _turns(
    settings: Settings, store: Store, events: int, rounds: int, pids: list[int]
) -> Iterator[tuple[int, _Turn]]:
    for _ in range(rounds):
        for count in _COUNTS:
            with scratch.topics(settings) as s:
                turn = _turn(s, store, events, count, pids)
            _say(
                f"{count} relays: {turn.rate:,.0f} events/s; µs an event: relays {turn.relays:.1f}, database "
                f"{turn.database:.1f}, Kafka {turn.kafka:.1f}; load {os.getloadavg()[0]:.1f}"
            )
            yield count, turn


def _turn(settings: Settings, store: Store, events: int, count: int, pids: list[int]) -> _Turn:
    topic = settings.topic_updates
    check_topic(settings, store.facts)
    settle(store, topic, WHOLE)
    ask(store.facts, topic, count)
    settle(store, topic, wanted(store.facts, topic))
    with ExitStack() as stack, Reader(settings) as reader:
        parts = reader.partitions()
        roles = [stack.enter_context(Role(settings, "relay")) for _ in range(count)]

        def sent() -> int:
            return sum(high for _, high in reader.marks(parts).values())

        until(lambda: all(map(_leads_one, roles)), _PATIENCE, "each relay leads")
        until(lambda: store.outbox.depth().waiting == 0, _PATIENCE, "the events before are sent")
        before = sent()
        _make_new(settings, stack)
        began, first, spent = time.monotonic(), sent(), _spent(roles, pids)
        # Seldom: to ask costs Kafka about a millisecond.
        end = until(lambda: sent() >= before + events, _PATIENCE, "all events are sent", pause=_PAUSE)
        left = before + events - first
        each = [(now - then) / left * 1e6 for now, then in zip(_spent(roles, pids), spent, strict=True)]
        return _Turn(left / (end - began), sum(each[: len(roles)]), *each[len(roles) :])


def _leads_one(role: Role) -> bool:
    """Whether it leads one shard, and has handed back the others."""
    role.check()
    actions = [entry.get("action") for entry in role.lines]
    return actions.count("leading") - actions.count("left") == 1


def _make_new(settings: Settings, stack: ExitStack) -> None:
    """Make all events wait again, on PostgreSQL at one moment.

    The connection stays open until the end of `stack`: the processor time of a server process that ends is
    added to that of its parent, and so would be what this took.
    """
    if settings.backend == "mongo":
        mongo.mark_all_pending(settings.mongo_url)
        return
    connection = stack.enter_context(closing(psycopg2.connect(settings.postgres_url)))
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in (_NO_AUTOVACUUM, "VACUUM ANALYZE customer_event", "CHECKPOINT", _ALL_AGAIN):
            cursor.execute(statement)


def _spent(roles: list[Role], pids: list[int]) -> list[float]:
    return [proc.processor_s(pid) or 0.0 for pid in (*(role.pid for role in roles), *pids)]


def _report(turns: list[tuple[int, _Turn]]) -> None:
    one, two = ([turn for count, turn in turns if count == each] for each in _COUNTS)
    for count, found in zip(_COUNTS, (one, two), strict=True):
        middle = [median(values) for values in zip(*found, strict=True)]
        _say(
            f"median of {len(found)}, {count} relays: {middle[0]:,.0f} events/s; "
            f"µs an event: {sum(middle[1:]):.1f}"
        )
    ratio = median(turn.rate for turn in two) / median(turn.rate for turn in one)
    _say(f"two relays are {ratio:.2f} times as fast as one, on {os.cpu_count()} cores")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
