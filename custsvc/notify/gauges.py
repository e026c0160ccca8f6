"""The gauges of notify: the state of the ledger."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ..errors import CustsvcError
from ..ports.endpoints import Endpoint, paused_channels
from ..ports.store import Store
from ..runtime.cached import Cached
from ..runtime.metrics_server import Gauges, logger, together
from .endpoints.fields import state


def notify_gauges(store: Store) -> Gauges:
    """All gauges of the role."""
    endpoints = Cached(store.endpoints.all)

    def paused() -> list[str]:
        return paused_channels(endpoints())

    counts = Cached(lambda: store.ledger.counts(paused=paused()))
    stuck = Cached(store.ledger.stuck)
    return together(
        WaitingMails(lambda: store.ledger.oldest(paused=paused())),
        lambda: notification_gauges(counts, stuck),
        lambda: endpoint_gauges(endpoints()),
    )


def endpoint_gauges(endpoints: Sequence[Endpoint]) -> dict[str, float]:
    """How many webhook endpoints are in each state."""
    found = Counter(state(endpoint) for endpoint in endpoints)
    return {
        f"custsvc_webhook_endpoints{{state={each}}}": found[each] for each in ("active", "failing", "paused")
    }


def notification_gauges(
    counts: Callable[[], Mapping[str, int]], stuck: Callable[[], int]
) -> dict[str, float]:
    """How many notifications are in each state, wait for a paused endpoint, and are blocked wrongly."""
    states: dict[str, float] = {f"custsvc_notifications{{state={s}}}": n for s, n in counts().items()}
    return {**states, "custsvc_notifications_stuck": stuck()}


class WaitingMails:
    """The age of the oldest notification that waits; during an outage of the ledger, the last value."""

    def __init__(self, oldest: Callable[[], dt.datetime | None]) -> None:
        self._oldest = Cached(oldest)
        self._known: tuple[float, dt.datetime | None] | None = None

    def __call__(self) -> dict[str, float]:
        try:
            self._known = (time.monotonic(), self._oldest())
        except CustsvcError as exc:
            logger.info("Cannot read the ledger for metrics: %s", exc, extra={"action": "metrics_partly"})
        if self._known is None:
            return {}
        asked, oldest = self._known
        age = max(0.0, time.time() - oldest.timestamp()) if oldest else 0.0
        return {
            "custsvc_notifications_oldest_age_seconds": age,
            "custsvc_notifications_known_seconds": time.monotonic() - asked,
        }
