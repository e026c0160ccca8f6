"""Duplicates over HTTP: of one customer, of all, dismissed and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from custsvc.ports.accounts import Role
from custsvc.ports.store import Store

from .conftest import Client

ADA: dict[str, Any] = {"name": "Ada Lovelace", "email": "ada@example.org", "phone": None}


def shown(client: Client, query: str = "") -> list[list[int]]:
    """The pairs of all pages, following `next`."""
    found: list[list[int]] = []
    following: str | None = f"/api/customers/duplicates{query}"
    while following is not None:
        page = client.get(following).json
        found += [[each["id"] for each in pair["customers"]] for pair in page["results"]]
        following = page["next"]
    return found


@pytest.fixture
def ids(client: Client) -> list[int]:
    """Three times the same woman, and somebody else."""
    client.create(name="Bob Ray", email="bob@example.org")
    return [client.create(**ADA, metadata={"n": n})["id"] for n in range(3)]


def test_a_customer_shows_its_duplicates_with_the_reasons(client: Client, ids: list[int]) -> None:
    answer = client.get(f"/api/customers/{ids[0]}/duplicates")

    assert answer.status_code == 200, answer.text
    first, second = answer.json["results"]
    assert [first["customer"]["id"], second["customer"]["id"]] == ids[1:]
    assert first["customer"] == client.get(f"/api/customers/{ids[1]}/").json
    assert (first["score"], first["reasons"]) == (0.99, ["same email", "same rare name"])
    assert len(client.get(f"/api/customers/{ids[0]}/duplicates?limit=1").json["results"]) == 1
    assert client.get(f"/api/customers/{ids[0]}/duplicates?min_score=1").json["results"] == []
    assert client.get("/api/customers/999/duplicates").status_code == 404


@pytest.mark.parametrize("query", ["", "?limit=1", "?limit=2&min_score=0.9"])
def test_all_pairs_are_shown_once(client: Client, ids: list[int], query: str) -> None:
    a, b, c = ids

    assert shown(client, query) == [[a, b], [a, c], [b, c]]


def test_a_dismissed_pair_is_not_shown_until_its_dismissal_is_undone(client: Client, ids: list[int]) -> None:
    a, b, c = ids

    answer = client.post("/api/customers/duplicates/dismiss", json={"ids": [b, a]})

    assert (answer.status_code, answer.json) == (200, {"ids": [a, b], "dismissed": True})
    assert shown(client) == [[a, c], [b, c]]
    assert shown(client, "?dismissed=only") == [[a, b]]
    assert [
        each["dismissed"]
        for each in client.get("/api/customers/duplicates?dismissed=include").json["results"]
    ] == [
        True,
        False,
        False,
    ]
    client.post("/api/customers/duplicates/undismiss", json={"ids": [a, b]})
    assert shown(client) == [[a, b], [a, c], [b, c]]


def test_a_dismissed_pair_comes_back_when_one_changes(client: Client, ids: list[int]) -> None:
    client.post("/api/customers/duplicates/dismiss", json={"ids": ids})
    assert shown(client) == []

    client.patch(f"/api/customers/{ids[0]}/", json={"phone": "+49 30 1234567"})

    assert shown(client) == [[ids[0], ids[1]], [ids[0], ids[2]]]


def test_an_erased_customer_leaves_no_dismissal(
    client: Client, app: Flask, make_key: Callable[[Role], str], ids: list[int], store: Store
) -> None:
    client.post("/api/customers/duplicates/dismiss", json={"ids": ids})

    assert Client(app, make_key("admin")).post(f"/api/customers/{ids[0]}/erase").status_code == 200

    assert [pair for pair, _ in store.duplicates.dismissals(9)] == [(ids[1], ids[2])]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        *[([], 400), ({}, 400), ({"ids": [1]}, 400), ({"ids": [1, 1]}, 400), ({"ids": [1, "2"]}, 400)],
        *[({"ids": [1, 2], "x": 1}, 400), ({"ids": [1, 999]}, 404), ({"ids": list(range(1, 30))}, 400)],
    ],
)
def test_a_pair_that_cannot_be_dismissed_is_refused(
    client: Client, ids: list[int], body: Any, status: int
) -> None:
    assert client.post("/api/customers/duplicates/dismiss", json=body).status_code == status


@pytest.mark.parametrize("query", ["min_score=2", "min_score=x", "dismissed=maybe", "limit=0", "cursor=x"])
def test_a_wrong_parameter_is_refused(client: Client, query: str) -> None:
    answer = client.get(f"/api/customers/duplicates?{query}")

    assert answer.status_code == 400


def test_a_new_customer_is_created_all_the_same_with_a_warning(client: Client, ids: list[int]) -> None:
    new = {"name": "A. Lovelace", "email": "ADA@example.org"}

    warned = client.post("/api/customers/?duplicates=warn", json=new)
    other = client.post("/api/customers/?duplicates=warn", json={"name": "Eve", "email": "ADA@example.org"})

    assert (warned.status_code, other.status_code) == (201, 201)
    assert warned.headers["X-Custsvc-Duplicates"] == ",".join(map(str, ids))
    assert "X-Custsvc-Duplicates" not in other.headers
    assert "X-Custsvc-Duplicates" not in client.post("/api/customers/", json=new).headers
    assert client.post("/api/customers/?duplicates=maybe", json=new).status_code == 400


def test_a_request_sent_again_is_not_warned_of_its_own_customer(client: Client) -> None:
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        answer = client.post("/api/customers/?duplicates=warn", json=ADA, headers=key)
        assert (answer.status_code, "X-Custsvc-Duplicates" in answer.headers) == (201, False)
