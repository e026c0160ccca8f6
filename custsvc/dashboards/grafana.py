"""The Grafana dashboard, made from a table of panels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

UID: Final = "custsvc"
# Grafana's grid is 24 wide.
_WIDE: Final = 8
_HIGH: Final = 8
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_HTTP: Final = "custsvc_http_request_duration_seconds"


class Panel(NamedTuple):
    """A chart: its title, unit, and queries, each with the legend of its lines."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


ROWS: Final[tuple[tuple[str, tuple[Panel, ...]], ...]] = (
    (
        "API",
        (
            Panel("Requests", "reqps", ((f"sum by (method) (rate({_HTTP}_count[5m]))", "{{method}}"),)),
            Panel(
                "Time to an answer",
                "s",
                tuple(
                    (f"histogram_quantile({q}, sum by (le) (rate({_HTTP}_bucket[5m])))", name)
                    for q, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
                ),
            ),
            Panel(
                "Errors",
                "reqps",
                ((f'sum by (status) (rate({_HTTP}_count{{status=~"[45].."}}[5m]))', "{{status}}"),),
            ),
        ),
    ),
    (
        "Events on their way",
        (
            Panel("Waiting in the outbox", "short", (("max(custsvc_outbox_waiting)", "events"),)),
            Panel(
                "Age of the oldest",
                "s",
                (
                    ("max(custsvc_outbox_oldest_age_seconds)", "outbox"),
                    ("max by (loop) (custsvc_lag_seconds)", "{{loop}}"),
                ),
            ),
            Panel(
                "Records behind",
                "short",
                (("sum by (loop, topic) (custsvc_lag_events)", "{{loop}}: {{topic}}"),),
            ),
            Panel(
                "Events by result",
                "eps",
                (("sum by (loop, result) (rate(custsvc_events_total[5m]))", "{{loop}}: {{result}}"),),
            ),
            Panel(
                "Customers that differ from a copy",
                "short",
                (
                    ("max by (copy) (custsvc_verify_different)", "{{copy}}: different"),
                    ("max by (copy) (custsvc_verify_behind)", "{{copy}}: behind"),
                ),
            ),
            Panel(
                "Loops without a round",
                "s",
                (("max by (loop) (custsvc_loop_silence_seconds)", "{{loop}}"),),
            ),
        ),
    ),
    (
        "Mails",
        (
            Panel(
                "Notifications by state", "short", (("max by (state) (custsvc_notifications)", "{{state}}"),)
            ),
            Panel(
                "Age of the oldest unsettled",
                "s",
                (("max(custsvc_notifications_oldest_age_seconds)", "oldest"),),
            ),
            Panel(
                "Webhook endpoints",
                "short",
                (("max by (state) (custsvc_webhook_endpoints)", "{{state}}"),),
            ),
            Panel(
                "Mails that wait without a reason", "short", (("max(custsvc_notifications_stuck)", "mails"),)
            ),
        ),
    ),
    (
        "Processes",
        (
            Panel(
                "Processes by role",
                "short",
                (("count by (role, version) (custsvc_info)", "{{role}} {{version}}"),),
            ),
            Panel(
                "Database answers",
                "bool",
                (("min by (dependency) (custsvc_dependency_up)", "{{dependency}}"),),
            ),
            Panel(
                "Memory of the workers",
                "bytes",
                (("process_resident_memory_bytes and on (instance) custsvc_info", "{{instance}}"),),
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it; it asks for the Prometheus data source."""
    return {
        "uid": UID,
        "title": "custsvc",
        "tags": ["custsvc"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}]
        },
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for name, panels in ROWS:
        yield {
            "id": number,
            "type": "row",
            "title": name,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
            "panels": [],
        }
        number, top = number + 1, top + 1
        for place, panel in enumerate(panels):
            x = place * _WIDE % 24
            yield _chart(number, panel, {"x": x, "y": top, "w": _WIDE, "h": _HIGH})
            number += 1
            if x + _WIDE == 24 or place == len(panels) - 1:
                top += _HIGH


def _chart(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": "ABCDEF"[at], "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for at, (query, legend) in enumerate(panel.queries)
        ],
    }
