"""Checks that the topic still has every record that Kafka acknowledged: a topic can lose its end silently.

Kafka was restored to an older state, the new leader lacked the newest records, or a machine lost power before
it wrote them to disk: the end of the topic is gone, and the next records take the same offsets. The relay
detects this by three checks.

- While it leads: no partition may end before the offset that the acknowledged records lead to.
- A mark, renewed every few seconds and kept in the source: where each partition ended, and the fingerprint of
  its last record. A different record at that offset was sent after a loss.
- When it begins to lead: the topic must have the events that the source's history says came after the mark.

A record that retention or compaction removed is not a loss. `resend` compares the partition with the source
to find which events to send again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from ..config import Settings
from ..errors import BadEvent, NewerSchema
from ..kafka import client as kafka
from ..kafka import offsets
from ..kafka.publisher import partition_of
from ..kafka.reader import Reader
from ..kafka.record import Message
from ..ports.facts import Fact, Facts
from ..ports.outbox import Outbox, Sent
from ..runtime.loop import Stop
from .guard import fingerprint

logger = logging.getLogger(__name__)

# Seconds between two marks.
_EVERY = 5.0
# Seconds. A newly elected leader may not know its high watermark yet.
_SETTLING = 3.0
# How many of the newest events are searched for those sent after the mark.
_NEWEST = 1000
# How many records before the mark may hold events that were not yet marked as sent when it was made.
_BEFORE = 2000


class Doubt(NamedTuple):
    """Why a partition seems to have lost records, and whether it still has all records before the mark."""

    why: str
    holds_mark: bool = False


Doubts = Mapping[int, Doubt]
"""The partitions that have lost records."""


class Mark(NamedTuple):
    """Where a partition ended, and the fingerprint of its last record; empty if there was none."""

    end: int
    record: str


class Marks(NamedTuple):
    """The marks of all partitions, when they were made, and the id of the last event sent by then."""

    time: float
    newest: str
    parts: Mapping[int, Mark]

    def encoded(self) -> str:
        return orjson.dumps(
            [self.time, self.newest, {str(p): list(m) for p, m in self.parts.items()}]
        ).decode()

    @classmethod
    def decoded(cls, text: str) -> Marks:
        at, newest, parts = orjson.loads(text)
        return cls(at, newest, {int(part): Mark(*mark) for part, mark in parts.items()})


class Acknowledged:
    """Tracks the ends of the partitions that a relay leads. `look` may run while the relay sends."""

    def __init__(
        self,
        settings: Settings,
        facts: Facts,
        outbox: Outbox,
        client: kafka.AdminClient,
        partitions: int,
        *,
        parts: Sequence[int],
        shard: str,
    ) -> None:
        """`parts` of so many `partitions`; `shard` is what the names of the shard's facts end in."""
        self._topic = settings.topic_updates
        self._servers = settings.kafka_servers
        self._facts = facts
        self._outbox = outbox
        self._admin = client
        self._partitions = partitions
        self._parts = parts
        self._marked_on = time.monotonic()
        # Each partition ends at least where the sender knows it from its acknowledgements, and where it was
        # seen to end. Only the sender changes the first, only `look` the second.
        self._acked = [0] * partitions
        self._seen = [0] * partitions
        self._fact = Fact.ACKNOWLEDGED + self._topic + shard
        known = facts.get(self._fact) or facts.get(Fact.ACKNOWLEDGED + self._topic)
        marks = Marks.decoded(known) if known else Marks(time.time(), "", {})
        self.marks = marks._replace(parts={part: mark for part, mark in marks.parts.items() if part in parts})
        # It reads only single records of a partition, so it fetches as little as possible.
        self._reader = Reader(settings, fetch_message_max_bytes=1)

    def close(self) -> None:
        self._reader.close()

    # -- while it leads -------------------------------------------------------------------------------------

    def sent(self, counts: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Note acknowledged records: how many of each partition, and where those end as far as is known."""
        for part, count in counts.items():
            self._acked[part] = max(self._acked[part] + count, ends.get(part, 0))

    def look(self) -> Doubts:
        """Return the partitions that have lost records; renew the marks every few seconds."""
        least = self._least()
        now, newest = time.time(), self._newest_sent() if self._is_due() else None
        ends = self._ends()
        if short := self._short(ends, least):
            return short
        self._seen = self._of_all(ends)
        if newest is None:
            return {}
        moved = [part for part, end in ends.items() if self._end(part) != end]
        if others := self._others(moved):
            return others
        self._mark(now, newest, ends, moved)
        return {}

    def look_now(self) -> Doubts:
        """`look`, and renew the marks."""
        self._marked_on = -math.inf
        return self.look()

    def _of_all(self, ends: Mapping[int, int]) -> list[int]:
        """0 for the partitions of other shards."""
        return [ends.get(part, 0) for part in range(self._partitions)]

    def _is_due(self) -> bool:
        return time.monotonic() - self._marked_on > _EVERY

    def _least(self) -> list[int]:
        return [max(both) for both in zip(self._acked, self._seen, strict=True)]

    def _ends(self) -> dict[int, int]:
        return offsets.ends(self._admin, self._topic, self._parts, self._servers)

    def _end(self, part: int) -> int:
        mark = self.marks.parts.get(part)
        return mark.end if mark else 0

    # -- marks ----------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Make new marks from the topic as it is now. Only when nothing is missing."""
        now, newest, ends = time.time(), self._newest_sent(), self._ends()
        self._acked = self._of_all(ends)
        self._seen = [0] * self._partitions
        self._mark(now, newest, ends, list(ends))

    def _mark(self, now: float, newest: str, ends: Mapping[int, int], moved: Iterable[int]) -> None:
        """Make new marks of the partitions that moved. An idle relay writes nothing."""
        self._marked_on = time.monotonic()
        moved = list(moved)
        if not moved and self.marks.newest == newest:
            return
        found = self._records({part: ends[part] - 1 for part in moved if ends[part]})
        new = {part: Mark(ends[part], found.get(part, "")) for part in moved}
        self.marks = Marks(now, newest, {**self.marks.parts, **new})
        self._facts.put(self._fact, self.marks.encoded())

    def _newest_sent(self) -> str:
        newest = self._outbox.latest(1)
        return newest[0].event_id if newest else ""

    def _records(self, places: Mapping[int, int]) -> dict[int, str]:
        """The fingerprints of the records at these offsets; leaves out partitions without one."""
        ranges = {part: (offset, offset + 1) for part, offset in places.items()}
        return {message.partition(): _told(message) for message in self._reader.read(ranges)}

    def _others(self, parts: Iterable[int]) -> dict[int, Doubt]:
        """The partitions that have a different record at the mark.

        Retention or compaction removed a record that is missing: a log that was truncated and grew again has
        no gaps.
        """
        marks = {part: self.marks.parts[part] for part in parts if part in self.marks.parts}
        places = {part: mark.end - 1 for part, mark in marks.items() if mark.record}
        found = self._records(places)
        return {
            part: Doubt(f"it has another record at {place} than was acknowledged")
            for part, place in places.items()
            if found.get(part, marks[part].record) != marks[part].record
        }

    # -- when it begins, and when in doubt ------------------------------------------------------------------

    def begin(self, stop: Stop) -> Doubts:
        """Return the partitions that have lost records since a relay last led."""
        self._acked = [self._end(part) for part in range(self._partitions)]
        doubts = self.settled(stop)
        return {**self._unseen(doubts), **doubts}

    def settled(self, stop: Stop) -> Doubts:
        """Return the partitions that still lack records after some seconds. Only while nothing is sent."""
        deadline = time.monotonic() + _SETTLING
        while True:
            ends = self._ends()
            others = self._others(part for part in ends if ends[part] >= self._end(part))
            doubts = {**self._short(ends, self._least()), **others}
            if not doubts or time.monotonic() > deadline or stop.wait(0.2):
                return doubts

    def _short(self, ends: Mapping[int, int], least: Sequence[int]) -> dict[int, Doubt]:
        return {
            part: Doubt(
                f"it ends at {end}, and {least[part]} was acknowledged", holds_mark=end >= self._end(part)
            )
            for part, end in ends.items()
            if end < least[part]
        }

    def least(self, part: int) -> int:
        """The offset that the end of the partition had at least reached before the loss."""
        return max(self._least()[part], self._end(part))

    def ends(self) -> Mapping[int, int]:
        """Where the partitions end now."""
        return self._ends()

    def _unseen(self, doubts: Doubts) -> dict[int, Doubt]:
        """The partitions that lack the last event that was sent to them after the mark.

        A partition whose log start is beyond its mark cannot be judged, and is left out.
        """
        newest = self._sent_since() if self.marks.parts else {}
        marks = self._reader.marks(list(newest))
        near = {p: (max(low, self._end(p) - _BEFORE), high) for p, (low, high) in marks.items()}
        wanted = {p: sent for p, sent in newest.items() if p not in doubts and marks[p][0] <= self._end(p)}
        # A batch may have been in flight for long when the mark was made.
        for ranges in (near, marks):
            found = {p: ranges[p] for p in wanted}
            seen = highest(self._reader, self._reader.read(found))
            wanted = {p: sent for p, sent in wanted.items() if seen.get(sent.customer_id, 0) < sent.version}
        return {
            part: Doubt(
                f"version {sent.version} of customer {sent.customer_id} was acknowledged and is not there",
                holds_mark=True,
            )
            for part, sent in wanted.items()
        }

    def _sent_since(self) -> dict[int, Sent]:
        """The last event sent to each partition after the mark, according to the source's history."""
        newest: dict[int, Sent] = {}
        for sent in self._outbox.latest(_NEWEST):
            if sent.event_id == self.marks.newest:
                break
            newest.setdefault(partition_of(b"%d" % sent.customer_id, self._partitions), sent)
        return newest


def join_marks(facts: Facts, topic: str) -> None:
    """Make one of the marks of all shards: of each partition the one of its shard."""
    name = Fact.ACKNOWLEDGED + topic
    of_shards = [Marks.decoded(each) for each in facts.all(name + "#").values()]
    if not of_shards:
        return
    whole = facts.get(name)
    known = [*([Marks.decoded(whole)] if whole else []), *of_shards]
    oldest = min(of_shards, key=lambda marks: marks.time)
    joined = {part: mark for marks in known for part, mark in marks.parts.items()}
    facts.put(name, oldest._replace(parts=joined).encoded())
    facts.drop_all(name + "#")


def highest(topic: Reader, messages: Iterable[Message]) -> dict[int, int]:
    """The highest version of each customer among these records; skips records that are not events."""
    found: dict[int, int] = {}
    for message in messages:
        try:
            event = topic.events.read(message)
        except (BadEvent, NewerSchema):
            continue
        if event.version > found.get(event.customer_id, 0):
            found[event.customer_id] = event.version
    return found


def _told(message: Message) -> str:
    return fingerprint(b"%b\n%b" % (message.key() or b"", message.value() or b"")).hex()
