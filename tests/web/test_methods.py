"""Every page and every resource accepts only the methods that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson import json_util
from flask import Flask

from custsvc.config import Settings
from custsvc.notify.channels.unsubscribe import UnsubscribeLinks
from custsvc.ports.accounts import Role, User
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.databases import open_database
from tests.sizes import on_one

from .conftest import PASSWORD, Visitor

READING = ("HEAD", "OPTIONS")
# Methods that no route has, among them those that only look like one that a route may have.
FOREIGN = ("TRACE", "CONNECT", "PROPFIND", "MOVE", "FOO", "head", "get", "post", "Post", "delete", "pATCH")
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Method")
VALUES = {"customer_id": "1", "name": "app.css", "code": "validation", "place": "0.0"}


@pytest.fixture
def written(backend: str, database_url: str) -> Iterator[Callable[[], str]]:
    """All that the database holds, as text."""
    if backend == "mongo":
        from pymongo import MongoClient

        with MongoClient[dict[str, Any]](database_url) as client:
            database = client.get_default_database()

            def read() -> str:
                names = sorted(database.list_collection_names())
                return json_util.dumps([(name, sorted(map(str, database[name].find()))) for name in names])

            yield read
        return
    import psycopg2

    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:

        def read() -> str:
            cursor.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
                "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
            )
            found = []
            for (name,) in cursor.fetchall():
                cursor.execute(f"SELECT t::text FROM {name} t ORDER BY 1")
                found.append((name, cursor.fetchall()))
            return str(found)

        yield read
    connection.close()


def paths(app: Flask, store: Store) -> list[str]:
    """A path of each route, one that leads somewhere as far as there is such a one."""
    token = UnsubscribeLinks(store.secret(), "").url(1).rpartition("/")[2]
    found = set()
    for rule in app.url_map.iter_rules():
        adapter = app.url_map.bind("localhost")
        values = {name: VALUES.get(name, "1") for name in rule.arguments} | {"token": token}
        found.add(adapter.build(rule.endpoint, {n: v for n, v in values.items() if n in rule.arguments}))
    return sorted(found)


@pytest.fixture
def somebody(app: Flask, make_user: Callable[..., User]) -> Visitor:
    """An administrator who is signed in, and has a customer to change."""
    make_user("root", "admin")
    visitor = Visitor(app)
    assert visitor.sign_in("root").status_code == 303
    visitor.get("/ui/customers/new")
    assert visitor.post("/ui/customers/new", name="Ada").status_code == 303
    return visitor


def sent(visitor: Visitor, key: str, path: str, method: str, headers: dict[str, str] | None = None) -> int:
    """The status of this request with every permission, and all fields that any form reads."""
    data = {
        "csrf": visitor.csrf,
        "name": "root",
        "password": PASSWORD,
        "version": "1",
        "base": "1",
        "mine": "{}",
        "to": "1",
        "wanted": "no",
        "ids": "1",
        "key": key,
        "action": "discard",
        "confirm": "1",
    }
    answer = visitor.client.open(
        path, method=method, data=data, headers={"X-Api-Key": key, **(headers or {})}, buffered=False
    )
    status = answer.status_code
    if method != "HEAD":
        answer.close()
    else:
        assert answer.data == b"", (method, path)
    return status


@pytest.mark.parametrize("signed_in", [True, False])
@on_one("postgres")
def test_no_other_method_changes_anything_on_any_route(
    app: Flask,
    store: Store,
    somebody: Visitor,
    make_key: Callable[[Role], str],
    written: Callable[[], str],
    signed_in: bool,
) -> None:
    visitor, key = (somebody, make_key("admin")) if signed_in else (Visitor(app), "")
    visitor.get("/ui/sign-in")
    before = written()

    for path in paths(app, store):
        for method in READING:
            assert sent(visitor, key, path, method) != 500, (method, path)
        for method in FOREIGN:
            assert sent(visitor, key, path, method) in (404, 405), (method, path)
        for header in OVERRIDES:
            assert sent(visitor, key, path, "HEAD", {header: "POST"}) != 500, (header, path)
    assert written() == before


def test_a_page_answers_head_as_it_answers_get_and_keeps_the_message_for_the_page(
    app: Flask, somebody: Visitor
) -> None:
    for path in ("/ui/customers", "/ui/customers/new", "/ui/customers/1/edit", "/ui/import", "/ui/sign-in"):
        head, got = somebody.client.head(path), somebody.client.get(path)
        assert (head.status_code, head.data) == (got.status_code, b""), path
        assert head.location == got.location, path

    somebody.post("/ui/customers/1/edit", name="Ada L", version="1")
    head = somebody.client.head("/ui/customers/1")
    assert "custsvc_toast" not in head.headers.get("Set-Cookie", "")
    assert "Saved." in somebody.client.get("/ui/customers/1").text


def test_a_monitor_that_asks_with_head_locks_nobody_out(
    app: Flask, visitor: Visitor, make_user: Callable[..., User]
) -> None:
    make_user("ann")
    for _ in range(30):
        form = {"name": "ann", "password": "wrong"}
        assert visitor.client.head("/ui/sign-in", data=form).status_code == 200

    assert visitor.sign_in("ann").status_code == 303


# -- without sign-in: nobody writes through another site's page, or through a proxy


@pytest.fixture
def unguarded(settings: Settings, store: Store) -> Flask:
    return create_app(settings.replace(auth="off"), store)


FOREIGN_PAGES: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost.evil.example:8000"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Same-Origin"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1"},
]


@pytest.mark.parametrize("headers", FOREIGN_PAGES, ids=str)
@on_one("postgres")
def test_without_keys_no_page_of_another_site_changes_anything(
    unguarded: Flask, store: Store, written: Callable[[], str], headers: dict[str, str]
) -> None:
    client = unguarded.test_client()
    made = client.post("/api/customers/", json={"name": "Ada"}).location
    assert client.get("/ui/customers").status_code == 200
    before = written()

    for path in paths(unguarded, store):
        if "/unsubscribe/" in path:
            continue  # the signed link is its permission
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = client.open(path, method=method, headers=headers, data=b"", buffered=False)
            assert answer.status_code in (403, 404, 405), (method, path)
    assert written() == before
    assert client.get(made, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://localhost"}, {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}],
    ids=str,
)
@on_one("postgres")
def test_without_keys_programs_and_our_own_pages_go_on_writing(
    unguarded: Flask, headers: dict[str, str]
) -> None:
    client = unguarded.test_client()
    made = client.post("/api/customers/", json={"name": "Ada"}, headers=headers)

    assert made.status_code == 201
    assert client.post(f"{made.location}erase", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        *("Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
        *("X-Forwarded", "X-Forwarded-Anything", "x_forwarded_for", "CF-Connecting-IP", "True-Client-IP"),
        *("X-Client-IP", "X-Original-URL", "X-Envoy-External-Address", "Fastly-Client-IP", "Fly-Client-IP"),
    ],
)
@on_one("postgres")
def test_without_keys_nothing_is_served_through_a_proxy(unguarded: Flask, header: str) -> None:
    client = unguarded.test_client()
    for _ in range(2):
        for path in ("/api/customers/", "/ui/customers", "/api/status", "/nothing", "/ui/nothing"):
            answer = client.get(path, headers={header: "127.0.0.1"})
            assert answer.status_code == 403, path
        assert client.post("/api/customers/", json={"name": "A"}, headers={header: ""}).status_code == 403
        assert client.get("/api/customers/").status_code == 200


def test_without_keys_the_button_of_an_unsubscribe_link_works_in_a_browser(
    unguarded: Flask, store: Store
) -> None:
    """Its page sends no referrer, and so its form's origin is `null`."""
    path: Any = UnsubscribeLinks(store.secret(), "http://localhost").url(7)
    path = path.removeprefix("http://localhost")

    assert unguarded.test_client().post(path, headers={"Origin": "null"}).status_code == 200


def test_these_tests_see_every_write(
    written: Callable[[], str], store: Store, backend: str, database_url: str
) -> None:
    """`written` reads the places to which the app writes; else the tests above would see nothing."""
    before = written()
    with open_database(backend, database_url) as same:
        same.facts.put("page.test", "1")
    assert store.facts.get("page.test") == "1"
    assert written() != before
