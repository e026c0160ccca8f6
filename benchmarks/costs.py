"""Work on a database, and what a unit of it costs: a request, an event, a customer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import psycopg2
from grown import BY, RARE, Grown, rare
from pymongo import MongoClient

from custsvc.bench import proc
from custsvc.copies.verify import Pipeline, verify
from custsvc.domain.customers import Customer, Fields, Stored, utc_now
from custsvc.domain.events import Change, new_change
from custsvc.domain.name_key import name_key
from custsvc.domain.received import decode
from custsvc.domain.search import asked
from custsvc.errors import CustsvcError
from custsvc.ports.customers import LIVE, CustomerFilter, CustomerQuery, Position
from custsvc.runtime.batches import batches
from custsvc.transfer.export import export
from custsvc.transfer.seed import made_up

_AT_ONCE = 1000
_BATCH = 5000
_HOT = 2000
# Beyond all ids that a database gives.
_NEW = 10**12
_NO_WAY = Pipeline(lambda _: True, dict, dict)


class Cost(NamedTuple):
    """Of a unit: milliseconds, microseconds of processor time of our process and of the database's.

    `log`: bytes of the database's log. `reads`: pages that its cache did not hold.
    """

    ms: float
    ours: float
    database: float
    log: float
    reads: float


class Clock:
    """Measures work by the processor time of this process, or of another, and of the database's."""

    def __init__(self, grown: Grown, database: int, role: int | None = None) -> None:
        self._database = database
        self._role = role
        self._counters = _of_postgres if grown.store.name == "postgres" else _of_mongo
        self._url = grown.settings.url(grown.settings.backend)
        self._began = self._now()

    def _now(self) -> tuple[float, ...]:
        ours = time.process_time() if self._role is None else proc.processor_s(self._role) or 0.0
        return time.monotonic(), ours, proc.processor_s(self._database) or 0.0, *self._counters(self._url)

    def cost(self, units: int) -> Cost:
        """The cost of so many units since it was made."""
        spent = [now - then for now, then in zip(self._now(), self._began, strict=True)]
        seconds, ours, database, log, reads = (each / units for each in spent)
        return Cost(seconds * 1e3, ours * 1e6, database * 1e6, log, reads)


def _of_postgres(url: str) -> tuple[float, float]:
    """Bytes of log written, and pages that were not in the cache."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_current_wal_insert_lsn() - '0/0', blks_read FROM pg_stat_database "
            "WHERE datname = current_database()"
        )
        ((log, reads),) = cursor.fetchall()
    return float(log), float(reads)


def _of_mongo(url: str) -> tuple[float, float]:
    with MongoClient[dict[str, Any]](url) as client:
        status = client.admin.command("serverStatus")["wiredTiger"]
    return float(status["log"]["log bytes written"]), float(status["cache"]["pages read into cache"])


@dataclass(frozen=True, slots=True)
class Work:
    """Work that returns how many units it did. `whole`: on all customers, so once is enough."""

    name: str
    unit: str
    run: Callable[[Grown], int]
    whole: bool = False

    def turn(self, grown: Grown, database: int, seconds: float) -> Cost:
        """Do it until it took our process so much processor time, or twenty times as long; at least once."""
        clock, units = Clock(grown, database), 0
        spent, late = time.process_time() + seconds, time.monotonic() + 20 * seconds
        while not units or not (self.whole or time.process_time() > spent or time.monotonic() > late):
            units += self.run(grown)
        return clock.cost(units)


# -- requests ----------------------------------------------------------------------------------------------


def _get(grown: Grown) -> int:
    service, ids = grown.service, grown.ids(50)
    for customer_id in ids:
        service.get(customer_id)
    return len(ids)


def _first_page(grown: Grown) -> int:
    grown.store.customers.find(CustomerQuery())
    grown.store.customers.count_if_cheap(LIVE)
    return 1


def _deep_page(grown: Grown) -> int:
    found = grown.store.customers.get_many(grown.ids(20)).values()
    for each in found:
        after = Position(name_key(each.customer().fields.name), each.id)
        grown.store.customers.find(CustomerQuery(sort="name", after=after))
    return len(found)


def _search(text: str) -> Callable[[Grown], int]:
    return lambda grown: _found(grown, CustomerFilter().asking(asked(text)))


def _found(grown: Grown, where: CustomerFilter, *, one: bool = False) -> int:
    """A first page with its count, as the API counts it; with `one`, of one customer."""
    page = grown.store.customers.find(CustomerQuery(filter=where))
    if page.has_more:
        grown.store.customers.count_if_cheap(where)
    if one and page.count != 1:
        raise CustsvcError(f"{page.count} found: this search should meet one customer")
    return 1


def _search_rare(grown: Grown) -> int:
    return _found(grown, CustomerFilter().asking(asked(rare(grown.random.randrange(RARE)))), one=True)


def _by_email(grown: Grown) -> int:
    return _found(grown, CustomerFilter(email=f"{rare(grown.random.randrange(RARE))}@example.com"), one=True)


def _post(grown: Grown) -> int:
    for fields in _others(grown, 20):
        grown.service.create(fields, BY)
    grown.changed += 20
    return 20


def _put(grown: Grown) -> int:
    for customer_id, fields in zip(grown.ids(20), _others(grown, 20), strict=True):
        grown.service.replace(customer_id, fields, BY)
    grown.changed += 20
    return 20


def _patch(grown: Grown) -> int:
    for customer_id in grown.ids(20):
        phone = f"+1 555 {grown.random.randrange(10**7):07}"
        grown.service.update(customer_id, lambda fields, to=phone: replace(fields, phone=to), BY)  # type: ignore[misc]
    grown.changed += 20
    return 20


def _others(grown: Grown, count: int) -> Iterator[Fields]:
    """Made-up customers other than those who are there."""
    return made_up(count, grown.random.randrange(10**6, 10**9))


# -- events ------------------------------------------------------------------------------------------------


def change(grown: Grown, count: int) -> int:
    """Change so many different customers in bulk, as an import does; their events wait then."""
    ids = grown.different_ids(count)
    for some in batches(ids, _AT_ONCE):
        found = grown.store.customers.get_many(some)
        grown.store.customers.save_many([_changed(each) for each in found.values()])
    grown.changed += len(ids)
    return len(ids)


def _changed(before: Stored) -> Change:
    old = before.customer()
    fields = replace(old.fields, phone=f"+44 20 {before.id % 10**4:04} {before.version % 10**4:04}")
    return new_change(
        "updated", before, old.changed_to(fields=fields, deleted=False, now=utc_now(), by="b"), actor="b"
    )


def send(grown: Grown) -> None:
    """Mark what waits as sent, as a relay does."""
    with grown.store.outbox.lead():
        while (batch := grown.store.outbox.read(_BATCH)).events:
            grown.store.outbox.done(batch)


Records = list[tuple[bytes, bytes]]


def changed_records(grown: Grown, count: int) -> Records:
    """The next event of so many different customers, as Kafka would hold it."""
    found: Records = []
    for some in batches(grown.different_ids(count), _AT_ONCE):
        found += [_record(_changed(each)) for each in grown.store.customers.get_many(some).values()]
    return found


def new_records(grown: Grown, count: int) -> Records:
    """The events of so many new customers."""
    now = utc_now()
    customers = (
        Customer(_NEW + number, fields, False, 1, now, "b", now, "b")
        for number, fields in enumerate(_others(grown, count))
    )
    return [_record(new_change("created", None, each, actor="b")) for each in customers]


def hot_records(grown: Grown, count: int) -> Records:
    """So many events of few customers."""
    current = [_changed(each) for each in grown.store.customers.get_many(grown.different_ids(_HOT)).values()]
    found: Records = []
    while len(found) < count:
        found += map(_record, islice(current, count - len(found)))
        current = [_changed(Stored(c.after.id, c.after.version, False, c.doc)) for c in current]
    return found


def _record(change: Change) -> tuple[bytes, bytes]:
    return b"%d" % change.after.id, change.event.payload


def apply(grown: Grown, records: Records) -> int:
    """Apply these as `replicate` does: check, decode and write, batch by batch."""
    for number, some in enumerate(batches(records, _BATCH)):
        events = [decode(value, key) for key, value in some]
        grown.store.replica.apply(events, "growth", {0: number})
    grown.changed += len(records)
    return len(records)


def remove_new(grown: Grown) -> None:
    """Remove what `new_records` brought."""
    contents = grown.store.contents
    while rows := contents.scan(_NEW - 1, _AT_ONCE):
        contents.remove(rows)


# -- all customers -----------------------------------------------------------------------------------------


def _verify(grown: Grown) -> int:
    contents = grown.store.contents
    return verify(contents, contents, _NO_WAY).compared


def _export(grown: Grown) -> int:
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number

    for _ in export(grown.store.customers, "ndjson", progress=count):
        pass
    return done


REQUESTS = (
    Work("get one", "request", _get),
    Work("first page, with its count", "request", _first_page),
    Work("page by name, anywhere", "request", _deep_page),
    Work("search for a rare word", "request", _search_rare),
    Work("search for a common word", "request", _search("smith")),
    Work("search for two common words", "request", _search("ada smith")),
    Work("by e-mail address", "request", _by_email),
    Work("POST", "request", _post),
    Work("PUT", "request", _put),
    Work("PATCH", "request", _patch),
)
WALKS = (
    Work("verify, both sides", "customer", _verify, whole=True),
    Work("export", "customer", _export, whole=True),
)
