"""If-Match: a write that names a version happens at that version or not at all, on every path."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from flask import Flask

from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .conftest import ANN, Answer, Client

# (method, path behind the customer's, body)
WRITES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("PUT", "", {**ANN, "phone": "99"}),
    ("PATCH", "", {"phone": "99"}),
    ("DELETE", "", None),
]


ALLOWED = ['"v3"', "*", ' "v3" ', '"v2", "v3"', '"v1","other",W/"v2","v3"']
REFUSED = ['"v2"', '"v4"', '"v1", "v2"', 'W/"v2"', '"3"', '"v03"', '"V3"', '"v99999999999999999999"', '""']
UNREADABLE = ["", "v3", '"v3', "3", '"v3" "v2"', "*, *", '*, "v3"', "W/", ',"v3"', "'v3'"]


def at_version_3(client: Client) -> str:
    """The path of a new customer, changed twice."""
    path = f"/api/customers/{client.create(phone='1')['id']}"
    client.patch(path, json={"phone": "2"})
    client.patch(path, json={"email": "new@example.org", "phone": "3"})
    return path


@pytest.fixture
def path(client: Client) -> str:
    return at_version_3(client)


@pytest.mark.parametrize(("method", "tail", "body"), WRITES)
def test_a_write_happens_at_a_version_that_was_named(
    client: Client, method: str, tail: str, body: dict[str, Any] | None
) -> None:
    for if_match, slash in itertools.product(ALLOWED, ["", "/"]):
        path = at_version_3(client)

        answer = client(method, path + tail + slash, json=body, headers={"If-Match": if_match})

        assert answer.status_code in (200, 204), if_match
        assert client.get(path + "/history").json["count"] == 4, if_match


@pytest.mark.parametrize(("method", "tail", "body"), WRITES)
def test_a_write_does_not_happen_at_another_version(
    client: Client, path: str, method: str, tail: str, body: dict[str, Any] | None
) -> None:
    for if_match, slash in itertools.product(REFUSED, ["", "/"]):
        answer = client(method, path + tail + slash, json=body, headers={"If-Match": if_match})

        assert (answer.status_code, answer.json["code"]) == (412, "version-mismatch"), if_match
    assert client.get(path).json["version"] == 3


@pytest.mark.parametrize(("method", "tail", "body"), [*WRITES, ("POST", "/restore", None)])
def test_a_guard_that_cannot_be_read_is_refused_not_ignored(
    client: Client, path: str, method: str, tail: str, body: dict[str, Any] | None
) -> None:
    """S32."""
    for if_match in UNREADABLE:
        answer = client(method, path + tail, json=body, headers={"If-Match": if_match})

        assert (answer.status_code, answer.json["code"]) == (400, "bad-header"), if_match
    assert client.get(path).json["version"] == 3


def test_a_refusal_shows_the_current_state_and_what_changed_since(client: Client, path: str) -> None:
    answer = client.put(path, json=ANN, headers={"If-Match": '"v1"'})

    assert answer.status_code == 412
    assert answer.headers["ETag"] == '"v3"'
    assert answer.json["current"] == client.get(path).json
    assert answer.json["changed"] == ["phone", "email"]
    assert client.put(path, json=ANN, headers={"If-Match": '"v2"'}).json["changed"] == ["email", "phone"]
    assert client.put(path, json=ANN, headers={"If-Match": '"v9"'}).json["changed"] == []


def test_a_deleted_customer_is_shown_as_such_in_the_refusal(client: Client, path: str) -> None:
    client.delete(path)

    answer = client.patch(path, json={"phone": "5"}, headers={"If-Match": '"v3"'})

    assert answer.status_code == 412
    assert answer.json["current"]["deleted"] is True
    assert answer.json["changed"] == ["deleted"]


def test_a_restore_is_guarded_too(client: Client, path: str) -> None:
    client.delete(path)

    assert client.post(path + "/restore", headers={"If-Match": '"v3"'}).status_code == 412
    assert client.post(path + "/restore", headers={"If-Match": '"v4"'}).json["version"] == 5


def test_an_unknown_customer_is_not_found_whatever_the_guard(client: Client) -> None:
    for tags in ['"v1"', '"v1", "v2"', '"x"', "*"]:
        answer = client.put("/api/customers/987654", json=ANN, headers={"If-Match": tags})
        assert answer.status_code == 404, tags


def test_the_header_twice_is_one_list(client: Client, path: str) -> None:
    """S32."""
    refused = client.patch(path, json={"phone": "7"}, headers=[("If-Match", '"v1"'), ("If-Match", '"v2"')])
    done = client.patch(path, json={"phone": "7"}, headers=[("If-Match", '"v1"'), ("If-Match", '"v3"')])

    assert (refused.status_code, done.status_code) == (412, 200)


def test_no_other_way_to_a_customer_gets_around_the_guard(client: Client, path: str) -> None:
    """S32."""
    old = {"If-Match": '"v1"'}
    for way in (path, f"{path}/", path.removeprefix("/api"), f"{path.removeprefix('/api')}/"):
        for method, body in (("PUT", ANN), ("PATCH", {"phone": "7"}), ("DELETE", None)):
            for headers in (old, {"if-match": '"v1"'}, [*old.items(), ("If-Match", '"v2"')]):
                assert client(method, way, json=body, headers=headers).status_code == 412
    for tail in ("/restore", "/restore/", "/revert"):
        assert client.post(path + tail, json={"version": 1}, headers=old).status_code == 412

    assert client.get(path).json["version"] == 3


def test_no_header_turns_a_read_into_a_write(client: Client, path: str) -> None:
    """S32."""
    for override in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"]:
        for method in ("GET", "HEAD", "POST"):
            client(method, path, headers={override: "DELETE"}, json=ANN)
            client(method, path + "?_method=DELETE", json=ANN)

    assert client.get(path).json["version"] == 3


def test_of_many_writers_at_one_version_exactly_one_wins(app: Flask, client: Client, path: str) -> None:
    clients = [Client(app, client._key) for _ in range(8)]

    def write(number: int) -> int:
        answer = clients[number].patch(path, json={"phone": f"p{number}"}, headers={"If-Match": '"v3"'})
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(write, range(8)))

    assert statuses == [200] + [412] * 7
    assert client.get(path).json["version"] == 4


@pytest.mark.parametrize(("method", "tail", "body"), [*WRITES, ("POST", "/restore", None)])
def test_where_if_match_is_required_a_blind_write_is_refused(
    settings: Settings, store: Store, client: Client, path: str, method: str, tail: str, body: Any
) -> None:
    strict = Client(create_app(settings.replace(require_if_match=True), store), client._key)

    blind = strict(method, path + tail, json=body)
    guarded = strict(method, path + tail, json=body, headers={"If-Match": '"v3"'})

    assert (blind.status_code, blind.json["code"]) == (428, "if-match-required")
    assert guarded.status_code in (200, 204)
    assert strict.post("/api/customers/", json=ANN).status_code == 201


# -- every precondition on every write ---------------------------------------------------------------------

# (method, path behind the customer's, body, whether the customer is deleted before)
EVERY_WRITE: dict[str, tuple[str, str, dict[str, Any] | None, bool]] = {
    "put": ("PUT", "", {**ANN, "phone": "99"}, False),
    "patch": ("PATCH", "", {"phone": "99"}, False),
    "delete": ("DELETE", "", None, False),
    "restore": ("POST", "/restore", None, True),
    "revert": ("POST", "/revert", {"version": 1}, False),
    "erase": ("POST", "/erase", None, False),
}
PAST, FUTURE = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"


def holding(version: int, *, deleted: bool) -> list[dict[str, str]]:
    """Headers with which a write at this version happens: our tag as it is and as others make it."""
    tags = [f'"v{version}"', f'W/"v{version}"', f'"v{version}-gzip"', f'W/"v{version}-gzip"']
    tags += [f'"v{version}--gzip"', f'"v{version}-br"', f'"x" , W/"v{version}-gzip"', "*"]
    return [
        *({"If-Match": tag} for tag in tags),
        *(
            {"If-None-Match": tag}
            for tag in ('"v99"', '"other"', 'W/"v99-gzip"', *(["*"] if deleted else []))
        ),
        {"If-Unmodified-Since": FUTURE},
        {"If-Unmodified-Since": "Friday, 01-Jan-66 00:00:00 GMT"},  # RFC 850, of 2066
        # The less exact one does not count.
        {"If-Match": f'"v{version}"', "If-Unmodified-Since": PAST},
    ]


def broken(version: int, *, deleted: bool) -> list[dict[str, str]]:
    return [
        *(
            {"If-Match": tag}
            for tag in ('"v99"', 'W/"v99"', '"v99-gzip"', f'"v{version}-x"', f'"V{version}"')
        ),
        *({"If-None-Match": tag} for tag in (f'"v{version}"', f'W/"v{version}"', f'"v{version}-gzip", "x"')),
        *([] if deleted else [{"If-None-Match": "*"}, {"If-Match": f'"v{version}"', "If-None-Match": "*"}]),
        {"If-Unmodified-Since": PAST},
        {"If-Match": '"v99"', "If-Unmodified-Since": FUTURE},
    ]


UNREAD = [
    *({name: value} for name in ("If-Match", "If-None-Match") for value in UNREADABLE),
    *({"If-Unmodified-Since": value} for value in ("", "yesterday", "2026-11-23T20:40:00Z", "0", '"v3"')),
]


@pytest.fixture
def admin(app: Flask, make_key: Any) -> Client:
    return Client(app, make_key("admin"))


def prepared(client: Client, way: str) -> tuple[str, int]:
    """A customer's path, and the version it is at."""
    path = at_version_3(client)
    if EVERY_WRITE[way][3]:
        client.delete(path)
    return path, 4 if EVERY_WRITE[way][3] else 3


def written(client: Client, way: str, path: str, headers: dict[str, str]) -> Answer:
    method, tail, body, _ = EVERY_WRITE[way]
    return client(method, path + tail, json=body, headers=headers)


def test_a_write_happens_where_its_preconditions_hold(admin: Client) -> None:
    live, gone = holding(3, deleted=False), holding(4, deleted=True)
    for way, headers in [(w, each) for w in EVERY_WRITE for each in (gone if EVERY_WRITE[w][3] else live)]:
        path, version = prepared(admin, way)

        answer = written(admin, way, path, headers)

        assert answer.status_code in (200, 204), (headers, answer.text)
        assert answer.headers["ETag"] == f'"v{version + 1}"', headers


def test_a_write_does_not_happen_where_a_precondition_is_broken_or_unread(admin: Client) -> None:
    for way in EVERY_WRITE:
        refused(admin, way)


def refused(admin: Client, way: str) -> None:
    path, version = prepared(admin, way)
    for headers in broken(version, deleted=EVERY_WRITE[way][3]):
        answer = written(admin, way, path, headers)
        assert (answer.status_code, answer.json["code"]) == (412, "version-mismatch"), headers
        assert answer.json["current"]["version"] == version
        assert answer.headers["ETag"] == f'"v{version}"'
    for headers in UNREAD:
        answer = written(admin, way, path, headers)
        assert (answer.status_code, answer.json["code"]) == (400, "bad-header"), headers
    answer = written(admin, way, path, {"If-Modified-Since": PAST})
    assert (answer.status_code, answer.json["code"]) == (501, "precondition-not-supported")

    assert admin.get(path + "/history").json["count"] == version


def test_a_change_at_the_same_time_breaks_a_precondition_too(app: Flask, client: Client, path: str) -> None:
    headers = {"If-None-Match": '"v1"'}

    def write(number: int) -> int:
        return Client(app, client._key).patch(path, json={"phone": f"p{number}"}, headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(write, range(8)))

    assert set(statuses) <= {200, 412}
    assert client.get(path).json["version"] == 3 + statuses.count(200)


ELSEWHERE = {
    "create": ("/api/customers/", ANN, "application/json"),
    "batch": (
        "/api/customers/batch",
        {"operations": [{"op": "create", "customer": {"name": "B"}}]},
        "application/json",
    ),
    "import": ("/api/customers/import", {"name": "C"}, "application/x-ndjson"),
    "retry": ("/api/failed/x/retry", {}, "application/json"),
    "discard": ("/api/failed/x/discard", {}, "application/json"),
}


def test_where_no_precondition_can_be_honoured_none_is_ignored(client: Client) -> None:
    headers = {
        **dict.fromkeys(("If-Match", "If-None-Match"), "*"),
        "If-Unmodified-Since": FUTURE,
        "If-Modified-Since": PAST,
    }
    for (path, body, media), header in itertools.product(ELSEWHERE.values(), headers.items()):
        answer = client.post(path, data=orjson.dumps(body), content_type=media, headers=[header])

        assert (answer.status_code, answer.json["code"]) == (501, "precondition-not-supported")
        assert header[0] in answer.json["detail"]
    assert client.get("/api/customers/").json["count"] == 0


def test_a_read_honours_its_preconditions_in_their_order(client: Client, path: str) -> None:
    """RFC 9110, 13.2.2."""
    changed = client.get(path).headers["Last-Modified"]
    for status, headers in [
        (200, {"If-Match": 'W/"v3-gzip"'}),
        (412, {"If-Match": '"v2"'}),
        (412, {"If-Match": '"v2"', "If-None-Match": '"v3"'}),
        (412, {"If-Unmodified-Since": PAST}),
        (200, {"If-Unmodified-Since": changed}),
        (400, {"If-Match": "v3"}),
        (304, {"If-None-Match": '"v3"'}),
        (304, {"If-None-Match": 'W/"v3-gzip"'}),
        (304, {"If-None-Match": '"x","v3--gzip"'}),
        (304, {"If-None-Match": "*"}),
        (200, {"If-None-Match": '"v2"'}),
        (200, {"If-None-Match": "v3"}),
        (304, {"If-Modified-Since": changed}),
        (304, {"If-Modified-Since": FUTURE}),
        (200, {"If-Modified-Since": PAST}),
        (200, {"If-Modified-Since": "yesterday"}),
        # A tag counts more than a time.
        (200, {"If-None-Match": '"v2"', "If-Modified-Since": changed}),
        (304, {"If-None-Match": '"v3"', "If-Modified-Since": PAST}),
    ]:
        for answer in (client.get(path, headers=headers), client.head(path, headers=headers)):
            assert answer.status_code == status, headers
            assert answer.headers.get("ETag") == ('"v3"' if status != 400 else None), headers
