"""Sends events that a topic lost again, from the source's history, in order per customer.

It reads the partitions and compares them with all customers of the source: a customer with a version that the
topic lacks is sent again from the first missing version on. Records after the loss count as missing too, so
that a customer's newest version ends up last: a compacted topic keeps the last record.

It sends all of them twice. The first pass fills the offsets of the lost records: a consumer that had read
those offsets skips this pass, because it reads on from its own position. The second pass lies beyond every
position that a consumer can have. Nothing else is sent meanwhile. Consumers drop repeats by version.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import orjson

from ..config import Settings
from ..domain.customers import parse_time, utc_now
from ..domain.events import CustomerEvent, snapshot
from ..errors import TemporaryError
from ..kafka.publisher import partition_of
from ..kafka.reader import Marks, Reader
from ..kafka.record import Message
from ..ports.contents import Row
from ..ports.outbox import Outbox
from ..ports.store import Store
from ..runtime import crash, metrics
from ..runtime.loop import Stop
from .acknowledged import Acknowledged, Doubt, Doubts, highest
from .loss import loss_of, new_loss, remember
from .parked import history_from

logger = logging.getLogger(__name__)

_ACTOR = "custsvc relay"
_PAGE = 1000
_BATCH = 1000
# How many records' customers are held in memory at once.
_RECORDS = 500_000
# A record up to this many seconds older than the last mark may have come after the loss: clocks differ.
_CLOCKS = 30.0
# Most passes to fill the lost offsets: the lost records may themselves have been repeats.
_FILLS = 3


class Resend:
    """Sends again what a topic that may have lost its end lacks. Only the leading relay may do this."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        outbox: Outbox,
        acknowledged: Acknowledged,
        partitions: int,
        stop: Stop,
        *,
        shard: str,
        send: Callable[[list[CustomerEvent]], int],
        still_leading: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._topic = settings.topic_updates
        self._store = store
        self._outbox = outbox
        self._acknowledged = acknowledged
        self._shard = shard
        self._partitions = partitions
        self._stop = stop
        self._send = send
        self._still_leading = still_leading
        # Per partition: the time of its first record if retention has removed older ones, else 0.
        self._oldest: dict[int, float] = {}

    def unfinished(self) -> Doubts:
        """The partitions of a loss whose resend was not completed."""
        loss = loss_of(self._store.facts, self._topic, only=self._shard)
        parts = loss.partitions if loss and not loss.done else []
        return {
            part: Doubt("what it lost was not all sent again") for part in parts if part < self._partitions
        }

    def run(self, doubts: Doubts) -> int:
        """Compare these partitions with the source and send again what they lack; return how many events.

        If the process dies meanwhile, the next leader starts again from the beginning.
        """
        reasons = "; ".join(f"partition {part}: {doubt.why}" for part, doubt in sorted(doubts.items()))
        loss = new_loss(sorted(doubts))
        remember(self._store.facts, self._topic, loss, self._shard)
        logger.error(
            "The topic %s lost its end. The relay sends the lost events again; all others wait. %s",
            self._topic,
            reasons,
            extra={"action": "topic_loss", "partitions": sorted(doubts)},
        )
        sent = sum(self._group(parts, doubts) for parts in self._groups(doubts))
        self._acknowledged.renew()
        remember(self._store.facts, self._topic, replace(loss, sent=sent, done=True), self._shard)
        logger.error(
            "The topic %s has its lost events again: %d. A copy whose position was beyond its end stops "
            "and reports that; rebuild it: custsvc replicate --rebuild",
            self._topic,
            sent,
            extra={"action": "topic_mended", "sent": sent},
        )
        return sent

    def _groups(self, parts: Iterable[int]) -> Iterator[list[int]]:
        """Split the partitions into groups of at most `_RECORDS` records (a larger one stands alone)."""
        group: list[int] = []
        records = 0
        for part, (low, high) in sorted(self._watermarks(list(parts)).items()):
            if group and records + high - low > _RECORDS:
                yield group
                group, records = [], 0
            group.append(part)
            records += high - low
        yield group

    def _watermarks(self, parts: Sequence[int]) -> dict[int, tuple[int, int]]:
        with Reader(self._settings) as topic:
            return topic.marks(parts)

    def _group(self, parts: Sequence[int], doubts: Doubts) -> int:
        known = self._on_topic(parts, doubts)
        least = {part: self._acknowledged.least(part) for part in parts}
        sent = self._pass(parts, known)
        for _ in range(_FILLS):
            ends = self._acknowledged.ends()
            if not sent or all(ends[part] >= end for part, end in least.items()):
                break
            self._pass(parts, known)
        crash.point("relay.filled")
        return self._pass(parts, known) if sent else 0

    def _on_topic(self, parts: Sequence[int], doubts: Doubts) -> dict[int, int]:
        """The highest version of each customer in these partitions before the loss."""
        with Reader(self._settings) as topic:
            marks = topic.marks(parts)
            dated = self._dated(topic.read(marks), marks)
            old = (each for each in dated if self._is_old(each, doubts[each.partition()]))
            return highest(topic, old)

    def _dated(self, messages: Iterable[Message], marks: Marks) -> Iterator[Message]:
        """Yield the same messages; note each partition's oldest time if retention has removed records."""
        for message in messages:
            part = message.partition()
            if part not in self._oldest:
                self._oldest[part] = message.timestamp()[1] / 1000 if marks[part][0] else 0.0
            yield message

    def _is_old(self, message: Message, doubt: Doubt) -> bool:
        """Whether a record certainly was there before the loss."""
        marks = self._acknowledged.marks
        mark = marks.parts.get(message.partition())
        if mark is not None and message.offset() >= mark.end:
            return False
        return doubt.holds_mark or message.timestamp()[1] / 1000 < marks.time - _CLOCKS

    def _pass(self, parts: Sequence[int], known: Mapping[int, int]) -> int:
        """Send all events that these partitions lack, once; return how many."""
        sent = 0
        batch: list[CustomerEvent] = []
        for rows in self._rows():
            for row, first in self._behind(rows, parts, known):
                batch += self._events(row, first)
                if len(batch) >= _BATCH:
                    sent += self._send(batch)
                    batch = []
        return sent + (self._send(batch) if batch else 0)

    def _rows(self) -> Iterator[Sequence[Row]]:
        """All customers of the source, a page at a time. Raises TemporaryError when another relay leads."""
        after = 0
        while rows := self._store.contents.scan(after, _PAGE):
            self._still_leading()
            if self._stop.asked():
                raise TemporaryError("stopped while comparing the topic", dependency="kafka")
            metrics.beat("relay")
            after = rows[-1].id
            yield rows

    def _behind(
        self, rows: Sequence[Row], parts: Container[int], known: Mapping[int, int]
    ) -> list[tuple[Row, int]]:
        """The rows with a sent version that the topic lacks, each with the first missing version."""
        lacking = [
            (row, known.get(row.id, 0) + 1)
            for row in rows
            if row.version > known.get(row.id, 0)
            and (part := partition_of(b"%d" % row.id, self._partitions)) in parts
            and (row.id in known or not self._is_dropped(row, part))
        ]
        events = self._outbox.events([(row.id, first) for row, first in lacking])
        # A version that waits in the outbox will be sent from there, as will those after it.
        waiting = {key for key, event in events.items() if not event.sent}
        return [(row, first) for row, first in lacking if (row.id, first) not in waiting]

    def _is_dropped(self, row: Row, part: int) -> bool:
        """Whether retention removed a customer: its last change is older than the oldest record kept."""
        oldest = self._oldest.get(part, 0.0) - _CLOCKS
        return oldest > 0 and _changed(row) < oldest

    def _events(self, row: Row, first: int) -> list[CustomerEvent]:
        """A customer's events from this version on; a snapshot stands in for trimmed history."""
        events = history_from(self._store.customers, row.id, first)
        if not events or events[-1].version < row.version:
            events.append(snapshot(row.id, row.version, row.doc, utc_now(), actor=_ACTOR))
        return events


def _changed(row: Row) -> float:
    """When a customer was last changed, as Unix time."""
    return parse_time(orjson.loads(row.doc)["updated_on"]).timestamp()
