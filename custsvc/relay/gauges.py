"""The relay's gauges: the outbox, its shards, where the history begins, the topic's last loss of its end."""

from __future__ import annotations

import time

from ..errors import CustsvcError
from ..ports.outbox import Depth
from ..ports.store import Store
from ..runtime import metrics
from ..runtime.metrics_server import logger
from ..service.trimmed import begins_at
from .loss import loss_of
from .shards import division_of


class OutboxGauges:
    """How many events wait in the outbox. During an outage of its database: the last known values, ageing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: Depth | None = None
        self._asked = 0.0

    def __call__(self) -> dict[str, float]:
        try:
            self._known, self._asked = self._store.outbox.depth(), time.monotonic()
        except CustsvcError as exc:
            logger.info("Cannot read the outbox for metrics: %s", exc, extra={"action": "metrics_partly"})
        if self._known is None:
            return {}
        since = time.monotonic() - self._asked
        age = self._known.oldest_age + since if self._known.waiting else 0.0
        # A relay that cannot lead, as without Kafka, does not read the outbox, so its lag is set here.
        metrics.lag("relay", age)
        return {
            "custsvc_outbox_waiting": self._known.waiting,
            "custsvc_outbox_oldest_age_seconds": age,
            "custsvc_outbox_known_seconds": since,
        }


def shard_gauges(store: Store) -> dict[str, float]:
    """How many relays share the work now."""
    return {"custsvc_relay_shards": division_of(store.facts).shards}


def history_gauges(store: Store) -> dict[str, float]:
    """Where the history begins, as Unix time; nothing if all of it is there."""
    begins = begins_at(store.facts)
    return {} if begins is None else {"custsvc_history_begins_timestamp_seconds": begins.timestamp()}


def loss_gauges(store: Store, topic: str) -> dict[str, float]:
    """When the relay found that the topic lost its end (Unix time), and how many events it sent again."""
    loss = loss_of(store.facts, topic)
    if loss is None:
        return {}
    return {"custsvc_topic_loss_timestamp_seconds": loss.seconds, "custsvc_topic_loss_resent": loss.sent}
