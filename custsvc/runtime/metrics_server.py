"""`/livez`, `/readyz` and `/metrics` of a worker, on its own port, and on loopback by default."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from ..config import Settings
from ..errors import CustsvcError
from . import metrics

logger = logging.getLogger(__name__)

# A loop without a round for this many seconds hangs: normally it beats every second, even in an outage.
SILENCE: Final = 120.0
# The name of the check that the role's preparation is done.
SCHEMA: Final = "schema"
Checks = Mapping[str, Callable[[], object]]
Gauges = Callable[[], Mapping[str, float]]


@contextmanager
def serving(settings: Settings, role: str, checks: Checks, gauges: Gauges = dict) -> Iterator[int]:
    """Answer within the block, where a port is set; gives the port, or 0.

    `checks` are the role's dependencies by name; each raises if it is unavailable. `gauges` returns more
    numbers to show. A taken port is only a warning: the work is more important.
    """
    if not settings.metrics_port:
        yield 0
        return
    try:
        server = _Server((settings.metrics_host, settings.metrics_port), role, checks, gauges)
    except OSError as exc:
        logger.warning(
            "No metrics: port %d on %s cannot be listened on (%s)",
            settings.metrics_port,
            settings.metrics_host,
            exc.strerror,
            extra={"action": "no_metrics"},
        )
        yield 0
        return
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], role: str, checks: Checks, gauges: Gauges) -> None:
        super().__init__(address, _Handler)
        self.role = role
        self.checks = checks
        self.gauges = gauges


class _Handler(BaseHTTPRequestHandler):
    timeout = 5
    server: _Server
    server_version = "custsvc"
    sys_version = ""

    def do_GET(self) -> None:
        answer = {"/livez": self._live, "/readyz": self._ready, "/metrics": self._metrics}.get(
            self.path.partition("?")[0].rstrip("/")
        )
        if answer is None:
            self._json(404, {"status": "there is /livez, /readyz and /metrics"})
        else:
            answer()

    def _live(self) -> None:
        silent = sorted(loop for loop, age in metrics.snapshot().silence.items() if age > SILENCE)
        self._json(503 if silent else 200, {"status": f"silent: {', '.join(silent)}" if silent else "ok"})

    def _ready(self) -> None:
        down = []
        for name, check in self.server.checks.items():
            try:
                check()
            except CustsvcError as exc:
                logger.info("Not ready: %s", exc, extra={"action": "not_ready"})
                # A database's error may contain its address; why the schema is not ready is our own text.
                down.append(f"{name} ({exc})" if name == SCHEMA else name)
        self._json(503 if down else 200, {"status": f"down: {', '.join(down)}" if down else "ok"})

    def _metrics(self) -> None:
        from prometheus_client import CONTENT_TYPE_LATEST

        self._send(200, exposition(self.server.role, self.server.gauges), CONTENT_TYPE_LATEST)

    def _json(self, status: int, body: dict[str, Any]) -> None:
        body = {**body, "role": self.server.role}
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, media: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # Monitoring asks every few seconds.


def together(*sources: Gauges) -> Gauges:
    """The numbers of all these sources, except those whose server is away."""

    def gauges() -> dict[str, float]:
        found: dict[str, float] = {}
        for source in sources:
            try:
                found |= source()
            except CustsvcError as exc:
                logger.info("Metrics are not whole: %s", exc, extra={"action": "metrics_partly"})
        return found

    return gauges


def exposition(role: str, gauges: Gauges = dict) -> bytes:
    """The counts in Prometheus's format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(role, gauges))
    return generate_latest(registry)


def _partitions(behind: Mapping[str, metrics.Lag], family: Any) -> Iterator[Any]:
    """Each consumer's lag by partition, and the age of that knowledge."""
    labels = ["loop", "topic", "partition"]
    records = family("custsvc_lag_events", "Records not handled yet, by partition", labels=labels)
    seconds = family("custsvc_lag_oldest_seconds", "Age of the oldest of them, by partition", labels=labels)
    known = family("custsvc_lag_known_seconds", "Time since the ends were last known", labels=["loop"])
    for loop, lag in behind.items():
        known.add_metric([loop], lag.known)
        for (topic, part), each in lag.partitions.items():
            records.add_metric([loop, topic, str(part)], each.records)
            seconds.add_metric([loop, topic, str(part)], each.seconds)
    yield from (records, seconds, known) if behind else ()


class _Collector:
    def __init__(self, role: str, gauges: Gauges) -> None:
        self._role = role
        self._gauges = gauges

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
        from prometheus_client.process_collector import ProcessCollector

        from .. import __version__

        more = list(self._more(GaugeMetricFamily))
        seen = metrics.snapshot()
        yield InfoMetricFamily(
            "custsvc", "Which role this is, of which version", {"role": self._role, "version": __version__}
        )
        beats = CounterMetricFamily("custsvc_loop_beats", "Rounds of each loop", labels=["loop"])
        for loop, rounds in seen.loops.items():
            beats.add_metric([loop], rounds)
        silence = GaugeMetricFamily(
            "custsvc_loop_silence_seconds", "Time since a loop's last round", labels=["loop"]
        )
        for loop, age in seen.silence.items():
            silence.add_metric([loop], age)
        lag = GaugeMetricFamily(
            "custsvc_lag_seconds",
            "Age of the oldest event not handled yet; 0 if there is none",
            labels=["loop"],
        )
        for loop, seconds in seen.lags.items():
            lag.add_metric([loop], seconds)
        yield from _partitions(seen.behind, GaugeMetricFamily)
        events = CounterMetricFamily("custsvc_events", "Events by result", labels=["loop", "result"])
        for (loop, result), number in seen.events.items():
            events.add_metric([loop, result], number)
        yield from (beats, silence, lag, events)
        yield from more
        yield from ProcessCollector(registry=None).collect()

    def _more(self, family: Any) -> Iterator[Any]:
        """The role's own numbers; none while their server is away."""
        try:
            found = self._gauges()
        except CustsvcError as exc:
            logger.info("Metrics without %s: %s", self._role, exc, extra={"action": "metrics_partly"})
            return
        families: dict[str, Any] = {}
        for name, value in found.items():
            plain, _, label = name.partition("{")
            key, _, word = label.rstrip("}").partition("=")
            if plain not in families:
                about = plain.removeprefix("custsvc_").replace("_", " ")
                families[plain] = family(plain, about, labels=[key] if key else [])
            families[plain].add_metric([word] if key else [], value)
        yield from families.values()
