"""`/metrics` of the API: requests by route, method and status, over all of its processes; and the outbox.

The processes of one server share files in a folder that the main process makes (prometheus-client's
multiprocess mode), so any of them can report for all. Routes are patterns, not paths: no label holds an id, a
name or a key.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from .. import __version__
from ..errors import CustsvcError
from ..http.answer import Answer
from ..http.request import Request
from ..http.resource import ApiResource
from ..ports.outbox import Depth
from ..ports.store import Store
from ..runtime.metrics import METRICS_FOLDER

# Seconds between counts of the backlog: counting a long one is expensive.
_DEPTH_GOOD: Final = 5.0

_SECONDS: Final = Histogram(
    "custsvc_http_request_duration_seconds",
    "Time to an answer, by route",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
    registry=REGISTRY,
)
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


# The metrics' children by label: the library's lookup costs more than the observation.
_known: dict[tuple[str, str | None, int], Any] = {}
_KNOWN_MAX: Final = 5000


_READS: Final = Counter(
    "custsvc_reads",
    "Reads of customers: answered by the read server, or by the source and why",
    ["server"],
)
_LAG: Final = Gauge(
    "custsvc_read_server_lag_seconds",
    "By how much the read server is behind the source; -1 if it cannot be used",
    multiprocess_mode="livemax",
)


def count_read(server: str) -> None:
    """Count a read of customers by who answered it."""
    _READS.labels(server).inc()


def note_lag(seconds: float) -> None:
    """Note by how much the read server is behind."""
    _LAG.set(seconds)


def observe(request: Request, route: str | None, status: int) -> None:
    """Count an answered request under its route's pattern; None for an unknown path."""
    key = (request.method, route, status)
    child = _known.get(key)
    if child is None:
        if len(_known) > _KNOWN_MAX:
            _known.clear()
        child = _known[key] = _SECONDS.labels(method_of(request), route_of(route), str(status))
    child.observe(time.perf_counter() - request.began)


def method_of(request: Request) -> str:
    """The method, if it is one of HTTP's."""
    return request.method if request.method in _METHODS else "other"


def route_of(route: str | None) -> str:
    """The name of a route: its pattern without the final slash; `none` for an unknown path."""
    return route.rstrip("/") if route else "none"


class Metrics(ApiResource):
    """`/metrics`"""

    public: ClassVar[bool] = True

    def __init__(self, services: Any) -> None:
        super().__init__(services)
        self._collector = _StoreCollector(services.store)

    def get(self, _: Request) -> Answer:
        registry = CollectorRegistry()
        if os.environ.get(METRICS_FOLDER):
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            body = generate_latest(registry)
        else:
            body = generate_latest(REGISTRY)
        own = CollectorRegistry()
        own.register(self._collector)
        return Answer(body + generate_latest(own), 200, [("Cache-Control", "no-store")], CONTENT_TYPE_LATEST)


class _StoreCollector:
    """Collects how many events wait in the outbox, and whether the database answers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._depth: Depth | None = None

    def collect(self) -> Iterator[Any]:
        depth = self._asked_depth()
        yield InfoMetricFamily("custsvc", "The version", {"role": "serve", "version": __version__})
        up = GaugeMetricFamily("custsvc_dependency_up", "Whether it answers", labels=["dependency"])
        up.add_metric([self._store.name], float(depth is not None))
        yield up
        if depth is not None:
            yield GaugeMetricFamily(
                "custsvc_outbox_waiting", "Events that are not on Kafka yet", depth.waiting
            )
            yield GaugeMetricFamily(
                "custsvc_outbox_oldest_age_seconds", "Age of the oldest of them", depth.oldest_age
            )

    def _asked_depth(self) -> Depth | None:
        with self._lock:
            if time.monotonic() - self._asked > _DEPTH_GOOD:
                try:
                    self._depth = self._store.outbox.depth()
                except CustsvcError:
                    self._depth = None
                self._asked = time.monotonic()
            return self._depth
