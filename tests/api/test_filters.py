"""Filters: an empty one is refused, and text without a word matches no customer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from flask import Flask

from custsvc.api.describe.openapi import document
from custsvc.ports.accounts import Role

from .conftest import Client

DOCUMENT = document()
BLANK = ["", " ", "\t \n", "\u00a0", "\u3000"]
WORDLESS = ["&", "😀", "---", "'", "\u200b", "\u0301", "& |", "%", "_", "*", ":*", "\\"]


def _queries() -> list[tuple[str, str, int]]:
    """Every parameter of every path that is read, and how long its text may be."""
    return [
        (path, each["name"], each["schema"].get("maxLength", 0))
        for path, item in DOCUMENT["paths"].items()
        for each in item.get("get", {}).get("parameters", [])
        if each["in"] == "query"
    ]


@pytest.fixture
def customer_id(client: Client) -> str:
    for number in range(3):
        made = client.create(name=f"Ann {number}", metadata={"tier": "gold"})
    return str(made["id"])


def test_no_parameter_of_any_path_may_be_empty(
    app: Flask, make_key: Callable[[Role], str], customer_id: str
) -> None:
    client = Client(app, make_key("admin"))
    queries = _queries()
    assert len(queries) > 30

    for path, name, _ in queries:
        for blank in BLANK:
            one = path.replace("{customer_id}", customer_id).replace("{endpoint_id}", "any")
            answer = client.get(one, query_string={name: blank})

            assert answer.status_code == 400, (path, name, blank, answer.text)
            assert name in answer.json["detail"] or answer.json["code"] == "bad-cursor", (path, name)


def test_text_that_filters_nothing_is_refused(client: Client, customer_id: str) -> None:
    paths = ("/api/customers/", "/customers", "/api/customers/export")
    for path, name, blank in product(paths, ("q", "email", "name__startswith"), BLANK):
        answer = client.get(path, query_string={name: blank, "deleted": "include"})

        assert (answer.status_code, answer.json["code"]) == (400, "bad-parameter"), blank
        assert [each["field"] for each in answer.json["errors"]] == [name]


def test_a_metadata_filter_must_name_a_key_and_may_ask_for_empty_text(client: Client) -> None:
    found = client.create(metadata={"note": ""})
    client.create(metadata={"note": "x"})

    assert client.get("/api/customers/?metadata.=x").json["code"] == "bad-parameter"
    assert client.get("/api/customers/?metadata.note=").json["results"] == [found]


def test_text_without_a_word_finds_nobody(client: Client, customer_id: str) -> None:
    others: list[dict[str, str]] = [{}, {"deleted": "include"}, {"sort": "-name"}, {"email": "a@example.org"}]
    for text, more in product(WORDLESS, others):
        query: dict[str, Any] = {"q": text, **more}
        page = client.get("/api/customers/", query_string=query).json
        assert (page["results"], page["count"], page["next"]) == ([], 0, None), text
        for counting in ("exact", "estimated"):
            assert client.get("/api/customers/", query_string={**query, "count": counting}).json["count"] == 0
        exported = client.get("/api/customers/export", query_string={**query, "format": "json"})
        assert exported.json == [], text


def test_a_prefix_without_comparable_characters_matches_no_customer(client: Client, customer_id: str) -> None:
    for text, more in product(
        ("\u0301", "\u00ad", "\u200b\u0301"), ({}, {"q": "ann"}, {"deleted": "include"})
    ):
        query = {"name__startswith": text, **more}
        page = client.get("/api/customers/", query_string=query).json
        assert (page["results"], page["count"], page["next"]) == ([], 0, None), query
        assert client.get("/api/customers/export", query_string={**query, "format": "json"}).json == []


def test_as_much_text_is_taken_as_the_document_says_and_no_more(client: Client, customer_id: str) -> None:
    for path, name, most in _queries():
        if not most or name in ("plan", "fields", "delimiter"):
            continue
        where = path.replace("{customer_id}", customer_id)
        assert client.get(where, query_string={name: "x" * most}).status_code == 200, (path, name)
        assert client.get(where, query_string={name: "x" * (most + 1)}).status_code == 400, (path, name)
