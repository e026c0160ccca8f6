"""The past: a customer at a time, a revert to a version, and nothing after an erasure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

import orjson
import pytest
from flask import Flask

from custsvc.ports.accounts import Role
from custsvc.ports.store import Store
from custsvc.retention.trim import Trim
from custsvc.runtime.loop import Stop
from custsvc.service.customers import CustomerService

from .conftest import ANN, Client

NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


@pytest.fixture
def clock(app: Flask) -> Iterator[Callable[[float], None]]:
    """Sets the time of day, in hours."""
    changes = _services(app)._changes
    times = [NOON]
    before, changes.clock = changes.clock, lambda: times[0]

    def at(hour: float) -> None:
        times[0] = NOON.replace(hour=0) + dt.timedelta(hours=hour)

    yield at
    changes.clock = before


def _services(app: Flask) -> CustomerService:
    service = app.extensions["custsvc"].customers
    assert isinstance(service, CustomerService)
    return service


@pytest.fixture
def ann(client: Client, clock: Callable[[float], None]) -> str:
    """The path of a customer created at 8, changed at 9 and at 10, deleted at 11, restored at 12."""
    clock(8)
    path = f"/api/customers/{client.create()['id']}"
    clock(9)
    client.patch(path, json={"name": "Ann Smith"})
    clock(10)
    client.patch(path, json={"metadata": {"tier": "gold"}})
    clock(11)
    client.delete(path)
    clock(12)
    client.post(f"{path}/restore")
    return path


@pytest.mark.parametrize(
    ("time", "version"),
    [
        ("2026-11-23T08:00:00Z", 1),
        ("2026-11-23T08:59:59.999Z", 1),
        ("2026-11-23T09:00:00.000Z", 2),
        ("2026-11-23T10:30:00%2B01:00", 2),
        ("2026-11-23T10:30:00+01:00", 2),
        ("2026-11-23T10:30", 3),
        ("2026-11-23T11:00:00Z", 4),
        ("2026-11-24", 5),
    ],
)
def test_a_customer_as_it_was_at_a_time(client: Client, ann: str, time: str, version: int) -> None:
    then = client.get(f"{ann}/history?at={time}")

    assert then.status_code == 200, then.text
    assert then.headers["ETag"] == f'"v{version}"'
    events = client.get(f"{ann}/history").json["results"]
    assert then.json == next(event["after_change"] for event in events if event["version"] == version)


def test_before_it_was_there_it_is_not_found(client: Client, ann: str) -> None:
    for path in (f"{ann}/history?at=2026-11-23T07:59:59.999Z", "/api/customers/99/history?at=2026-11-23"):
        assert client.get(path).json["code"] == "not-found"


@pytest.mark.parametrize("query", ["at=", "at=yesterday", "at=2026-13-01", "at=2026-11-23&limit=5"])
def test_a_malformed_time_is_refused(client: Client, ann: str, query: str) -> None:
    assert client.get(f"{ann}/history?{query}").status_code == 400


def test_a_customer_goes_back_to_a_version_as_a_new_version(client: Client, ann: str) -> None:
    answer = client.post(f"{ann}/revert", json={"version": 1}, headers={"If-Match": '"v5"'})

    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"v6"'
    assert (answer.json["name"], answer.json["metadata"]) == ("Ann Lee", {})
    newest = client.get(f"{ann}/history?limit=1").json["results"][0]
    assert (newest["op"], newest["changed"]) == ("updated", ["name", "metadata"])


def test_back_to_the_fields_there_are_changes_nothing(client: Client, ann: str) -> None:
    assert client.post(f"{ann}/revert", json={"version": 5}).headers["ETag"] == '"v5"'


def test_reverting_is_refused_where_it_means_nothing(client: Client, ann: str) -> None:
    for body, status in (
        ({"version": 6}, 400),
        ({"version": 0}, 400),
        ({"version": "1"}, 400),
        ({}, 400),
        ({"version": 1, "x": 1}, 400),
    ):
        assert client.post(f"{ann}/revert", json=body).status_code == status
    assert client.post(f"{ann}/revert", json={"version": 1}, headers={"If-Match": '"v4"'}).status_code == 412
    assert client.post("/api/customers/99/revert", json={"version": 1}).json["code"] == "not-found"
    client.delete(ann)
    assert client.post(f"{ann}/revert", json={"version": 1}).json["code"] == "customer-deleted"


def test_dropped_history_is_answered_as_gone_and_the_rest_is_right(
    client: Client, store: Store, ann: str
) -> None:
    """The state at the limit and all later ones stay: here those from version 3 on."""
    assert client.get(f"{ann}/history").json["begins_at"] is None
    with store.outbox.lead():
        store.outbox.done(store.outbox.read(10))
    days = (store.clock() - NOON.replace(hour=10, minute=30).timestamp()) / 86400
    Trim(store, "t", days, None, Stop()).run()

    page = client.get(f"{ann}/history").json
    assert [each["version"] for each in page["results"]] == [5, 4, 3]
    assert (page["count"], page["begins_at"]) == (5, "2026-11-23T10:00:00.000Z")
    for time, status, code in (
        ("07:59", 404, "not-found"),
        ("08:30", 410, "history-trimmed"),
        ("09:59", 410, "history-trimmed"),
        ("10:01", 200, 3),
        ("11:01", 200, 4),
        ("23:00", 200, 5),
    ):
        answer = client.get(f"{ann}/history?at=2026-11-23T{time}:00Z")
        assert (answer.status_code, answer.json["code" if status != 200 else "version"]) == (status, code)
    assert client.post(f"{ann}/revert", json={"version": 2}).json["code"] == "history-trimmed"
    assert client.post(f"{ann}/revert", json={"version": 9}).json["code"] == "validation"
    assert client.post(f"{ann}/revert", json={"version": 3}).status_code == 200


def test_an_erased_customer_has_nothing_personal_left_in_record_or_history(
    client: Client, app: Flask, make_key: Callable[[Role], str], store: Store, ann: str
) -> None:
    personal = [b"Ann", b"Smith", b"ann@example.org", b"1234", b"gold", b"tier"]
    before = client.get(f"{ann}/history").json["results"]
    assert all(any(word in event for event in store.customers.history(1, limit=9)) for word in personal)

    answer = Client(app, make_key("admin")).post(f"{ann}/erase")

    assert answer.status_code == 200, answer.text
    assert (answer.json["name"], answer.json["email"], answer.json["metadata"]) == ("(erased)", None, {})
    assert answer.json["version"] == 6
    events = store.customers.history(1, limit=9)
    for word in personal:
        assert not any(word in event for event in [*events, answer.data, client.get("/api/customers/").data])
    after = [orjson.loads(event) for event in events]
    assert after[0]["op"] == "erased"
    assert after[0]["changed"] == ["name", "email", "phone", "metadata"]
    kept = ("id", "event_ts", "op", "version", "changed", "actor", "app_event_type")
    assert [[event[name] for name in kept] for event in after[1:]] == [
        [event[name] for name in kept] for event in before
    ]
    assert client.get("/api/customers/?q=smith").json["count"] == 0


def test_erasing_again_changes_nothing_and_a_deleted_customer_can_be_erased(
    client: Client, app: Flask, make_key: Callable[[Role], str], ann: str
) -> None:
    admin = Client(app, make_key("admin"))
    client.delete(ann)

    assert [admin.post(f"{ann}/erase").json["version"] for _ in range(2)] == [7, 7]
    assert client.get(ann).json["code"] == "customer-deleted"


def test_erasing_needs_an_admin_and_the_version_asked_for(
    client: Client, app: Flask, make_key: Callable[[Role], str], ann: str
) -> None:
    assert client.post(f"{ann}/erase").status_code == 403
    admin = Client(app, make_key("admin"))
    assert admin.post(f"{ann}/erase", headers={"If-Match": '"v1"'}).status_code == 412
    assert client.get(ann).json["name"] == "Ann Smith"


def test_events_that_wait_for_the_relay_are_scrubbed_too(
    app: Flask, make_key: Callable[[Role], str], store: Store, ann: str
) -> None:
    Client(app, make_key("admin")).post(f"{ann}/erase")

    with store.outbox.lead():
        events = store.outbox.read(100).events

    assert [event.version for event in events] == [1, 2, 3, 4, 5, 6]
    assert not any(ANN["email"].encode() in event.payload for event in events)
