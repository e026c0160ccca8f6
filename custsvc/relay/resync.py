"""Resync: makes a source that was restored to an older state the newest again.

The topic and the copies hold versions that the source has lost, and its next writes would reuse those version
numbers, so copies would drop them as repeats. So the source writes one more change, with its own state, for
each customer of which the topic has a newer or different version; the new version is above every version
ever sent. It stores customers that only the topic has as deleted: their loss stays visible, and their ids are
not reused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..config import Settings
from ..domain.customers import Customer, utc_now
from ..domain.events import new_change
from ..domain.received import ReceivedEvent, decode
from ..errors import BadEvent, Conflict, NewerSchema, VersionConflict
from ..kafka.reader import Reader
from ..kafka.record import Message
from ..ports.contents import Row
from ..ports.outbox import Known
from ..ports.store import Store
from ..runtime.batches import batches
from .guard import fingerprint, is_as_sent, remember_resync

logger = logging.getLogger(__name__)

_PAGE = 1000
_ACTOR = "custsvc resync"


class Sent(NamedTuple):
    """The highest version of a customer on the topic; for a snapshot also the fingerprint of its content."""

    version: int
    event_id: str
    snapshot: bytes | None


class Resynced(NamedTuple):
    """How many customers got a new version, and how many only the topic had."""

    changed: int
    lost: int


def resync(settings: Settings, store: Store) -> Resynced:
    """Make this source the newest state. It can be run again after an interruption.

    Raises Conflict while a relay leads: it would send versions that are not corrected yet.
    """
    store.outbox.adopt()
    with store.outbox.lead() as leading:
        if not leading:
            raise Conflict("a relay sends from this database", fix="stop every relay of it first")
        with Reader(settings) as topic:
            ends, sent = _read(topic)
            store.customers.ids_above(max(sent, default=0))
            changed: list[int] = []
            lost: list[int] = []
            for ids in batches(sorted(sent), _PAGE):
                behind, missing = _compare(store, {i: sent[i] for i in ids})
                lost += missing
                changed += [i for i in behind if _raise(store, i, sent[i].version)]
            if lost:
                _store_as_deleted(store, topic, sent, lost)
        remember_resync(settings, store.facts, ends)
    logger.warning(
        "Resynced: %d customers raised above what was sent, %d that are lost stored as deleted",
        len(changed),
        len(lost),
        extra={"action": "resynced", "changed": len(changed), "lost": lost[:100]},
    )
    return Resynced(len(changed), len(lost))


def _read(topic: Reader) -> tuple[dict[int, int], dict[int, Sent]]:
    """The topic's end, and the highest version of each customer before it."""
    marks = topic.marks()
    sent: dict[int, Sent] = {}
    for event in _events(topic.read(marks)):
        known = sent.get(event.customer_id)
        if known is None or event.version > known.version:
            snapshot = fingerprint(event.doc()) if event.op == "snapshot" else None
            sent[event.customer_id] = Sent(event.version, event.id, snapshot)
    return {part: high for part, (_, high) in marks.items()}, sent


def _events(messages: Iterable[Message]) -> Iterable[ReceivedEvent]:
    for message in messages:
        try:
            if (value := message.value()) is not None:
                yield decode(value, message.key())
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
            store.customers.save(new_change("updated", before, after, actor=_ACTOR))
            return True
        except VersionConflict:
            continue


def _store_as_deleted(store: Store, topic: Reader, sent: Mapping[int, Sent], lost: Sequence[int]) -> None:
    """Store a customer that only the topic has as deleted, with its last state there."""
    wanted = {customer_id: sent[customer_id].version for customer_id in lost}
    for event in _events(topic.read(topic.marks())):
        if wanted.get(event.customer_id) != event.version:
            continue
        del wanted[event.customer_id]
        last = Customer.decode(event.doc())
        after = replace(last, version=last.version + 1, deleted=True, updated_on=utc_now(), updated_by=_ACTOR)
        store.customers.save(new_change("deleted", None, after, actor=_ACTOR))
