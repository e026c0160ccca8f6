"""`/metrics`, `/api/status` and a customer's notifications."""

from __future__ import annotations

import datetime as dt
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from custsvc.config import Settings
from custsvc.ports.ledger import Notification
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.steps import settle

from .conftest import Client

COUNT = "custsvc_http_request_duration_seconds_count"


def requests(client: Client) -> dict[tuple[str, str, str], float]:
    """Requests by method, route and status."""
    return {
        (s.labels["method"], s.labels["route"], s.labels["status"]): s.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for s in family.samples
        if s.name == COUNT
    }


def test_requests_are_counted_by_route_and_no_label_is_personal(client: Client, stranger: Client) -> None:
    before = requests(stranger)
    customer = client.create(name="Canary Lark", email="canary@example.org", phone="+1 555 777 9999")
    client.get(f"/api/customers/{customer['id']}?x=1")
    client.get("/nothing/canary")
    client("BREW", "/canary")
    stranger.get("/api/customers/?q=canary")

    after = requests(stranger)
    text = stranger.get("/metrics").text.lower()

    def more(*key: Any) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert more("POST", "/api/customers", "201") == 1
    assert more("GET", "/api/customers/<id:customer_id>", "400") == 1
    assert more("GET", "none", "404") == 1
    assert more("other", "none", "404") + more("other", "none", "405") == 1
    assert more("GET", "/api/customers", "401") == 1
    for secret in ("canary", "777 9999", "csk_", "write"):
        assert secret not in text


def test_metrics_show_how_many_events_wait(store: Store, client: Client, stranger: Client) -> None:
    for _ in range(3):
        client.create()

    families = {f.name: f for f in text_string_to_metric_families(stranger.get("/metrics").text)}

    assert families["custsvc_outbox_waiting"].samples[0].value == 3
    assert families["custsvc_outbox_oldest_age_seconds"].samples[0].value >= 0
    (up,) = families["custsvc_dependency_up"].samples
    assert (up.labels, up.value) == ({"dependency": store.name}, 1)


def test_metrics_are_there_while_the_database_is_not(backend: str) -> None:
    away = {"postgres_url": "postgresql://127.0.0.1:1/x", "mongo_url": "mongodb://127.0.0.1:1/x"}
    app = create_app(Settings(backend=backend, auth="off", **away))  # type: ignore[arg-type]

    text = app.test_client().get("/metrics").text
    app.extensions["custsvc"].store.close()

    assert f'custsvc_dependency_up{{dependency="{backend}"}} 0.0' in text
    assert "custsvc_outbox_waiting" not in text


def test_the_status_names_kafka_where_it_is_missing(client: Client, store: Store) -> None:
    client.create()

    status = client.get("/api/status").json

    assert status["outbox"]["waiting"] == 1
    assert status["backend"] == store.name
    assert status["steps"] == []
    assert "Kafka" in status["problem"]


def test_a_customers_notifications_are_shown_the_newest_first(client: Client, store: Store) -> None:
    customer, other = client.create(), client.create()
    path = f"/api/customers/{customer['id']}/notifications"
    assert client.get(path).json == {"results": []}

    def mail(number: int, customer_id: int) -> Notification:
        return Notification(
            f"n{number}", f"e{number}", customer_id, number, "welcome", "ann@example.org", "Hi", "text", None
        )

    store.ledger.add([mail(1, customer["id"]), mail(3, other["id"])])
    store.ledger.add([mail(2, customer["id"])])
    (claimed,) = [n for n in store.ledger.claim(10, 60) if n.id == "n1"]
    settle(
        store.ledger,
        claimed,
        "deferred",
        reason="451 later",
        code=451,
        next_at=dt.datetime.now(dt.UTC),
        duration=0.2,
    )

    shown = client.get(path).json["results"]

    assert [each["id"] for each in shown] == ["n2", "n1"]
    assert (shown[1]["state"], shown[1]["reason"]) == ("deferred", "451 later")
    assert [(a["number"], a["code"], a["outcome"]) for a in shown[1]["attempts"]] == [(1, 451, "deferred")]
    assert "text" not in shown[0]
    assert client.get(path + "?limit=1").json["results"] == shown[:1]
    assert client.get("/api/customers/987654/notifications").status_code == 404
