"""Resync: makes a source that was restored to an older state the newest again.

The topic and the copies hold versions that the source has lost, and its next writes would reuse those version
numbers, so copies would drop them as repeats. So the source writes one more change, with its own state, for
each customer of which the topic has a newer or different version; the new version is above every version
ever sent. It stores customers that only the topic has as deleted: their loss stays visible, and their ids are
not reused. A customer that was erased after the backup is erased again. No mails are wanted for all this, so
these events are marked as bulk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from ..config import Settings
from ..domain.customers import INT64_MAX, Customer, utc_now
from ..domain.erasure import blanked, is_blank
from ..domain.events import new_change
from ..domain.received import ReceivedEvent
from ..errors import BadEvent, Conflict, NewerSchema, VersionConflict
from ..kafka.reader import Marks, Reader
from ..ports.contents import Row
from ..ports.outbox import Known
from ..ports.store import Store
from ..runtime.batches import batches
from ..service.changes import Caller
from ..service.customers import CustomerService
from ..service.leftovers import Leftovers
from .guard import fingerprint, is_as_sent, remember_resync

logger = logging.getLogger(__name__)

_PAGE = 1000
# Seconds; a lease that nobody renews is over sooner.
_PATIENCE = 5.0
_ACTOR = "custsvc resync"
# Left out above the highest id on the topic: ids of customers that the lost state had stored, and answered to
# their callers, but not sent yet.
_IDS_LEFT_OUT = 1_000_000


class Erased(NamedTuple):
    """The newest event on the topic in which a customer has no personal data."""

    version: int
    event_id: str


class Sent(NamedTuple):
    """The highest version of a customer on the topic; for a snapshot also the fingerprint of its content."""

    version: int
    event_id: str
    snapshot: bytes | None
    erased: Erased | None


class Resynced(NamedTuple):
    """How many customers got a new version, how many only the topic had, and how many were erased again."""

    changed: int
    lost: int
    erased: int


def resync(settings: Settings, store: Store) -> Resynced:
    """Make this source the newest state. It can be run again after an interruption.

    Raises Conflict while a relay leads: it would send versions that are not corrected yet.
    """
    store.outbox.adopt()
    with _leading(store) as leads:
        if not leads:
            raise Conflict("a relay sends from this database", fix="stop every relay of it first")
        with Reader(settings) as topic:
            ends, sent = _read(topic)
            store.customers.ids_above(min(max(sent, default=0) + _IDS_LEFT_OUT, INT64_MAX))
            changed: list[int] = []
            lost: list[int] = []
            erased = 0
            for ids in batches(sorted(sent), _PAGE):
                behind, missing = _compare(store, {i: sent[i] for i in ids})
                lost += missing
                # First, so that a repetition after a crash still finds these behind.
                erased += _erase_again(store, {i: each for i in behind if (each := sent[i].erased)})
                changed += [i for i in behind if _raise(store, i, sent[i].version)]
            if lost:
                _store_as_deleted(store, topic, sent, lost)
        remember_resync(settings, store.facts, ends)
    logger.warning(
        "Resynced: %d customers raised above what was sent, %d that are lost stored as deleted, "
        "%d erased again",
        len(changed),
        len(lost),
        erased,
        extra={"action": "resynced", "changed": len(changed), "lost": lost[:100], "erased": erased},
    )
    return Resynced(len(changed), len(lost), erased)


@contextmanager
def _leading(store: Store) -> Iterator[bool]:
    """Lead alone; waits for what a relay leaves behind that has ended or was killed."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with store.outbox.lead() as leads:
            if leads or time.monotonic() > deadline:
                yield leads
                return
        time.sleep(0.2)


def _read(topic: Reader) -> tuple[dict[int, int], dict[int, Sent]]:
    """The topic's end, and the highest version of each customer before it."""
    marks = topic.marks()
    sent: dict[int, Sent] = {}
    for event in _events(topic, marks):
        known = sent.get(event.customer_id)
        if known is None or event.version > known.version:
            erased = Erased(event.version, event.id) if is_blank(event.after) else known and known.erased
            snapshot = fingerprint(event.doc()) if event.op == "snapshot" else None
            sent[event.customer_id] = Sent(event.version, event.id, snapshot, erased)
    return {part: high for part, (_, high) in marks.items()}, sent


def _events(topic: Reader, ranges: Marks) -> Iterable[ReceivedEvent]:
    for message in topic.read(ranges):
        try:
            if (value := message.value()) is not None:
                yield topic.events.read(message, value)
        except (BadEvent, NewerSchema):
            continue


def _compare(store: Store, sent: Mapping[int, Sent]) -> tuple[list[int], list[int]]:
    """The customers whose version on the topic the source lacks, and the customers it lacks entirely."""
    rows = {row.id: row for row in store.contents.rows(list(sent))}
    known = store.outbox.events([(i, each.version) for i, each in sent.items()])
    behind = []
    for customer_id, each in sent.items():
        row, event = rows.get(customer_id), known.get((customer_id, each.version))
        if row is not None and (row.version < each.version or _is_other(store, row, event, each)):
            behind.append(customer_id)
    return behind, [customer_id for customer_id in sent if customer_id not in rows]


def _is_other(store: Store, row: Row, known: Known | None, sent: Sent) -> bool:
    """Whether the source has a different change under the version that was sent."""
    if sent.snapshot is not None:
        return not is_as_sent(store, row, sent.version, sent.snapshot)
    return known is not None and known.event_id != sent.event_id


def _raise(store: Store, customer_id: int, above: int) -> bool:
    """Store the customer unchanged at a version above that; False if there is no such customer."""
    while True:
        before = store.customers.get(customer_id)
        if before is None:
            return False
        old = before.customer()
        after = replace(
            old,
            version=max(above, before.version) + 1,
            updated_on=max(utc_now(), old.updated_on),
            updated_by=_ACTOR,
        )
        try:
            store.customers.save(new_change("updated", before, after, actor=_ACTOR, bulk=True))
            return True
        except VersionConflict:
            continue


def _erase_again(store: Store, erased: Mapping[int, Erased]) -> int:
    """Erase these customers, unless this database has that event or no personal data; return how many."""
    leftovers = Leftovers(store.customers, store.facts, store.shelf, store.recipients, store.duplicates)
    service = CustomerService(store.customers, leftovers=leftovers)
    known = store.outbox.events([(i, each.version) for i, each in erased.items()])
    rows = {row.id: row.doc for row in store.contents.rows(list(erased))}
    lost = [
        i
        for i, each in erased.items()
        if ((event := known.get((i, each.version))) is None or event.event_id != each.event_id)
        and rows[i] != blanked(rows[i])
    ]
    for customer_id in lost:
        service.erase(customer_id, Caller(_ACTOR))
    return len(lost)


def _store_as_deleted(store: Store, topic: Reader, sent: Mapping[int, Sent], lost: Sequence[int]) -> None:
    """Store a customer that only the topic has as deleted, with its last state there."""
    wanted = {customer_id: sent[customer_id].version for customer_id in lost}
    for event in _events(topic, topic.marks()):
        if wanted.get(event.customer_id) != event.version:
            continue
        del wanted[event.customer_id]
        last = Customer.decode(event.doc())
        after = replace(last, version=last.version + 1, deleted=True, updated_on=utc_now(), updated_by=_ACTOR)
        store.customers.save(new_change("deleted", None, after, actor=_ACTOR, bulk=True))
