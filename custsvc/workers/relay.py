"""The relay: brings every event from the outbox to Kafka, in order per customer.

One leader per source, any number of stand-bys. Read a batch, produce every event, wait for every
acknowledgement, only then note the batch as done. Whatever breaks in between, the batch is read and sent
again: consumers drop repeats by version, and nothing is lost.
"""

from __future__ import annotations

import logging

from ..events import headers
from ..kafka import Publisher, Record
from ..stores.base import Batch, Outbox
from .loop import Stop, keep_trying

logger = logging.getLogger(__name__)

BATCH = 5000
# Seconds between two looks at an idle outbox: at first, and at most.
_IDLE_FIRST = 0.005
_IDLE_MOST = 0.1
_STANDBY = 1.0


class Relay:
    """Publishes one database's events to one topic."""

    def __init__(self, outbox: Outbox, publisher: Publisher, topic: str, stop: Stop) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._topic = topic
        self._stop = stop
        self._standing_by = False
        self._source = ""

    def run(self) -> None:
        """Lead or stand by until stop is asked."""
        keep_trying(self._lead, self._stop, "relay")

    def _lead(self) -> None:
        self._source = self._outbox.source()
        with self._outbox.lead() as leading:
            if leading:
                self._standing_by = False
                logger.info("Leading: publishing to %s", self._topic, extra={"action": "leading"})
                self._publish()
                return
        if not self._standing_by:
            self._standing_by = True
            logger.info("Another relay leads; standing by", extra={"action": "stand_by"})
        self._stop.wait(_STANDBY)

    def _publish(self) -> None:
        idle = _IDLE_FIRST
        while not self._stop.asked():
            batch = self._outbox.read(BATCH)
            if not batch.events:
                self._stop.wait(idle)
                idle = min(idle * 2, _IDLE_MOST)
                continue
            idle = _IDLE_FIRST
            self._send(batch)
            self._outbox.done(batch)

    def _send(self, batch: Batch) -> None:
        source = self._source
        records = (Record(b"%d" % e.customer_id, e.payload, headers(e, source)) for e in batch.events)
        sent = self._publisher.send(self._topic, records, give_up=self._stop.asked)
        logger.debug("Published %d events", sent, extra={"action": "published", "count": sent})
