"""If-Match: a write that names a version happens at that version or not at all, whatever the way in."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from custsvc.api import create_app
from custsvc.config import Settings
from custsvc.stores.base import Store

from .conftest import ANN, Client

# (method, path behind the customer's, body)
WRITES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("PUT", "", {**ANN, "phone": "99"}),
    ("PATCH", "", {"phone": "99"}),
    ("DELETE", "", None),
]


ALLOWED = ['"v3"', "*", ' "v3" ', '"v2", "v3"', '"v1","other",W/"v2","v3"']
REFUSED = ['"v2"', '"v4"', '"v1", "v2"', 'W/"v3"', '"3"', '"v03"', '"V3"', '"v99999999999999999999"', '""']
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
