"""The contract of the API as one long story, told to both backends, whose answers are compared byte by byte.

Clock and event ids are fixed, so nothing but the backend differs.
"""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from custsvc import events
from custsvc.api import create_app
from custsvc.auth import new_key
from custsvc.config import Settings
from custsvc.service import CustomerService
from custsvc.transfer import load

from ..conftest import Databases, open_database
from .conftest import Client

Told = list[tuple[str, int, list[tuple[str, str]], bytes]]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ANN = {"name": "Ann Lee", "email": "Ann@EXAMPLE.org", "phone": "+49 30 1", "metadata": {"tier": "gold"}}
# What each says of itself alone.
_OWN = ("X-Request-Id", "Date")


class Teller:
    """Tells the story to one backend and keeps every answer."""

    def __init__(self, client: Client, reader: Client, admin: Client, stranger: Client) -> None:
        self.callers = {"": client, "reader": reader, "admin": admin, "stranger": stranger}
        self.told: Told = []

    def __call__(self, status: int, method: str, path: str, by: str = "", **kwargs: Any) -> Any:
        headers = {"X-Request-Id": f"r{len(self.told)}"} | kwargs.pop("headers", {})
        answer = self.callers[by](method, path, headers=headers, **kwargs)
        assert answer.status_code == status, (method, path, answer.text)
        assert method != "HEAD" or answer.data == b""
        kept = sorted((k, v) for k, v in answer.headers if k not in _OWN)
        self.told.append((f"{method} {path}", answer.status_code, kept, answer.data))
        return answer


def story(tell: Teller) -> None:
    """Every row of the contract: route, verb, status, header, filter and problem."""
    base = "/api/customers/"
    # Creating: 201 with Location and ETag, under a key, minimally, wrongly.
    first = tell(201, "POST", base, json=ANN, headers={"traceparent": TRACE})
    assert first.headers["Location"] == f"{base}1/"
    assert (first.headers["ETag"], first.headers["X-Custsvc-Position"]) == ('"v1"', "1-1")
    keyed = {"Idempotency-Key": "k1"}
    tell(201, "POST", base.rstrip("/"), json={"name": "Zoë"}, headers=keyed)
    assert tell(201, "POST", base, json={"name": "Zoë"}, headers=keyed).headers["Idempotency-Replayed"]
    tell(422, "POST", base, json={"name": "Other"}, headers=keyed)
    tell(201, "POST", base, json={"name": "Émile", "email": None}, headers={"Prefer": "return=minimal"})
    tell(201, "POST", "/customers", json={"name": "Old client", "phone": "1", "email": "o@example.com"})
    tell(400, "POST", base, json={"name": "", "email": "no", "colour": 1})
    tell(400, "POST", base, data="{", content_type="application/json")
    tell(415, "POST", base, data="name=x", content_type="application/x-www-form-urlencoded")
    tell(413, "POST", base, data=b" " * 1048577, content_type="application/json")
    tell(400, "POST", base, json={"name": "x"}, headers={"Idempotency-Key": "a b"})
    # One customer.
    one = f"{base}1"
    for path in (one, f"{one}/", "/customers/1", "/customers/1/"):
        tell(200, "GET", path)
        tell(200, "HEAD", path)
    tell(304, "GET", one, headers={"If-None-Match": '"v1"'})
    tell(404, "GET", f"{base}99")
    tell(404, "PUT", f"{base}99", json=ANN)
    tell(404, "DELETE", f"{base}99")
    tell(404, "GET", f"{base}x")
    tell(405, "POST", one, json=ANN)
    tell(401, "GET", one, by="stranger")
    tell(403, "PUT", one, by="reader", json=ANN)
    tell(
        200,
        "PUT",
        one,
        json={**ANN, "id": 7, "version": 9, "phone": "+49 30 2"},
        headers={"If-Match": '"v1"'},
    )
    tell(412, "PUT", one, json=ANN, headers={"If-Match": '"v1"'})
    tell(400, "PUT", one, json=ANN, headers={"If-Match": "v1"})
    patch = "application/merge-patch+json"
    tell(200, "PATCH", one, data='{"metadata":{"vip":true}}', content_type=patch)
    tell(200, "PATCH", one, json={"name": "Ann Smith"}, headers={"If-Match": '"v3"'})
    tell(204, "PATCH", one, json={"name": "Ann Smith"}, headers={"Prefer": "return=minimal"})
    # Deleting, restoring, going back.
    tell(204, "DELETE", one)
    tell(204, "DELETE", one)
    tell(404, "GET", one)
    tell(404, "PUT", one, json=ANN)
    tell(200, "POST", f"{one}/restore")
    tell(200, "POST", f"{one}/revert", json={"version": 1}, headers={"Idempotency-Key": "k2"})
    tell(200, "POST", f"{one}/revert", json={"version": 1}, headers={"Idempotency-Key": "k2"})
    tell(400, "POST", f"{one}/revert", json={"version": 99})
    tell(200, "GET", f"{one}/history")
    tell(200, "GET", f"{one}/history?limit=2")
    tell(200, "GET", f"{one}/history?at=2026-11-23T00:00:03Z")
    tell(404, "GET", f"{one}/history?at=2026-11-22")
    tell(404, "GET", f"{base}99/history")
    # Many at once.
    operations: list[dict[str, Any]] = [
        {"op": "create", "customer": {"name": f"Batch {n}", "metadata": {"n": n}}} for n in range(6)
    ]
    operations += [{"op": "update", "id": 1, "customer": {"phone": None}}, {"op": "delete", "id": 99}]
    tell(200, "POST", f"{base}batch", json={"operations": operations, "atomic": True})
    tell(200, "POST", f"{base}batch", json={"operations": operations})
    tell(400, "POST", f"{base}batch", json={"operations": []})
    lists(tell, base)
    # Erasing.
    tell(403, "POST", f"{one}/erase")
    tell(200, "POST", f"{one}/erase", by="admin")
    tell(200, "GET", f"{one}/history")
    tell(200, "GET", f"{base}?q=smith")
    tell(200, "GET", f"{one}/notifications")
    tell(404, "GET", f"{base}99/notifications")
    in_bulk(tell, base)
    about(tell)


def in_bulk(tell: Teller, base: str) -> None:
    """Out and in again: what goes in is created, updated, the same, or an error of its row."""
    for form in ("csv", "ndjson", "json"):
        assert tell(200, "GET", f"{base}export?format={form}&sort=name&deleted=include").data
    tell(200, "GET", f"{base}export?format=csv&q=batch&fields=id,name")
    tell(400, "GET", f"{base}export?format=xml")
    rows = (
        b'{"name":"Nora","email":"nora@example.org"}\n{"id":2,"name":"Zoe"}\n{"id":3,"name":"\xc3\x89mile"}\n'
    )
    ndjson = "application/x-ndjson"
    asked = f"{base}import?on=id"
    tell(200, "POST", f"{asked}&dry_run=true", data=rows, content_type=ndjson)
    tell(400, "POST", asked, data=rows + b'{"id":2,"name":""}\n', content_type=ndjson)
    done = tell(200, "POST", asked, data=rows, content_type=ndjson, headers={"Idempotency-Key": "k3"})
    assert {name: count for name, count in done.json["counts"].items() if count} == {
        "create": 1,
        "update": 1,
        "same": 1,
    }
    tell(200, "POST", asked, data=rows, content_type=ndjson, headers={"Idempotency-Key": "k3"})
    tell(415, "POST", asked, data=rows, content_type="image/png")
    tell(403, "POST", asked, by="reader", data=rows, content_type=ndjson)


def about(tell: Teller) -> None:
    """What describes the API, and what watches over it; the last needs no key."""
    for path in (
        "/api/openapi.json",
        "/api/schema/",
        "/api/docs",
        "/api/events/schema",
        "/problems/validation",
    ):
        tell(200, "GET", path)
    tell(200, "GET", "/livez", by="stranger")
    tell(401, "GET", "/api/status", by="stranger")
    tell(401, "GET", "/api/failed/", by="stranger")
    tell(401, "GET", "/api/events/stream", by="stranger")
    tell(404, "GET", "/api/nothing")


def lists(tell: Teller, base: str) -> None:
    for query in (
        "",
        "limit=3",
        "count=none&limit=1",
        "count=exact&deleted=include",
        "deleted=only",
        "q=ANN",
        "q=batch&sort=-name",
        "q=zoe",
        "q=emile",
        "q=nobody",
        "email=Ann@example.org",
        "name__startswith=Batch",
        "metadata.tier=gold",
        "metadata.n=3",
        "updated__gte=2026-11-23T00:00:05Z&sort=-updated_on&limit=4",
        "created__lt=2026-11-23T00:00:04Z&fields=id,created_on",
        "sort=email&limit=5",
        "sort=-version&fields=id,name",
        "sort=created_on",
    ):
        page = tell(200, "GET", f"{base}?{query}").json
        if page["next"]:
            # Cursors are signed with each installation's own secret; what they lead to is compared.
            follow(tell, page["next"])
    for query in ("limit=0", "sort=phone", "fields=x", "name[$ne]=x", "q=a&q=b", "cursor=x", "count=maybe"):
        tell(400, "GET", f"{base}?{query}")
    first = tell(200, "GET", f"{base}?limit=2&sort=name").json
    tell(400, "GET", first["next"].replace("sort=name", "sort=-name"))


def follow(tell: Teller, path: str) -> None:
    page = tell(200, "GET", path).json
    assert page["previous"]
    tell(200, "GET", page["previous"])


def without_cursors(told: Told) -> Told:
    """The same without the cursors."""
    import re

    def clean(text: str) -> str:
        return re.sub(r"cursor=[^&>\"]+", "cursor=C", text)

    return [
        (clean(what), status, [(k, clean(v)) for k, v in headers], clean(body.decode()).encode())
        for what, status, headers, body in told
    ]


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Callable[[], dt.datetime]]:
    """Begins time and ids anew; returns the clock: a second passes at each look."""
    load_by_any_clock = load.load

    def begin() -> Callable[[], dt.datetime]:
        numbers, seconds = itertools.count(1), itertools.count()
        monkeypatch.setattr(events, "new_event_id", lambda: f"00000000-0000-7000-8000-{next(numbers):012d}")
        start = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)

        def clock() -> dt.datetime:
            return start + dt.timedelta(seconds=next(seconds))

        monkeypatch.setattr(load, "load", functools.partial(load_by_any_clock, clock=clock))
        return clock

    return begin


@pytest.fixture
def urls(all_databases: Callable[[str], Databases]) -> Iterator[dict[str, str]]:
    made = {name: all_databases(name).migrated() for name in ("postgres", "mongo")}
    yield made
    for name, url in made.items():
        all_databases(name).drop(url)


def told_by(backend: str, url: str, clock: Callable[[], dt.datetime]) -> Told:
    with open_database(backend, url) as store:
        keys = {}
        for role in ("read", "write", "admin"):
            text, key = new_key(role, role)  # type: ignore[arg-type]
            store.keys.add(key)
            keys[role] = text
        # Ids are leased in blocks of each backend's own size; the contract says nothing of gaps.
        ids = itertools.count(1)
        store.customers.new_id = lambda: next(ids)  # type: ignore[method-assign]
        store.customers.new_ids = lambda count: [next(ids) for _ in range(count)]  # type: ignore[method-assign]
        app = create_app(Settings(backend=backend), store)  # type: ignore[arg-type]
        service: CustomerService = app.extensions["custsvc"].customers
        service._changes.clock = clock
        tell = Teller(*(Client(app, keys[role]) for role in ("write", "read", "admin")), stranger=Client(app))
        story(tell)
        for customer_id in range(1, next(ids)):
            for event in reversed(store.customers.history(customer_id, limit=100)):
                tell.told.append((f"event of {customer_id}", 0, [], event))
        with store.outbox.lead():
            traced = [event for event in store.outbox.read(1000).events if event.traceparent]
        assert [(event.customer_id, event.version, event.traceparent) for event in traced] == [(1, 1, TRACE)]
        return tell.told


def test_both_backends_tell_the_same_story_byte_for_byte(
    urls: dict[str, str], fixed: Callable[[], Callable[[], dt.datetime]]
) -> None:
    told = {name: without_cursors(told_by(name, url, fixed())) for name, url in urls.items()}

    assert len(told["postgres"]) > 100
    for ours, theirs in zip(told["postgres"], told["mongo"], strict=True):
        assert ours == theirs
    for what, status, headers, body in told["postgres"]:
        if status >= 400:
            problem = orjson.loads(body)
            assert dict(headers)["Content-Type"] == "application/problem+json", what
            assert problem["type"] == f"/problems/{problem['code']}", what
            assert problem["status"] == status, what
