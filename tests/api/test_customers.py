"""Customers over HTTP: the answer of each method, and stored bytes that are served unchanged."""

from __future__ import annotations

import itertools
import json
from email.utils import parsedate_to_datetime

import pytest
from flask import Flask

from custsvc.domain.customers import parse_time
from custsvc.ports.store import Store

from .conftest import ANN, Client


def test_a_new_customer_is_answered_with_where_it_is_and_its_tag(client: Client, store: Store) -> None:
    answer = client.post("/api/customers/", json={**ANN, "metadata": {"tier": "gold", "n": 1}})

    assert answer.status_code == 201
    customer = answer.json
    assert answer.headers["Location"] == f"/api/customers/{customer['id']}/"
    assert answer.headers["ETag"] == '"v1"'
    assert answer.content_type == "application/json"
    assert client.get(answer.headers["Location"]).data == answer.data
    stored = store.customers.get(customer["id"])
    assert stored is not None
    assert stored.doc == answer.data
    assert list(customer) == [
        "id",
        "name",
        "email",
        "phone",
        "metadata",
        "deleted",
        "version",
        "created_on",
        "created_by",
        "updated_on",
        "updated_by",
    ]


def test_a_read_has_its_version_and_time_and_must_be_revalidated(client: Client) -> None:
    # A field of that name in the metadata must not be taken for the customer's own.
    customer = client.create(metadata={"updated_on": "1999-01-01T00:00:00.000Z"})

    answer = client.get(f"/api/customers/{customer['id']}")

    assert answer.headers["ETag"] == '"v1"'
    assert answer.headers["Cache-Control"] == "private, no-cache"
    modified = parsedate_to_datetime(answer.headers["Last-Modified"])
    assert modified == parse_time(customer["updated_on"]).replace(microsecond=0)


HAVE_IT = ['"v1"', 'W/"v1"', '"v0", "v1"', "*"]
HAVE_IT_NOT = ['"v2"', '"xv1"', "v1", ""]


def test_a_client_that_has_the_version_already_gets_no_body(client: Client) -> None:
    path = f"/api/customers/{client.create()['id']}/"

    for tag, method in itertools.product(HAVE_IT + HAVE_IT_NOT, ["GET", "HEAD"]):
        answer = client(method, path, headers={"If-None-Match": tag})

        assert answer.status_code == (304 if tag in HAVE_IT else 200), tag
        assert answer.headers["ETag"] == '"v1"'
        assert ("Content-Type" in answer.headers) == (tag in HAVE_IT_NOT)
        assert bool(answer.data) == (tag in HAVE_IT_NOT and method == "GET")


def test_head_answers_as_get_without_the_body(client: Client) -> None:
    path = f"/api/customers/{client.create()['id']}/"

    head, get = client.head(path), client.get(path)

    assert head.data == b""
    names = ["ETag", "Last-Modified", "Content-Length", "Content-Type"]
    assert [head.headers[n] for n in names] == [get.headers[n] for n in names]


def test_put_replaces_all_fields_and_never_creates(client: Client) -> None:
    customer = client.create(metadata={"a": 1})
    path = f"/api/customers/{customer['id']}"

    answer = client.put(path, json={"name": "Zoe"})

    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"v2"'
    assert (answer.json["name"], answer.json["email"], answer.json["metadata"]) == ("Zoe", None, {})
    assert client.put("/api/customers/987654321", json=ANN).status_code == 404
    assert client.get("/api/customers/").json["count"] == 1


def test_a_put_that_changes_nothing_makes_no_version(client: Client) -> None:
    customer = client.create()

    answer = client.put(f"/api/customers/{customer['id']}", json=customer)

    assert answer.json == customer


@pytest.mark.parametrize("content_type", ["application/merge-patch+json", "application/json"])
def test_patch_merges_and_null_removes(client: Client, content_type: str) -> None:
    customer = client.create(metadata={"keep": 1, "drop": 2})
    patch = {"phone": None, "metadata": {"drop": None, "new": True}}

    answer = client.patch(
        f"/api/customers/{customer['id']}", data=json.dumps(patch), content_type=content_type
    )

    assert answer.status_code == 200
    assert answer.json["phone"] is None
    assert answer.json["name"] == customer["name"]
    assert answer.json["metadata"] == {"keep": 1, "new": True}


def test_deleting_twice_is_fine_and_an_unknown_one_is_not_found(client: Client) -> None:
    customer = client.create()
    path = f"/api/customers/{customer['id']}"

    first, again, unknown = (
        client.delete(path),
        client.delete(path),
        client.delete("/api/customers/987654321"),
    )

    assert (first.status_code, again.status_code, unknown.status_code) == (204, 204, 404)
    assert (first.headers["ETag"], again.headers["ETag"]) == ('"v2"', '"v2"')
    assert "Content-Type" not in first.headers


def test_a_deleted_customer_says_so_and_comes_back_as_it_was(client: Client) -> None:
    customer = client.create()
    path = f"/api/customers/{customer['id']}"
    client.delete(path)

    gone = client.get(path)
    assert (gone.status_code, gone.json["code"]) == (404, "customer-deleted")
    assert client.put(path, json=ANN).status_code == 404
    assert client.patch(path, json={"name": "x"}).status_code == 404

    restored = client.post(path + "/restore")
    assert restored.status_code == 200
    assert restored.json["version"] == 3
    assert {**restored.json, "version": 1, "updated_on": ""} == {**customer, "updated_on": ""}
    assert client.post(path + "/restore/").json["version"] == 3
    assert client.post("/api/customers/987654321/restore").status_code == 404


def test_a_body_cannot_set_the_servers_own_fields(client: Client) -> None:
    """S4."""
    forged = {
        "id": 4711,
        "version": 99,
        "deleted": True,
        "created_on": "1999-01-01T00:00:00.000Z",
        "created_by": "mallory",
        "updated_on": "1999-01-01T00:00:00.000Z",
        "updated_by": "mallory",
    }

    made = client.post("/api/customers/", json={**ANN, **forged}).json
    path = f"/api/customers/{made['id']}/"
    changed = client.put(path, json={**ANN, **forged, "phone": "9"}).json
    patched = client.patch(path, json={**forged, "phone": "8"}).json

    for version, customer in enumerate((made, changed, patched), start=1):
        assert customer["id"] == made["id"] != 4711
        assert (customer["version"], customer["deleted"]) == (version, False)
        assert (customer["created_by"], customer["updated_by"]) == ("write", "write")
        assert customer["created_on"] > "2020"


def test_the_history_is_every_event_newest_first(client: Client, store: Store) -> None:
    customer = client.create()
    path = f"/api/customers/{customer['id']}"
    client.patch(path, json={"phone": "2"})
    client.delete(path)
    client.post(path + "/restore")

    answer = client.get(path + "/history")

    events = answer.json["results"]
    assert [e["version"] for e in events] == [4, 3, 2, 1]
    assert [e["op"] for e in events] == ["restored", "deleted", "updated", "created"]
    assert answer.json["count"] == 4
    assert answer.json["has_more"] is False
    stored = store.customers.history(customer["id"], limit=10)
    assert answer.data.endswith(b'"results":[' + b",".join(stored) + b"]}")


def test_the_history_is_paged_by_version(client: Client) -> None:
    customer = client.create()
    path = f"/api/customers/{customer['id']}"
    for phone in "23456":
        client.patch(path, json={"phone": phone})

    pages = [client.get(path + "/history?limit=4").json]
    while pages[-1]["next"]:
        # A version that comes while somebody pages must not shift the pages behind it.
        client.patch(path, json={"phone": f"new {len(pages)}"})
        pages.append(client.get(pages[-1]["next"]).json)

    assert [[e["version"] for e in page["results"]] for page in pages] == [[6, 5, 4, 3], [2, 1]]
    assert [page["count"] for page in pages] == [6, None]


def test_the_history_of_a_deleted_customer_stays_and_an_unknown_one_has_none(client: Client) -> None:
    customer = client.create()
    client.delete(f"/api/customers/{customer['id']}")

    assert client.get(f"/api/customers/{customer['id']}/history").json["count"] == 2
    assert client.get("/api/customers/987654321/history").status_code == 404


def test_a_client_that_prefers_no_body_gets_only_headers(client: Client) -> None:
    for prefer in ["return=minimal", "wait=5, return=minimal", "Return=Minimal; x=1"]:
        headers = {"Prefer": prefer}

        made = client.post("/api/customers/", json=ANN, headers=headers)
        changed = client.patch(made.headers["Location"], json={"phone": "2"}, headers=headers)

        assert (made.status_code, changed.status_code) == (201, 204)
        assert (made.data, changed.data) == (b"", b"")
        assert (made.headers["ETag"], changed.headers["ETag"]) == ('"v1"', '"v2"')
        assert made.headers["Preference-Applied"] == "return=minimal"


def test_return_representation_is_the_default(client: Client) -> None:
    answer = client.post("/api/customers/", json=ANN, headers={"Prefer": "return=representation"})

    assert answer.json["name"] == ANN["name"]


def test_a_request_id_is_answered_and_stands_in_the_event(client: Client) -> None:
    answer = client.post("/api/customers/", json=ANN, headers={"X-Request-Id": "trace-7:a/b"})

    assert answer.headers["X-Request-Id"] == "trace-7:a/b"
    event = client.get(f"/api/customers/{answer.json['id']}/history").json["results"][0]
    assert (event["request_id"], event["actor"]) == ("trace-7:a/b", "write")


def test_a_request_id_that_could_harm_a_log_is_replaced(client: Client) -> None:
    for bad in ["", "x" * 129, "a b", "<script>", 'a"b', "ä", "-x"]:
        answer = client.get("/livez", headers={"X-Request-Id": bad})

        assert answer.status_code == 200
        assert answer.headers["X-Request-Id"] != bad
        assert len(answer.headers["X-Request-Id"]) == 36


def test_every_path_answers_with_and_without_its_final_slash(app: Flask, client: Client) -> None:
    customer = client.create()

    for rule in app.url_map.iter_rules():
        if (rule.endpoint or "").startswith("web."):
            continue  # the pages link to themselves
        path = rule.rule.replace("<id:customer_id>", str(customer["id"])).rstrip("/")
        path = path.replace("<name>", "docs.css").replace("<code>", "validation")
        if "<" in path:
            continue  # what it stands for is not known here
        method = "GET" if "GET" in (rule.methods or ()) else "POST"
        for variant in (path, path + "/"):
            # Some want more than is sent here, or another key; and there is no merge to undo.
            wanted = (200, 204, 400, 403, 409, 415, 503)
            assert client(method, variant).status_code in wanted, (method, variant)


NOT_OURS = [
    "/api//customers",
    "/api/customers//",
    "/api/customers/0",
    "/api/customers/007",
    "/api/customers/-1",
    "/api/customers/1.0",
    "/api/customers/9223372036854775808",
    "/api/customers/99999999999999999999999",
    "/api/customers/%D9%A1",
    "/api/customers/1%00",
    "/api/customers/%FF",
    "/API/customers",
]


def test_an_unknown_path_is_not_found_and_never_redirected(client: Client) -> None:
    for path, method in itertools.product(NOT_OURS, ["GET", "PUT", "DELETE"]):
        answer = client(method, path, json=ANN)
        assert (answer.status_code, answer.json["code"]) == (404, "not-found"), (method, path)


def test_the_largest_id_is_an_id(client: Client) -> None:
    answer = client.get("/api/customers/9223372036854775807")

    assert answer.json["detail"] == "there is no customer 9223372036854775807"
