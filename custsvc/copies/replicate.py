"""Replicate: keeps a copy of the customers in another database, by the events on the topic.

It decodes a batch and applies it in bulk together with its positions; the next batch is decoded while the
database works (see `consume`). The copy stores its own positions, and reading starts from there. A record
that can never be read, or that the copy's database refuses, goes to the dead-letter topic with its original
bytes, and its neighbours are applied.

    start ──► CHECK ───────► ends with PositionLost: the topic is a new one, or once lacked what comes next
                │
                ▼
             ASSIGN ───────► ends with PositionLost: the topic no longer holds the record at a position
                │ partitions, read from the copy's positions
                ▼
    ┌─────►   TAKE ─────────► ends with ConfigurationError: the batch comes from another source
    │           │ a batch
    │           ▼
    │         DECODE ───────► ends with TooManyBadRecords or NewerSchema
    │           │
    │           ▼ dead letters are on their topic
    └─────── APPLY           the positions in its last transaction; runs beside the next TAKE and DECODE

TemporaryError from Kafka: wait with back-off, then CHECK. TemporaryError from the copy's database: try APPLY
again, with the partitions paused meanwhile. DataRefused from APPLY: CHECK, and the next 20 batches are
applied in parts, so that only what the database refuses becomes a dead letter. Superseded (the copy was
rebuilt): CHECK, from the new positions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from ..config import BACKENDS, Settings
from ..domain.received import ReceivedEvent
from ..domain.requests import valid_request_id
from ..errors import (
    BadEvent,
    ConfigurationError,
    Conflict,
    DataRefused,
    NewerSchema,
    PositionLost,
    TemporaryError,
)
from ..kafka.consume import Consuming, Offsets, coordinates
from ..kafka.formats import Events
from ..kafka.publisher import Publisher, Record
from ..kafka.reader import Reader
from ..kafka.record import Message, traceparent_of
from ..kafka.tail import places_of
from ..ports.facts import Fact
from ..ports.replica import Applied, Positions, Replica
from ..ports.store import Store
from ..runtime import crash, followed, metrics
from ..runtime.followed import Followed
from ..runtime.loop import Stop
from .dead import DeadLetters, dead_letter
from .origin import Origin

logger = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 5000
# After the database refused a batch, this many batches are handled carefully: refusals seldom come alone.
_CAREFUL = 20


def group(copy: str) -> str:
    """The consumer group of a copy, after the prefix of all groups: `copy-mongo`."""
    return f"copy-{copy}"


def claim(store: Store, copy: str) -> None:
    """Bind this database to this copy permanently. Raises ConfigurationError if it holds another copy.

    Each name has its own consumer group, and two groups would both assume that they have read everything.
    """
    holds = store.facts.keep(Fact.COPY, copy)
    if holds != copy:
        raise ConfigurationError(
            f"this database holds the copy {holds!r}, not {copy!r}",
            fix=f"custsvc replicate --copy {holds}, or point the copy at a database that is empty",
        )


def begin_at(settings: Settings, replica: Replica, start: str) -> None:
    """Let an empty copy begin at a place of the topic: `beginning`, `end`, a time, or how long ago.

    Raises Conflict if the copy has begun already.
    """
    topic = settings.topic_updates
    if replica.positions(topic):
        raise Conflict(
            "this copy already has a position, and reads on from there",
            fix="leave --from out, or start another copy: custsvc replicate --copy NAME",
        )
    with Reader(settings) as reader:
        replica.apply([], topic, places_of(reader, reader.marks(), start))
    if start != "beginning":
        logger.warning("This copy misses what was before %s", start, extra={"action": "begin", "from": start})


class Replicate:
    """Applies one topic's events to one copy."""

    def __init__(
        self,
        settings: Settings,
        replica: Replica,
        publisher: Publisher,
        copy: str,
        stop: Stop,
        *,
        origin: Origin | None = None,
    ) -> None:
        self._topic = settings.topic_updates
        self._named = "" if copy in BACKENDS else f" --copy {copy}"
        self._origin = origin
        self._replica = replica
        self._careful = 0
        self._events = Events(settings)
        self._dead = DeadLetters(publisher, settings.topic_dead, stop, settings.max_bad_records)
        self._consuming = Consuming(
            settings,
            group(copy),
            [self._topic],
            self._handle,
            stop,
            what="the copy",
            batch=BATCH,
            positions=replica.begin,
            before=origin.check_topic if origin else None,
        )

    def run(self) -> None:
        """Apply until stop is asked.

        Raises PositionLost, NewerSchema or TooManyBadRecords: going on would lose events.
        """
        try:
            self._consume()
        except PositionLost as lost:
            if self._origin is not None:
                self._origin.remember_loss(lost)
            raise PositionLost(
                str(lost),
                fix=f"rebuild the copy; it serves meanwhile: custsvc replicate --rebuild{self._named}",
            ) from lost

    def _consume(self) -> None:
        while True:
            try:
                return self._consuming.run()
            except DataRefused as refused:
                if self._careful:
                    raise  # not because of a record: it refuses even the positions
                # The batch that is being applied is kept only in the database's form. It is read again.
                logger.warning(
                    "The database of the copy refuses a batch, so it is handled record by record: %s",
                    refused,
                    extra={"action": "refused"},
                )
                self._careful = _CAREFUL

    def _handle(self, messages: list[Message], offsets: Offsets) -> Callable[[], None]:
        """Decode a batch, dead-letter the unreadable records; return a function that applies the rest."""
        crash.point("replicate.taken")
        if self._origin is not None:
            self._origin.check(messages)
        positions = {part: offset for (_, part), offset in offsets.items()}
        if self._careful:
            self._careful -= 1
            return self._handle_carefully(messages, positions)
        events: list[ReceivedEvent] = []
        dead: list[Record] = []
        follow = followed.is_on(logger)
        follows: list[Followed] = []
        began = time.time()
        messages.reverse()
        while messages:
            # Release each decoded record: its event holds the same data, so both would take twice the memory.
            message = messages.pop()
            event = self._judged(message, dead)
            if event is not None:
                events.append(event)
                if follow:
                    follows.append(_followed(message, event))
        return self._dead_letter_and_apply(dead, events, positions, follows, began)

    def _dead_letter_and_apply(
        self,
        dead: list[Record],
        events: list[ReceivedEvent],
        positions: Positions,
        follows: Sequence[Followed] = (),
        began: float = 0.0,
    ) -> Callable[[], None]:
        """Dead-letter bad records before the position passes them; return a function to apply the rest."""
        if dead:
            self._dead.send(dead)
            crash.point("replicate.dead_lettered")
        return partial(self._apply, self._replica.applying(events), positions, len(dead), follows, began)

    def _judged(self, message: Message, dead: list[Record]) -> ReceivedEvent | None:
        """The event of a record; None for a tombstone and for a bad record, which becomes a dead letter."""
        try:
            event = self._read(message)
        except BadEvent as bad:
            self._dead.judge(message, bad)
            dead.append(dead_letter(message, bad))
            return None
        except NewerSchema as newer:
            raise NewerSchema(f"{newer} ({coordinates(message)})", fix=newer.fix) from newer
        self._dead.judge(message)
        return event

    def _read(self, message: Message) -> ReceivedEvent | None:
        """The event of a record; None for a tombstone, which requires nothing of a copy."""
        value = message.value()
        if value is None:
            if message.key() is None:
                raise BadEvent("no-value", "the record has neither key nor value")
            return None
        try:
            return self._events.read(message, value)
        except TemporaryError:
            # The schema registry is away: that is no fault of the record.
            return self._consuming.insist(lambda: self._events.read(message, value))

    def _handle_carefully(self, messages: list[Message], positions: Positions) -> Callable[[], None]:
        """Apply a batch, dead-letter what the database refuses too; return a function to store positions."""
        dead: list[Record] = []
        read = [(message, self._judged(message, dead)) for message in messages]
        good = [(message, event) for message, event in read if event is not None]
        for (message, _), refused in sift(self._apply_now, good):
            bad = BadEvent("refused", f"the database of the copy refuses it: {refused}")
            self._dead.judge(message, bad)
            dead.append(dead_letter(message, bad))
        return self._dead_letter_and_apply(dead, [], positions)

    def _apply_now(self, read: Sequence[tuple[Message, ReceivedEvent]]) -> None:
        events, began = [event for _, event in read], time.time()
        written, stale = self._consuming.insist(lambda: self._replica.apply(events, self._topic, {}))
        metrics.count("the copy", "written", written)
        metrics.count("the copy", "stale", stale)
        if followed.is_on(logger):
            followed.handled(logger, "applied", [_followed(message, event) for message, event in read], began)

    def _apply(
        self,
        applying: Callable[[str, Positions], Applied],
        positions: Positions,
        dead: int,
        follows: Sequence[Followed],
        began: float,
    ) -> None:
        applied = applying(self._topic, positions)
        crash.point("replicate.applied")
        written, stale = applied
        for result, number in (("written", written), ("stale", stale), ("dead", dead)):
            metrics.count("the copy", result, number)
        logger.debug(
            "Applied %d events",
            written + stale,
            extra={"action": "applied", "written": written, "stale": stale},
        )
        followed.handled(logger, "applied", follows, began)


def _followed(message: Message, event: ReceivedEvent) -> Followed:
    request_id, trace = valid_request_id(event.request_id), traceparent_of(message)
    return Followed(event.id, event.customer_id, event.version, request_id, trace)


def sift(apply: Callable[[Sequence[T]], object], items: Sequence[T]) -> Iterator[tuple[T, DataRefused]]:
    """Apply all items, in parts as big as the database accepts; yield each refused one and its error."""
    if not items:
        return
    try:
        apply(items)
    except DataRefused as refused:
        if len(items) == 1:
            yield items[0], refused
            return
        half = len(items) // 2
        yield from sift(apply, items[:half])
        yield from sift(apply, items[half:])
