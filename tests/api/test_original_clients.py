"""Clients of the original services keep working, on their paths and on ours."""

from __future__ import annotations

import pytest

from .conftest import Client

PATHS = ["/customers", "/customers/", "/api/customers", "/api/customers/"]


@pytest.mark.parametrize("base", PATHS)
def test_a_client_lists_creates_changes_reads_deletes_and_counts(client: Client, base: str) -> None:
    empty = client.get(base)
    made = client.post(base, json={"name": "Bob", "phone": "123", "email": "bob@example.org"})
    customer = made.json
    path = f"{base.rstrip('/')}/{customer['id']}" + ("/" if base.endswith("/") else "")
    changed = client.put(path, json={**customer, "phone": "456"})
    read = client.get(path)
    gone = client.delete(path)
    after = client.get(base)

    answers = [empty, made, changed, read, gone, after]
    assert [a.status_code for a in answers] == [200, 201, 200, 200, 204, 200]
    assert (empty.json["count"], after.json["count"]) == (0, 0)
    assert read.json == {**customer, "phone": "456", "version": 2, "updated_on": read.json["updated_on"]}
    assert read.data == changed.data


def test_only_the_originals_paths_are_called_deprecated_and_name_their_successor(client: Client) -> None:
    customer = client.create()

    for path in ("/customers", f"/customers/{customer['id']}", "/customers/999999"):
        answer = client.get(path)
        assert answer.headers["Deprecation"].startswith("@")
        assert '</api/customers/>; rel="successor-version"' in answer.headers.getlist("Link")
    assert "Deprecation" not in client.get("/api/customers/").headers


def test_errors_name_the_fields_at_top_level(client: Client) -> None:
    answer = client.post("/customers", json={"email": "nonsense", "phone": "1"})

    assert answer.status_code == 400
    assert answer.json["name"] == ["is required"]
    assert len(answer.json["email"]) == 1
    assert {e["field"]: e["code"] for e in answer.json["errors"]} == {
        "name": "required",
        "email": "invalid_email",
    }
