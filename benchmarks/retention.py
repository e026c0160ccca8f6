"""Whether the history's size stays flat when old events are dropped, and what writers notice of it.

Usage: python benchmarks/retention.py postgres|mongo ADDRESS [ROUNDS [CHANGES]]
It makes a database of its own on that server. Each round is a day: so many changes of 20,000 customers,
marked as sent; then what was replaced more than three days before is archived and dropped, while another
process changes customers 100 times a second; just before, the same writer runs alone.
"""

from __future__ import annotations

import datetime as dt
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

from custsvc.bench.scratch import databases
from custsvc.config import Settings
from custsvc.domain.customers import Customer, Fields, Stored
from custsvc.domain.events import Change, new_change
from custsvc.ports.store import Store
from custsvc.retention.trim import Trim
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores import open_store

_CUSTOMERS = 20_000
_AT_ONCE = 1000
_KEEP = dt.timedelta(days=3)
_PACE = 0.01
_ALONE = 15.0


def create(store: Store, now: dt.datetime) -> None:
    """The customers, as of this time."""
    ids = list(store.customers.new_ids(_CUSTOMERS))
    for start in range(0, _CUSTOMERS, _AT_ONCE):
        new = [
            Customer(i, Fields(f"Customer {i}", f"c{i}@example.com"), False, 1, now, "b", now, "b")
            for i in ids[start : start + _AT_ONCE]
        ]
        store.customers.save_many([new_change("created", None, each, actor="b") for each in new])


def change(store: Store, count: int, now: dt.datetime) -> None:
    """So many changes at this time, of all customers in turn, marked as sent."""
    done = 0
    while done < count:
        first = 1 + done % _CUSTOMERS
        found = store.customers.get_many(range(first, first + _AT_ONCE))
        store.customers.save_many([_next(each, now) for each in found.values()])
        done += len(found)
    with store.outbox.lead():
        while (batch := store.outbox.read(5000)).events:
            store.outbox.done(batch)


def _next(before: Stored, now: dt.datetime) -> Change:
    old = before.customer()
    fields = Fields(old.fields.name, old.fields.email, f"+44 20 {before.version:08}", old.fields.metadata)
    return new_change(
        "updated", before, old.changed_to(fields=fields, deleted=False, now=now, by="b"), actor="b"
    )


def write(settings: Settings, now: dt.datetime, end: Event, took: multiprocessing.Queue[list[float]]) -> None:
    """Change customers at a steady pace until `end`; give the milliseconds of each change."""
    found = []
    with open_store(settings) as store:
        service, number = CustomerService(store.customers, clock=lambda: now), 0
        while not end.is_set():
            number += 1
            began = time.perf_counter()
            fields = Fields(f"Writer {number}")
            service.replace(1 + number * 7919 % _CUSTOMERS, fields, Caller("writer"))
            found.append((time.perf_counter() - began) * 1000)
            time.sleep(max(0.0, _PACE - (time.perf_counter() - began)))
    took.put(found)


class Dated(Trim):
    """A trim at a time in the past, as if no event of then waited in the outbox."""

    def __init__(self, store: Store, limit: dt.datetime, folder: Path) -> None:
        super().__init__(store, "t", 0.0, folder, Stop())
        self._then = limit

    def _limit(self) -> dt.datetime:
        return self._then


class Beside:
    """A writer in another process, for the time of a block; `took` has its milliseconds, sorted."""

    def __init__(self, settings: Settings, now: dt.datetime) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._end, self._queue = spawn.Event(), spawn.Queue()
        self._process = spawn.Process(target=write, args=(settings, now, self._end, self._queue))
        self.took: list[float] = []

    def __enter__(self) -> Beside:
        self._process.start()
        time.sleep(1)
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self.took = sorted(self._queue.get(timeout=60))
        self._process.join()


def told(took: list[float]) -> str:
    """The median and the 99th percentile of these milliseconds."""
    if not took:
        return "no writes"
    return f"p50 {took[len(took) // 2]:.1f} ms, p99 {took[len(took) * 99 // 100]:.1f} ms ({len(took)} writes)"


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201 - a script


def main() -> None:
    backend, address = sys.argv[1:3]
    rounds, changes = [int(each) for each in (*sys.argv[3:], *("10", "100000")[len(sys.argv) - 3 :])]
    settings = Settings.load({"backend": backend, f"{backend}_url": address}, environ={})
    first = dt.datetime.now(dt.UTC) - dt.timedelta(days=rounds)
    alone: list[float] = []
    beside: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        databases(settings, settings.backend) as scratch,
        open_store(scratch) as store,
    ):
        create(store, first)
        for day in range(rounds):
            now = first + dt.timedelta(days=day)
            change(store, changes, now)
            with Beside(scratch, now) as before:
                time.sleep(_ALONE)
            began, cpu = time.perf_counter(), time.process_time()
            with Beside(scratch, now) as writer:
                report = Dated(store, now - _KEEP, Path(folder)).run()
            seconds = time.perf_counter() - began
            cpu = time.process_time() - cpu
            size = sum(each.stat().st_size for each in Path(folder).iterdir())
            if report.outdated:
                alone, beside = alone + before.took, beside + writer.took
            say(
                f"day {day}: {store.growth().bytes / 1e6:,.0f} MB; {report.outdated:,} dropped in "
                f"{seconds:.0f} s (processor {cpu:.1f} s), archive {size / 1e6:,.1f} MB; {told(writer.took)}"
            )
        say(f"writes beside trims: {told(sorted(beside))}; alone: {told(sorted(alone))}")


if __name__ == "__main__":
    main()
