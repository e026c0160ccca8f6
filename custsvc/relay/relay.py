"""The relay: brings every event from the outbox to Kafka, in order per customer.

One relay leads per source, or per shard of it (see `shards`); any number stand by. The leader reads a batch,
sends every event, waits for every acknowledgement, and only then marks the batch as sent; the next batch is
read, or even sent, meanwhile. After any failure in between, all unmarked batches are read and sent again, by
a new producer: consumers drop repeats by version, and nothing is lost. A changed topic or a restored database
would silently break the order of a customer's events, so the relay refuses both (see `guard`). If Kafka loses
records that it has acknowledged, the relay notices it (see `acknowledged`) and sends them again (see
`resend`).

    start ──► STAND BY ◄──┐ another relay leads: ask again every 0.5 s
                 │   └────┘
                 │ the lock is ours
                 ▼
               CHECK ──► ends with ConfigurationError: the topic has changed, or the database was restored
                 │
                 ▼
    ┌────────► READ ◄─────┐ the outbox is empty: wait 2 to 100 ms
    │            │   └────┘
    │            ▼ a batch
    │          SEND           an event too big for the topic parks its customer (see `parked`); the rest goes
    │            │
    │            ▼ every record is acknowledged; with a backlog the next batch is handed over before that
    └───────── MARK

TemporaryError in any state, as from a lost lock: wait with back-off, then STAND BY. The relay looks for a
stop request before READ, and marks what it has sent before it ends. While sending, CHECK looks at the topic
every second; if the topic has lost its end, the lost events are sent again before the next SEND. To let the
topic grow, the relay stops before READ until all consumers have caught up, then STAND BY (see `growth`).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Final, NamedTuple

from ..config import Settings
from ..domain.events import CustomerEvent, headers, request_id_of
from ..kafka.client import admin
from ..kafka.formats import Writing
from ..kafka.hashing import partitions_of
from ..kafka.publisher import Flight, Publisher, Record
from ..ports.outbox import Batch
from ..ports.store import Store
from ..runtime import crash, followed, metrics
from ..runtime.followed import Followed
from ..runtime.loop import Stop, keep_trying
from . import growth
from .acknowledged import Acknowledged, Doubt, Doubts
from .growth import Growing
from .guard import check_lineage, check_topic, remember_limit
from .marks import Marks
from .parked import Parking
from .resend import Resend
from .shards import Shard, settle
from .watch import Watch

logger = logging.getLogger(__name__)

# Events in a batch: at first, and at most; then about how many bytes at most, because memory holds a batch
# several times.
_FIRST = 1500
BATCH = 2500
_BYTES = 3_000_000
# Seconds between two looks at an idle outbox: at first, and at most.
_IDLE_FIRST = 0.002
_IDLE_MOST = 0.1
_STANDBY = 0.5
# Seconds between two looks at the groups while the relay holds.
_DRAINING = 0.1
# Seconds after a stop request within which Kafka may still acknowledge what it was given.
_PATIENCE = 1.0
# Seconds between two checks whether parked customers can be sent.
_PARKED = 30.0

EVERYTHING: Final = Shard()

# The tasks that run beside a relay while it leads.
Beside = Callable[[], AbstractContextManager[None]]


class _Sending(NamedTuple):
    """A batch on its way to Kafka, and since when."""

    batch: Batch
    flight: Flight
    began: float


class Relay:
    """Publishes one database's events to one topic."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        publisher: Publisher,
        stop: Stop,
        beside: Beside = nullcontext,
        shard: Shard = EVERYTHING,
    ) -> None:
        self._settings = settings
        self._store = store
        self._shard = shard
        self._outbox = shard.outbox(store)
        self._publisher = publisher
        self._topic = settings.topic_updates
        self._stop = stop
        self._beside = beside
        self._standing_by = False
        self._source = b""
        self._partitions = 0
        self._limit = 0
        self._admin = admin(settings)
        self._writing = Writing(settings)
        self._parking = Parking(store.facts, shard.has)
        self.leads = False
        self._most = _FIRST
        # When a stop request was first seen while something was being sent.
        self._stopping = 0.0

    def run(self) -> None:
        """Lead or stand by until stop is asked. Raises ConfigurationError (see `guard`)."""
        keep_trying(self._lead, self._stop, self._shard.loop)

    def _lead(self) -> None:
        self._writing.begin()  # so a stand-by takes over without the schema registry
        self._source = self._outbox.source().encode()
        if settle(self._store, self._topic, self._shard.division) and self._is_done():
            return
        metrics.beat(self._shard.loop)
        if not self._standing_by:
            self._standing_by = True
            metrics.lag(self._shard.loop, 0.0)
            logger.info("Another relay leads%s; standing by", self._shard, extra={"action": "stand_by"})
        self._stop.wait(_STANDBY)

    def _is_done(self) -> bool:
        """Lead, until stop is asked; False if another relay leads."""
        with self._outbox.lead() as leading:
            if not leading or not self._shard.is_settled(self._store.facts):
                return False
            self._standing_by = False
            growth.settle(self._store.facts, self._topic)
            self._partitions = check_topic(self._settings, self._store.facts, self._admin).partitions
            if self._shard.division.partitions not in (0, self._partitions):
                return False  # the topic was accepted with other partitions: the source is divided again
            check_lineage(self._settings, self._store)
            self._parking.load()
            about = {"action": "leading", "shard": self._shard.number}
            logger.info("Leading: publishing to %s%s", self._topic, self._shard, extra=about)
            self._learn_limit()
            self._acknowledged = self._tracked()
            self._growing = Growing(self._settings, self._store.facts, self._admin, self._partitions)
            with closing(self._acknowledged), self._publisher.dropping(), self._with_beside():
                self._begin()
                self._publish()
        return True

    def _tracked(self) -> Acknowledged:
        facts, parts = self._store.facts, self._shard.parts(self._partitions)
        return Acknowledged(
            self._settings,
            facts,
            self._outbox,
            self._admin,
            self._partitions,
            parts=parts,
            shard=self._shard.suffix,
        )

    @contextmanager
    def _with_beside(self) -> Iterator[None]:
        """What runs beside the leading of the first shard, and that this relay leads."""
        self.leads = True
        try:
            with self._beside() if self._shard.number == 0 else nullcontext():
                yield
        finally:
            self.leads = False
            about = {"action": "left", "shard": self._shard.number}
            logger.info("Leading no more%s", self._shard, extra=about)

    def _begin(self) -> None:
        """Send again the events that the topic has lost since a relay last led."""
        resend = self._resend()
        if doubts := {**self._acknowledged.begin(self._stop), **resend.unfinished()}:
            resend.run(self._widened(doubts))
        else:
            self._acknowledged.renew()

    def _resend(self) -> Resend:
        return Resend(
            self._settings,
            self._store,
            self._outbox,
            self._acknowledged,
            self._partitions,
            self._stop,
            shard=self._shard.suffix,
            send=self._send_again,
            still_leading=self._still_leading,
        )

    def _widened(self, doubts: Doubts) -> Doubts:
        """After a growth a lost record may be of a customer whose events go to another partition now."""
        known = growth.growth_of(self._store.facts, self._topic)
        if known is None or known.to != self._partitions or known.filled:
            return doubts
        others = Doubt("the topic grew, and may have lost its customers elsewhere", holds_mark=True)
        return {part: doubts.get(part, others) for part in self._shard.parts(self._partitions)}

    def _look(self) -> Doubts:
        check_topic(self._settings, self._store.facts, self._admin)
        doubts = self._acknowledged.look()
        if self._shard.is_whole:
            # Last: once it is `ready`, no other thread looks at the topic.
            self._growing.look()
        return doubts

    def _publish(self) -> None:
        idle, released = _IDLE_FIRST, -1000.0
        ahead = Batch()
        # Three threads run beside the sending: one looks at the topic, one reads the next batch, one marks
        # those that were sent.
        with ThreadPoolExecutor(3, "relay") as aside:
            self._marks = Marks(self._outbox, aside)
            self._sending = deque[_Sending]()
            watch = Watch(aside, self._look)
            while not self._stop.asked():
                if self._growing.ready and self._grow():
                    return
                batch = ahead
                if not batch.events:
                    self._settle()
                    batch = self._outbox.read(self._most)
                metrics.beat(self._shard.loop)
                if watch.check(fresh=bool(batch.events)):
                    self._settle()
                    if doubts := self._acknowledged.settled(self._stop):
                        self._resend().run(self._widened(doubts))
                if time.monotonic() - released > _PARKED:
                    self._settle()
                    self._release()
                    released = time.monotonic()
                if not batch.events:
                    metrics.lag(self._shard.loop, 0.0)
                    self._outbox.wait(idle)
                    idle = min(idle * 2, _IDLE_MOST)
                    continue
                idle = _IDLE_FIRST
                if oldest := batch.events[0].time:
                    metrics.waiting_since(self._shard.loop, oldest.timestamp())
                ahead = self._pass_on(batch, aside)
            self._settle()

    def _grow(self) -> bool:
        """Send nothing until all groups have read everything, and switch to the added partitions.

        False if they do not do so in time: go on as before. After True, lead again.
        """
        self._settle()
        end = self._growing.begin(self._still_leading)
        crash.point("relay.held")
        while not self._growing.drained():
            metrics.beat(self._shard.loop)
            if time.monotonic() > end or self._stop.wait(_DRAINING):
                self._growing.give_up()
                return False
            self._still_leading()
        # The marks say which events were sent by the old number of partitions.
        if self._acknowledged.look_now():
            self._growing.give_up()
            return False
        crash.point("relay.drained")
        grown = self._growing.switch()
        crash.point("relay.grown")
        # The client learns of the added partitions.
        self._publisher.renew()
        return grown

    def _still_leading(self) -> None:
        self._outbox.read(1)

    def _pass_on(self, batch: Batch, aside: Executor) -> Batch:
        """Publish a batch; return the events of the next one that were read meanwhile.

        With a backlog the batch is only on its way then, and the one before has landed.
        """
        crash.point("relay.read")
        more = len(batch.events) >= self._most
        self._most = batch_after(batch.events)
        if not more:
            self._depart(batch)
            self._land()
            return self._outbox.ahead(self._marks.unmarked, self._most)
        # No more than three batches are sent again after a failure.
        self._marks.ease(BATCH)
        reading = aside.submit(self._outbox.ahead, self._unmarked(batch), self._most)
        self._depart(batch)
        self._land(but=1)
        return reading.result()

    def _unmarked(self, batch: Batch) -> Batch:
        """All batches that are not known to be marked, up to this one, as one."""
        together = self._marks.unmarked
        for each in (*(sending.batch for sending in self._sending), batch):
            together = self._outbox.together(together, each) if together.events else each
        return together

    def _depart(self, batch: Batch) -> None:
        """Hand a batch over to Kafka's client."""
        began = time.time()
        flight = self._hand_over(self._parking.keep_back(batch.events, self._limit))
        self._sending.append(_Sending(batch, flight, began))
        if len(self._sending) > 1:
            crash.point("relay.overlapped")

    def _land(self, but: int = 0) -> None:
        """Wait until all batches on their way, but the last ones, are acknowledged; they are marked then."""
        while len(self._sending) > but:
            batch, flight, began = self._sending.popleft()
            self._await(flight)
            crash.point("relay.acked")
            self._marks.add(batch)
            metrics.count("relay", "published", len(batch.events))
            about = {"action": "published", "count": flight.sent}
            logger.debug("Published %d events", flight.sent, extra=about)
            if followed.is_on(logger):
                picked = (_followed(e) for e in batch.events if followed.picks(logger, e.traceparent))
                followed.handled(logger, "published", picked, began)

    def _settle(self) -> None:
        """Wait until all that was handed over is acknowledged and marked."""
        self._land()
        self._marks.settle()

    def _learn_limit(self) -> None:
        """Read the topic's record size limit."""
        self._limit = remember_limit(self._settings, self._store.facts, self._admin)
        self._publisher.limit(self._limit)

    def _release(self) -> None:
        """Send the events of parked customers if the topic's limit now allows them."""
        self._learn_limit()
        for parked, events in self._parking.ready(self._store.customers, self._limit):
            self._send(events)
            self._parking.leave(parked)

    def _hand_over(self, events: Sequence[CustomerEvent]) -> Flight:
        # Name the partition explicitly: the client would use added partitions as soon as it sees them.
        parts = partitions_of([event.customer_id for event in events], self._partitions)
        records = self._records(events, parts)
        return self._publisher.hand_over(self._topic, records, parts, give_up=self._gives_up)

    def _await(self, flight: Flight) -> None:
        self._publisher.land(flight, give_up=self._gives_up)
        self._acknowledged.sent(flight.counts, flight.ends)

    def _gives_up(self) -> bool:
        """Whether Kafka had its time to acknowledge after a stop request."""
        if not self._stop.hurries():
            return False
        self._stopping = self._stopping or time.monotonic()
        return time.monotonic() > self._stopping + _PATIENCE

    def _send(self, events: Sequence[CustomerEvent]) -> None:
        self._await(self._hand_over(events))

    def _send_again(self, events: list[CustomerEvent]) -> int:
        """Send lost events again, except those above the topic's limit; return how many were sent."""
        taken = self._parking.keep_back(events, self._limit)
        self._send(taken)
        metrics.count("relay", "resent", len(taken))
        return len(taken)

    def _records(self, events: Sequence[CustomerEvent], parts: Sequence[int]) -> Iterator[Record]:
        encode, content_type = self._writing.encode, self._writing.content_type
        for event, part in zip(events, parts, strict=True):
            value = event.payload if encode is None else encode(event.payload)
            yield Record(b"%d" % event.customer_id, value, headers(event, self._source, content_type), part)
        crash.point("relay.produced")


def _followed(event: CustomerEvent) -> Followed:
    request_id = request_id_of(event.payload)
    names = (event.id, event.customer_id, event.version, request_id, event.traceparent)
    return Followed(*names, happened=event.time.timestamp() if event.time else None)


def batch_after(events: Sequence[CustomerEvent]) -> int:
    """How many events the next batch may have to stay within its bytes, if they are as big as these."""
    average = sum(len(event.payload) for event in events) / len(events)
    return max(1, min(BATCH, int(_BYTES / average)))
