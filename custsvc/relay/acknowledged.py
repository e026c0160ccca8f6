"""Whether the topic still has what Kafka acknowledged: it may lose its end, and nobody would say so.

A Kafka that is restored to an older state, a leader that lacked the newest records, a machine that lost its
power before the records were on its disk: the end is gone, and what is sent next takes its place. So three
things are held against the topic.

- While a relay leads: no partition may end before the place that the acknowledged records lead to.
- A mark that is renewed every few seconds and kept in the source: where each partition ended, and what its
  last record was. Another record in that place was sent after a loss.
- When a relay begins: what was sent after the mark, as the history of the source knows it.

A record that retention or compaction took is no loss. What is sent again is decided by comparing the
partition with the source (see `resend`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from ..config import Settings
from ..domain.events import decode
from ..errors import BadEvent, NewerSchema
from ..kafka import client as kafka
from ..kafka.reader import Reader
from ..kafka.record import Message
from ..ports.facts import Fact
from ..ports.outbox import Sent
from ..ports.store import Store
from ..runtime.loop import Stop
from .guard import fingerprint

logger = logging.getLogger(__name__)

# Seconds between two marks.
_EVERY = 5.0
# Seconds. A leader that was elected a moment ago may not know yet how far its log is good.
_SETTLING = 3.0
# Events that are looked at for what was sent after the mark.
_NEWEST = 1000
# Records before the mark that may be of events which were not known to be sent when it was made.
_BEFORE = 2000


class Doubt(NamedTuple):
    """Why a partition has lost something, and whether it still has all before the mark."""

    why: str
    holds_mark: bool = False


Doubts = Mapping[int, Doubt]
"""The partitions of which something is gone."""


class Mark(NamedTuple):
    """Where a partition ended, and what tells its last record; empty where there was none before the end."""

    end: int
    record: str


class Marks(NamedTuple):
    """The marks of all partitions, when they were made, and the event that was the last one sent then."""

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
    """What the leading relay knows of the ends of its topic. `look` may run beside the sending."""

    def __init__(self, settings: Settings, store: Store, client: kafka.AdminClient, partitions: int) -> None:
        self._topic = settings.topic_updates
        self._servers = settings.kafka_servers
        self._store = store
        self._admin = client
        self._partitions = partitions
        self._marked_on = time.monotonic()
        # Each partition ends where it ended at some time, and as many records further as were acknowledged
        # since. Only the sender counts, only a look sets where to count from.
        self._from = [0] * partitions
        self._counted = [0] * partitions
        # Odd while something is being sent: then nobody can say where to count from.
        self._turn = 0
        known = store.facts.get(Fact.ACKNOWLEDGED + self._topic)
        self.marks = Marks.decoded(known) if known else Marks(time.time(), "", {})
        # Of a log only single records are wanted, so it fetches as little as there is.
        self._reader = Reader(settings, fetch_message_max_bytes=1)

    def close(self) -> None:
        self._reader.close()

    # -- while it leads -------------------------------------------------------------------------------------

    def sending(self) -> None:
        """Something is about to be sent."""
        self._turn |= 1

    def sent(self, counts: Mapping[int, int]) -> None:
        """All of it was acknowledged: so many records of each partition."""
        for part, count in counts.items():
            self._counted[part] += count
        self._turn += 1

    def look(self) -> Doubts:
        """What is gone from the topic; renews the marks now and then."""
        turn, least = self._turn, self._least()
        now, newest = time.time(), self._newest_sent() if self._is_due() else None
        ends = self._ends()
        if short := self._short(ends, least):
            return short
        if turn == self._turn and not turn & 1:
            self._from = [ends[part] - counted for part, counted in enumerate(self._counted)]
        if newest is None:
            return {}
        moved = [part for part, end in ends.items() if self._end(part) != end]
        if others := self._others(moved):
            return others
        self._mark(now, newest, ends, moved)
        return {}

    def _is_due(self) -> bool:
        return time.monotonic() - self._marked_on > _EVERY

    def _least(self) -> list[int]:
        return [start + counted for start, counted in zip(self._from, self._counted, strict=True)]

    def _ends(self) -> dict[int, int]:
        return kafka.ends(self._admin, self._topic, range(self._partitions), self._servers)

    def _end(self, part: int) -> int:
        mark = self.marks.parts.get(part)
        return mark.end if mark else 0

    # -- marks ----------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Take the topic as it is now, of which nothing is missing, for what there has to be."""
        now, newest, ends = time.time(), self._newest_sent(), self._ends()
        self._from = [ends[part] - counted for part, counted in enumerate(self._counted)]
        self._mark(now, newest, ends, list(ends))

    def _mark(self, now: float, newest: str, ends: Mapping[int, int], moved: Iterable[int]) -> None:
        """Make the marks of what moved. An idle relay writes nothing."""
        self._marked_on = time.monotonic()
        moved = list(moved)
        if not moved and self.marks.newest == newest:
            return
        found = self._records({part: ends[part] - 1 for part in moved if ends[part]})
        new = {part: Mark(ends[part], found.get(part, "")) for part in moved}
        self.marks = Marks(now, newest, {**self.marks.parts, **new})
        self._store.facts.put(Fact.ACKNOWLEDGED + self._topic, self.marks.encoded())

    def _newest_sent(self) -> str:
        newest = self._store.outbox.latest(1)
        return newest[0].event_id if newest else ""

    def _records(self, places: Mapping[int, int]) -> dict[int, str]:
        """What tells the records in these places; partitions that have none there are left out."""
        ranges = {part: (offset, offset + 1) for part, offset in places.items()}
        return {message.partition(): _told(message) for message in self._reader.read(ranges)}

    def _others(self, parts: Iterable[int]) -> dict[int, Doubt]:
        """Those of these partitions that have another record where the mark is.

        One that is not there any more was taken by retention or compaction: a log that was cut and grew
        again has no holes.
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
        """What is gone since a relay led last."""
        self._from = [self._end(part) for part in range(self._partitions)]
        doubts = self.settled(stop)
        return {**self._unseen(doubts), **doubts}

    def settled(self, stop: Stop) -> Doubts:
        """What is gone from the topic and stays so for a while. Only while nothing is sent."""
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
        """Where a partition ended at least, when it was whole."""
        return max(self._least()[part], self._end(part))

    def ends(self) -> Mapping[int, int]:
        """Where the partitions end now."""
        return self._ends()

    def _unseen(self, doubts: Doubts) -> dict[int, Doubt]:
        """Partitions that do not have the last event that was sent to them after the mark.

        Of one that retention has cut behind its mark nothing can be said.
        """
        newest = self._sent_since() if self.marks.parts else {}
        marks = self._reader.marks(list(newest))
        near = {p: (max(low, self._end(p) - _BEFORE), high) for p, (low, high) in marks.items()}
        wanted = {p: sent for p, sent in newest.items() if p not in doubts and marks[p][0] <= self._end(p)}
        # A batch may have been long under way when the mark was made.
        for ranges in (near, marks):
            found = {p: ranges[p] for p in wanted}
            seen = highest(self._reader.read(found))
            wanted = {p: sent for p, sent in wanted.items() if seen.get(sent.customer_id, 0) < sent.version}
        return {
            part: Doubt(
                f"version {sent.version} of customer {sent.customer_id} was acknowledged and is not there",
                holds_mark=True,
            )
            for part, sent in wanted.items()
        }

    def _sent_since(self) -> dict[int, Sent]:
        """The last event that was sent to each partition after the mark, as the history has it."""
        newest: dict[int, Sent] = {}
        for sent in self._store.outbox.latest(_NEWEST):
            if sent.event_id == self.marks.newest:
                break
            newest.setdefault(kafka.partition_of(b"%d" % sent.customer_id, self._partitions), sent)
        return newest


def highest(messages: Iterable[Message]) -> dict[int, int]:
    """The highest version of each customer among these records; what is no event is passed over."""
    found: dict[int, int] = {}
    for message in messages:
        try:
            event = decode(message.value() or b"", message.key())
        except (BadEvent, NewerSchema):
            continue
        if event.version > found.get(event.customer_id, 0):
            found[event.customer_id] = event.version
    return found


def _told(message: Message) -> str:
    return fingerprint(b"%b\n%b" % (message.key() or b"", message.value() or b"")).hex()
