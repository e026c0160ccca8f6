"""Checks before the relay sends: neither the topic nor the database was replaced.

The number of partitions decides where a customer's events go, so a topic that was changed or recreated
would break their order silently. The source remembers it, and the relay refuses a difference.

A database that was restored to an older state assigns the same versions a second time. So the relay looks up
the last records of each partition in the database: each must be an event that it has, or one older than its
current version. An unknown record was sent by a later state of this database, or by another database.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b

import orjson

from ..config import Settings
from ..domain.erasure import blanked
from ..domain.events import SOURCE_HEADER
from ..domain.received import ReceivedEvent, decode
from ..errors import BadEvent, ConfigurationError, CustsvcError, DatabaseRestored, NewerSchema
from ..kafka import client as kafka
from ..kafka.reader import Reader
from ..kafka.record import Message, header
from ..kafka.topics import layout, record_limit
from ..ports.contents import Row
from ..ports.facts import Fact, Facts
from ..ports.outbox import Known
from ..ports.store import Store
from . import growth

logger = logging.getLogger(__name__)

# How many records of each partition are looked up: those of a lost state are the last ones.
_TAIL = 100


@dataclass(frozen=True, slots=True)
class Layout:
    """What must not change about a topic. `id` is empty if the broker does not report it."""

    id: str
    partitions: int


def check_topic(
    settings: Settings, facts: Facts, client: kafka.AdminClient | None = None, *, accept: bool = False
) -> Layout:
    """Return the topic's layout as the relay uses it; remember it the first time, and with `accept`.

    While the topic grows (see `growth`), Kafka has more partitions than are used. Raises ConfigurationError
    with the fix if the layout differs from the remembered one.
    """
    topic = settings.topic_updates
    client = client or kafka.admin(settings)
    now = Layout(*layout(client, topic, settings.kafka_servers))
    name, value = f"{Fact.TOPIC}{topic}", orjson.dumps(asdict(now)).decode()
    if accept:
        facts.put(name, value)
        # The facts about the old topic do not apply to this one.
        for about in (Fact.ACKNOWLEDGED, Fact.TOPIC_LOSS):
            facts.drop(about + topic)
            facts.drop_all(f"{about}{topic}#")
        growth.forget(facts, topic)
        return now
    was = Layout(**orjson.loads(facts.keep(name, value)))
    if was.partitions != now.partitions and not _grows(facts, topic, was.partitions, now.partitions):
        raise ConfigurationError(
            f"the topic {topic} has {now.partitions} partitions, it had {was.partitions}: events of one "
            "customer would come from two of them, out of order",
            fix="partitions are added in order by custsvc topics grow; now use a new topic "
            "(CUSTSVC_TOPIC_UPDATES) and fill it: custsvc replay --all; or, if every consumer tolerates it, "
            "accept this one: custsvc relay --accept-topic",
        )
    if was.id and now.id and was.id != now.id:
        raise ConfigurationError(
            f"the topic {topic} was deleted and created again: its records are gone",
            fix="accept the new one with custsvc relay --accept-topic, fill it with custsvc replay --all, "
            "and rebuild each copy with custsvc replicate --rebuild",
        )
    return Layout(now.id, was.partitions)


def _grows(facts: Facts, topic: str, used: int, there: int) -> bool:
    """Whether the topic has more partitions than are used because it is growing."""
    known = growth.growth_of(facts, topic)
    return known is not None and (known.was, known.to) == (used, there)


def topic_problem(settings: Settings, facts: Facts) -> CustsvcError | None:
    """Return the error that `check_topic` would raise, or None. Does not remember a new topic."""
    if facts.get(f"{Fact.TOPIC}{settings.topic_updates}") is None:
        return None
    try:
        check_topic(settings, facts)
    except CustsvcError as exc:
        return exc
    return None


def remember_limit(settings: Settings, facts: Facts, client: kafka.AdminClient) -> int:
    """Return the topic's record size limit in bytes; store it for the processes that write events."""
    limit = record_limit(client, settings.topic_updates)
    if facts.get(Fact.EVENT_LIMIT) != str(limit):
        facts.put(Fact.EVENT_LIMIT, str(limit))
    return limit


def check_lineage(settings: Settings, store: Store) -> None:
    """Raise ConfigurationError if the topic's last events are not from this state of this database."""
    ours = store.outbox.source()
    unknown = _unknown(store, _tails(settings, _resynced(settings, store.facts)))
    if not unknown:
        return
    event, source = unknown[-1]
    about = f"the topic {settings.topic_updates} holds version {event.version} of customer "
    about += f"{event.customer_id}, sent by {source}"
    if source != ours:
        raise ConfigurationError(
            f"{about}, and this database is {ours}: two sources on one topic would overwrite each other",
            fix="give each source its own topic (CUSTSVC_TOPIC_UPDATES); or, if this database was "
            "restored from that one, custsvc relay --resync",
        )
    raise DatabaseRestored(f"{about}, which this database does not know: it was restored to an older state")


def _unknown(store: Store, records: Sequence[tuple[ReceivedEvent, str]]) -> list[tuple[ReceivedEvent, str]]:
    """The records that this database does not have, and that are not older than its current versions."""
    known = store.outbox.events([(event.customer_id, event.version) for event, _ in records])
    ids = sorted({event.customer_id for event, _ in records})
    rows = {row.id: row for row in store.contents.rows(ids)}
    ours = store.outbox.source()
    return [
        (event, source)
        for event, source in records
        if not _is_ours(
            store,
            event,
            known.get((event.customer_id, event.version)),
            None if source != ours else rows.get(event.customer_id),
        )
    ]


def _is_ours(store: Store, event: ReceivedEvent, known: Known | None, row: Row | None) -> bool:
    """`row` is the customer in this database; None for a record whose header names another source."""
    if known is not None and event.op != "snapshot":
        return known.event_id == event.id
    # The history may have been trimmed; and a snapshot has no event of its own, so compare its content.
    if row is None or row.version < event.version:
        return False
    return event.op != "snapshot" or is_as_sent(store, row, event.version, fingerprint(event.doc()))


def fingerprint(doc: bytes) -> bytes:
    """A hash that differs for each state of a customer."""
    return blake2b(doc, digest_size=16).digest()


def is_as_sent(store: Store, row: Row, version: int, sent: bytes) -> bool:
    """Whether the customer's state at `version` has this fingerprint.

    True if that state is no longer known: the history was trimmed, or the customer was erased.
    """
    doc = row.doc if row.version == version else _state_at(store, row.id, version)
    return doc is None or fingerprint(doc) == sent or blanked(doc) == doc


def _state_at(store: Store, customer_id: int, version: int) -> bytes | None:
    for payload in store.customers.history(customer_id, limit=1, before_version=version + 1):
        event = decode(payload, b"%d" % customer_id)
        if event.version == version:
            return event.doc()
    return None


def remember_resync(settings: Settings, facts: Facts, ends: Mapping[int, int]) -> None:
    """Remember that a resync repaired the records before these offsets; `check_lineage` skips them."""
    facts.put(
        Fact.RESYNCED + settings.topic_updates, orjson.dumps({str(k): v for k, v in ends.items()}).decode()
    )


def _resynced(settings: Settings, facts: Facts) -> dict[int, int]:
    found = facts.get(Fact.RESYNCED + settings.topic_updates)
    return {int(part): offset for part, offset in orjson.loads(found or "{}").items()}


def _tails(settings: Settings, resynced: Mapping[int, int]) -> list[tuple[ReceivedEvent, str]]:
    """The last events of every partition, each with the source that its header names."""
    with Reader(settings) as topic:
        ranges = {
            part: (max(low, high - _TAIL, resynced.get(part, 0)), high)
            for part, (low, high) in topic.marks().items()
        }
        return [found for message in topic.read(ranges) if (found := _event(topic, message))]


def _event(topic: Reader, message: Message) -> tuple[ReceivedEvent, str] | None:
    """The event and its source; None if it is not an event or names no source: any client can write here."""
    source, value = header(message, SOURCE_HEADER), message.value()
    if source is None or value is None:
        return None
    try:
        return topic.events.read(message, value), source.decode("utf-8", "replace")
    except (BadEvent, NewerSchema):
        return None
