"""The relay: brings every event from the outbox to Kafka, in order per customer.

One relay leads per source, any number stand by. The leader reads a batch, sends every event, waits for every
acknowledgement, and only then marks the batch as sent; the next batch is read, or even sent, meanwhile.
Whatever breaks in between, a batch that is not marked is read and sent again: consumers drop repeats by
version, and nothing is lost. A changed topic or a restored database would break the order of a customer's
events without anybody noticing, so the relay refuses both (see `guard`). What Kafka loses of what it has
acknowledged is noticed (see `acknowledged`) and sent again (see `resend`).

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
    │            ▼ every record is acknowledged
    └───────── MARK

TemporaryError in any state, as from a lost lock: wait with back-off, then STAND BY. A wish to stop is heard
before READ, so the batch in hand is marked first. While sending, CHECK looks at the topic again every second;
where the topic has lost its end, what is gone is sent again before the next SEND.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing

from ..config import Settings
from ..domain.events import CustomerEvent, headers
from ..kafka.client import Publisher, Record, admin, partition_of
from ..ports.outbox import Batch
from ..ports.store import Store
from ..runtime import crash, metrics
from ..runtime.loop import Stop, keep_trying
from .acknowledged import Acknowledged, Doubts
from .guard import check_lineage, check_topic, remember_limit
from .parked import Parking
from .resend import Resend

logger = logging.getLogger(__name__)

# Events of a batch: at first, and at most. Not more of them than about so many bytes: a batch is in memory
# several times.
_FIRST = 1500
BATCH = 5000
_BYTES = 6_000_000
# Seconds between two looks at an idle outbox: at first, and at most.
_IDLE_FIRST = 0.002
_IDLE_MOST = 0.1
_STANDBY = 0.5
# Seconds between two looks at the topic, and how old the last one may be when something is sent.
_GUARD = 1.0
_FRESH = 2.0
# Seconds between two looks whether those that are parked may go.
_PARKED = 30.0


class _Watch:
    """Looks at the topic once in a while, beside other work: what it finds is given at the next check."""

    def __init__(self, aside: Executor, look: Callable[[], Doubts]) -> None:
        self._aside = aside
        self._look = look
        self._looking: Future[Doubts] | None = None
        # When the last look began, and when the last one did whose result was taken.
        self._began = self._seen = time.monotonic()

    def check(self, *, fresh: bool) -> Doubts:
        """What was found since the last check; with `fresh` what there is to find now, or a moment ago."""
        entered = time.monotonic()
        if self._looking is None and entered - self._began > _GUARD:
            self._start()
        found = self._take() if self._looking is not None and self._looking.done() else {}
        if not found and fresh and self._seen < entered - _FRESH and self._looking is not None:
            found = self._take()
        if not found and fresh and self._seen < entered - _FRESH:
            self._start()
            found = self._take()
        return found

    def _start(self) -> None:
        self._began = time.monotonic()
        self._looking = self._aside.submit(self._look)

    def _take(self) -> Doubts:
        """Wait for the look that goes on."""
        looking, self._looking = self._looking, None
        if looking is None:
            return {}
        found = looking.result()
        self._seen = self._began
        return found


class Relay:
    """Publishes one database's events to one topic."""

    def __init__(self, settings: Settings, store: Store, publisher: Publisher, stop: Stop) -> None:
        self._settings = settings
        self._store = store
        self._outbox = store.outbox
        self._publisher = publisher
        self._topic = settings.topic_updates
        self._stop = stop
        self._standing_by = False
        self._source = ""
        self._partitions = 0
        self._limit = 0
        self._admin = admin(settings)
        self._parking = Parking(store.facts)
        self._most = _FIRST
        self._marking: Future[None] | None = None

    def run(self) -> None:
        """Lead or stand by until stop is asked. Raises ConfigurationError where going on is refused."""
        keep_trying(self._lead, self._stop, "relay")

    def _lead(self) -> None:
        self._source = self._outbox.source()
        with self._outbox.lead() as leading:
            if leading:
                self._standing_by = False
                self._partitions = check_topic(self._settings, self._store.facts, self._admin).partitions
                check_lineage(self._settings, self._store)
                self._parking.load()
                logger.info("Leading: publishing to %s", self._topic, extra={"action": "leading"})
                self._learn_limit()
                self._acknowledged = Acknowledged(self._settings, self._store, self._admin, self._partitions)
                with closing(self._acknowledged):
                    self._begin()
                    self._publish()
                return
        metrics.beat("relay")
        if not self._standing_by:
            self._standing_by = True
            metrics.lag("relay", 0.0)
            logger.info("Another relay leads; standing by", extra={"action": "stand_by"})
        self._stop.wait(_STANDBY)

    def _begin(self) -> None:
        """Make good what the topic lost since a relay led last."""
        resend = self._resend()
        if doubts := {**self._acknowledged.begin(self._stop), **resend.unfinished()}:
            resend.run(doubts)
        else:
            self._acknowledged.renew()

    def _resend(self) -> Resend:
        return Resend(
            self._settings,
            self._store,
            self._acknowledged,
            self._partitions,
            self._stop,
            send=self._send_again,
            still_leading=lambda: self._outbox.read(1),
        )

    def _look(self) -> Doubts:
        check_topic(self._settings, self._store.facts, self._admin)
        return self._acknowledged.look()

    def _publish(self) -> None:
        idle, released = _IDLE_FIRST, -1000.0
        ahead = Batch()
        # Beside the sending run: the next look at the topic, and the reading of the next batch or, where
        # few wait, the marking of the one before.
        self._marking = None
        with ThreadPoolExecutor(2, "relay") as aside:
            watch = _Watch(aside, self._look)
            while not self._stop.asked():
                batch = ahead
                if not batch.events:
                    self._marked()
                    batch = self._outbox.read(self._most)
                metrics.beat("relay")
                if watch.check(fresh=bool(batch.events)):
                    self._marked()
                    if doubts := self._acknowledged.settled(self._stop):
                        self._resend().run(doubts)
                if time.monotonic() - released > _PARKED:
                    self._release()
                    released = time.monotonic()
                if not batch.events:
                    metrics.lag("relay", 0.0)
                    self._outbox.wait(idle)
                    idle = min(idle * 2, _IDLE_MOST)
                    continue
                idle = _IDLE_FIRST
                metrics.waiting_since("relay", batch.events[0].time.timestamp())
                ahead = self._pass_on(batch, aside)
                metrics.count("relay", "published", len(batch.events))
            self._marked()

    def _pass_on(self, batch: Batch, aside: Executor) -> Batch:
        """Publish a batch; returns what was read meanwhile of what comes next."""
        crash.point("relay.read")
        more = len(batch.events) >= self._most
        self._most = batch_after(batch.events)
        reading = None
        if more:
            # What is read ahead of a batch has in it what was not marked before that.
            self._marked()
            reading = aside.submit(self._outbox.ahead, batch, self._most)
        self._send(self._parking.keep_back(batch.events, self._limit))
        crash.point("relay.acked")
        # Never out of order: where the marking of one batch fails, those after it are sent again with it.
        self._marked()
        if reading:
            ahead = reading.result()
            self._mark(batch)
            return ahead
        self._marking = aside.submit(self._mark, batch)
        return self._outbox.ahead(batch, self._most)

    def _mark(self, batch: Batch) -> None:
        self._outbox.done(batch)
        crash.point("relay.saved")

    def _marked(self) -> None:
        """Wait until the batch before is marked."""
        if self._marking is not None:
            marking, self._marking = self._marking, None
            marking.result()

    def _learn_limit(self) -> None:
        """Learn how much the topic takes at once."""
        self._limit = remember_limit(self._settings, self._store.facts, self._admin)
        self._publisher.limit(self._limit)

    def _release(self) -> None:
        """Send what the topic kept back so far, where it takes it now."""
        self._learn_limit()
        for parked, events in self._parking.ready(self._store.customers, self._limit):
            self._send(events)
            self._parking.leave(parked)

    def _send(self, events: Sequence[CustomerEvent]) -> None:
        counts: Counter[int] = Counter()
        self._acknowledged.sending()
        sent = self._publisher.send(self._topic, self._records(events, counts), give_up=self._stop.asked)
        self._acknowledged.sent(counts)
        logger.debug("Published %d events", sent, extra={"action": "published", "count": sent})

    def _send_again(self, events: list[CustomerEvent]) -> int:
        """Send what the topic has lost, as far as it takes it; returns how many."""
        taken = self._parking.keep_back(events, self._limit)
        self._send(taken)
        metrics.count("relay", "resent", len(taken))
        return len(taken)

    def _records(self, events: Sequence[CustomerEvent], counts: Counter[int]) -> Iterator[Record]:
        """The records of these events, as they are asked for; counts those of each partition."""
        for event in events:
            # The partition is said, not left to the client: it would use new ones as soon as it sees them.
            key = b"%d" % event.customer_id
            part = partition_of(key, self._partitions)
            counts[part] += 1
            yield Record(key, event.payload, headers(event, self._source), part)
        crash.point("relay.produced")


def batch_after(events: Sequence[CustomerEvent]) -> int:
    """How many events the next batch may have, so that with events like these it stays within its bytes."""
    average = sum(len(event.payload) for event in events) / len(events)
    return max(1, min(BATCH, int(_BYTES / average)))
