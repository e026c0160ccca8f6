"""The consumer of intake: each batch of records becomes rows of the ledger.

Its offsets are committed after the ledger has the rows durably; a repeated record finds its rows there. An
unreadable record is logged, and the others go on: replicate dead-letters an event, and this module sends a
mail request to the failed topic.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...config import Settings
from ...domain.received import ReceivedEvent, stated_time
from ...errors import BadEvent, NewerSchema
from ...kafka.consume import Consuming, Offsets, coordinates
from ...kafka.formats import Events
from ...kafka.publisher import Publisher, Record
from ...kafka.record import Message, place_of, sent_at, traceparent_of
from ...ports.endpoints import Endpoint, Endpoints
from ...ports.ledger import Ledger, Notification
from ...ports.recipients import Recipients
from ...runtime import followed
from ...runtime.followed import Followed
from ...runtime.loop import Stop
from ..channels.unsubscribe import UnsubscribeLinks
from ..rules.rules import Rules
from . import request
from .deliveries import deliveries_of
from .digest import Digests, event_time
from .erased import forget_customer
from .failed import unreadable
from .notifications import notifications_of, of_request, too_old

logger = logging.getLogger(__name__)

GROUP = "notify"
"""After the prefix of all groups."""
BATCH = 500
# Seconds that an event may take to arrive here.
_ON_TIME = 2.0
_DAY = 86400.0


def kept_for(settings: Settings) -> float:
    """Seconds that settled rows are kept: longer than events are mailed, since they prevent a second mail."""
    return max(settings.notify_keep_days * _DAY, 2 * settings.notify_max_age)


@dataclass(slots=True)
class Batch:
    """Everything that the records of a batch require."""

    rows: list[Notification] = field(default_factory=list)
    unreadable: list[Record] = field(default_factory=list)
    """For the failed topic: mail requests that cannot be read."""
    erased: dict[int, int] = field(default_factory=dict)
    """Customers who were erased, each with the version of the erasure."""
    newest: dict[int, float] = field(default_factory=dict)
    """Per partition, when the newest of its events happened."""
    old: int = 0
    """How many records are too old to be mailed."""

    def happened(self, partition: int, when: float) -> None:
        self.newest[partition] = max(when, self.newest.get(partition, -math.inf))

    def behind(self) -> float:
        """How many seconds old the newest events are, in the partition that is furthest behind."""
        late = time.time() - min(self.newest.values(), default=math.inf)
        return late if late > _ON_TIME else 0.0


class Intake:
    """Takes in the records of both topics. Start reading at `_take_in`: it handles one batch."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        publisher: Publisher,
        stop: Stop,
        *,
        rules: Rules,
        recipients: Recipients | None = None,
        links: UnsubscribeLinks | None = None,
        bell: threading.Event | None = None,
        endpoints: Endpoints | None = None,
    ) -> None:
        """`bell` is set when there are new mails to send."""
        self._settings = settings
        self._ledger = ledger
        self._recipients = recipients
        self._publisher = publisher
        self._events = Events(settings)
        self._stop = stop
        self._rules = rules
        self._digests = Digests(ledger, rules)
        self._links = links
        self._bell = bell or threading.Event()
        self._endpoints = endpoints
        self._asking: list[Endpoint] = []
        self._keep = kept_for(settings)
        self._consuming = Consuming(
            settings,
            GROUP,
            [settings.topic_updates, settings.topic_notify],
            self._take_in,
            stop,
            what="intake",
            batch=BATCH,
        )

    def run(self) -> None:
        """Take in records until stop is asked. Raises NewerSchema: going on would lose that mail."""
        self._consuming.run()

    def _take_in(self, messages: list[Message], _offsets: Offsets) -> None:
        """Write a batch of records to the ledger; the consumer loop commits their offsets after it."""
        if self._endpoints is not None:
            # After the records came: so an endpoint gets all changes that follow its making.
            self._asking = self._consuming.insist(self._endpoints.all)
        began = time.time()
        batch = self._consuming.insist(lambda: self.read(messages))
        if batch.old:
            self._log_old(batch.old)
        if batch.unreadable:
            self._publisher.send(self._settings.topic_failed, batch.unreadable, give_up=self._stop.asked)
        behind = batch.behind()
        added = self._consuming.insist(lambda: self._digests.add(batch.rows, behind))
        logger.debug("Queued %d mails", added, extra={"action": "queued", "count": added})
        if followed.is_on(logger):
            followed.handled(logger, "queued", map(Followed.of, batch.rows), began)
        if added:
            self._bell.set()
        # After adding the rows: the batch may hold events from before the erasure.
        for customer_id, version in batch.erased.items():
            self._forget(customer_id, version)

    def read(self, messages: Sequence[Message]) -> Batch:
        """What these records require. Writes nothing.

        Raises NewerSchema, with the record's coordinates, and TemporaryError without the schema registry.
        """
        batch = Batch()
        for message in messages:
            if message.topic() == self._settings.topic_notify:
                self._read_request(message, batch)
            elif (value := message.value()) is not None:
                self._read_event(message, value, batch)
        return batch

    def _read_event(self, message: Message, value: bytes, batch: Batch) -> None:
        try:
            event = self._events.read(message, value)
        except BadEvent as exc:
            _log_bad(message, exc.reason_class, exc)
            return
        except NewerSchema as exc:
            raise NewerSchema(f"{exc} ({coordinates(message)})", fix=exc.fix) from exc
        if event.op == "erased":
            batch.erased[event.customer_id] = event.version
        trace = traceparent_of(message)
        rows = notifications_of(event, self._rules, self._links, trace)
        happened = stated_time(event.event_ts)
        self._add_deliveries(event, sent_at(message) if happened is None else happened, trace, batch)
        if self._add(rows, happened, message, batch):
            batch.happened(message.partition(), event_time(event))

    def _add_deliveries(
        self, event: ReceivedEvent, happened: float | None, traceparent: str | None, batch: Batch
    ) -> None:
        """Add what webhook endpoints get, unless their log may have forgotten that they got it already."""
        if self._asking and (happened is None or time.time() - happened <= self._keep):
            oldest = self._settings.notify_max_age
            batch.rows += deliveries_of(event, happened, self._asking, oldest, traceparent)

    def _read_request(self, message: Message, batch: Batch) -> None:
        try:
            asked = request.read(message.value())
        except request.BadRequest as exc:
            _log_bad(message, "bad-request", exc)
            batch.unreadable.append(unreadable(message.value(), message.key(), str(exc), place_of(message)))
            return
        rows = of_request(asked, asked.id or request.own_id(message), traceparent_of(message))
        self._add(rows, None, message, batch)

    def _add(self, rows: list[Notification], stated: float | None, message: Message, batch: Batch) -> bool:
        """Add the rows of a record to the batch, suppressed and False if it is too old to be mailed.

        Old records come again when offsets are reset. The age counts from the record's stated time, else from
        its timestamp.
        """
        oldest = self._settings.notify_max_age
        happened = sent_at(message) if stated is None else stated
        fresh = happened is None or time.time() - happened <= oldest
        batch.old += not fresh
        batch.rows += rows if fresh else [too_old(row, oldest) for row in rows]
        return fresh

    def _forget(self, customer_id: int, version: int) -> None:
        gone = self._consuming.insist(
            lambda: forget_customer(self._ledger, self._recipients, customer_id, version)
        )
        logger.info(
            "Blanked %d notifications of customer %d, who was erased",
            gone,
            customer_id,
            extra={"action": "erased", "customer_id": customer_id, "count": gone},
        )

    def _log_old(self, count: int) -> None:
        logger.warning(
            "%d records are older than %g s, so they are not mailed",
            count,
            self._settings.notify_max_age,
            extra={"action": "suppressed", "count": count},
        )


def _log_bad(message: Message, kind: str, reason: Exception) -> None:
    logger.error(
        "A record cannot be read: %s",
        reason,
        extra={"action": "bad_record", "kind": kind, **place_of(message)},
    )
