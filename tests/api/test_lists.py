"""Lists: pages that neither repeat nor skip, and cursors that cannot be forged."""

from __future__ import annotations

import base64

import pytest
from flask import Flask

from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .conftest import ANN, Client


@pytest.fixture
def ids(client: Client) -> list[int]:
    """Seven customers, the third and the last of them deleted."""
    ids = [client.create(name=f"Customer {n}")["id"] for n in range(7)]
    for index in (2, 6):
        client.delete(f"/api/customers/{ids[index]}")
    return ids


def walk(client: Client, path: str) -> tuple[list[int], list[int | None]]:
    """The ids of all pages, following `next`, and the pages' counts."""
    found, counts = [], []
    following: str | None = path
    while following is not None:
        answer = client.get(following)
        assert answer.status_code == 200, answer.text
        assert answer.json["has_more"] == (answer.json["next"] is not None)
        links = answer.headers.getlist("Link")
        assert any(f"<{answer.json['next']}>" in link for link in links) == answer.json["has_more"]
        found += [customer["id"] for customer in answer.json["results"]]
        counts.append(answer.json["count"])
        following = answer.json["next"]
    return found, counts


@pytest.mark.parametrize("base", ["/api/customers/", "/api/customers", "/customers"])
def test_following_next_shows_every_live_customer_once(client: Client, ids: list[int], base: str) -> None:
    found, counts = walk(client, f"{base}?limit=2")

    assert found == [ids[i] for i in (0, 1, 3, 4, 5)]
    assert counts == [5, None, None]


def test_deleted_ones_can_be_included_or_asked_for_alone(client: Client, ids: list[int]) -> None:
    assert walk(client, "/api/customers/?deleted=include&limit=3") == (ids, [7, None, None])
    assert walk(client, "/api/customers/?deleted=only&limit=1") == ([ids[2], ids[6]], [2, None])
    assert walk(client, "/api/customers/?deleted=exclude")[0] == [ids[i] for i in (0, 1, 3, 4, 5)]


def test_the_count_comes_when_it_is_asked_for(client: Client, ids: list[int]) -> None:
    first = client.get("/api/customers/?limit=2&count=none").json
    later = client.get(client.get("/api/customers/?limit=2&count=exact").json["next"]).json

    assert (first["count"], later["count"]) == (None, 5)


def test_a_count_that_is_not_exact_says_so(
    client: Client, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    exactly = client.get("/api/customers/?limit=2").json
    assert exactly["count"] == 5
    assert "count_estimated" not in exactly
    for limit in ("postgres.queries._CHEAP", "mongo.queries._CHEAP", "mongo.queries._FEW"):
        monkeypatch.setattr(f"custsvc.stores.{limit}", 0)

    about = client.get("/api/customers/?limit=2").json

    assert about["count_estimated"] is True
    assert about["count"] >= 2
    assert client.get("/api/customers/?limit=2&count=exact").json["count"] == 5
    assert "count_estimated" not in client.get(about["next"]).json
    # A list of one page is counted by that page.
    whole = client.get("/api/customers/").json
    assert whole["count"] == client.get("/api/customers/?count=exact").json["count"] == 5
    assert "count_estimated" not in whole
    assert client.get("/api/customers/?count=estimated").json["count_estimated"] is True


def test_the_elements_are_the_stored_bytes(client: Client, ids: list[int]) -> None:
    docs = [client.get(f"/api/customers/{ids[i]}").data for i in (0, 1)]

    answer = client.get("/api/customers/?limit=2")

    assert answer.data.endswith(b'"results":[' + b",".join(docs) + b"]}")


def test_an_empty_list_is_a_list(client: Client) -> None:
    assert client.get("/api/customers/").json == {
        "count": 0,
        "next": None,
        "previous": None,
        "has_more": False,
        "results": [],
    }


def test_a_page_has_fifty_customers_unless_asked(client: Client) -> None:
    for _ in range(51):
        client.create()

    assert len(client.get("/api/customers/").json["results"]) == 50


WRONG = {
    "limit": ["0", "201", "-1", "1e9", "1000000000", "", "x", "1.0", "٣", "+5", " 5"],
    "deleted": ["", "yes", "EXCLUDE", "exclude,include"],
    "count": ["", "estimated-ish", "1"],
}


def test_a_parameter_with_an_impossible_value_is_named(client: Client) -> None:
    """S10."""
    for name, values in WRONG.items():
        for value in values:
            answer = client.get("/api/customers/", query_string={name: value})

            assert (answer.status_code, answer.json["code"]) == (400, "validation"), (name, value)
            assert [e["field"] for e in answer.json["errors"]] == [name]


EVIL = [
    '{"$gt": ""}',
    '{"$where": "sleep(60000)"}',
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(a+)+" * 60 + "$",
    ".*" * 150,
    "%" * 300,
    "[$ne]=x",
]


def test_operators_and_patterns_in_a_value_are_text_and_find_no_more_than_it(client: Client) -> None:
    """S6, S10."""
    client.create(name="a" * 300, metadata={"k": "a" * 300})
    for evil in EVIL:
        found = client.create(name=evil, metadata={"k": evil})["id"]

        for query in ({"name__startswith": evil}, {"metadata.k": evil}):
            assert [
                each["id"] for each in client.get("/api/customers/", query_string=query).json["results"]
            ] == [found]
        assert client.get("/api/customers/", query_string={"email": evil[:200]}).json["results"] == []
        assert client.get("/api/customers/", query_string={"q": evil}).status_code in (200, 400)


def test_an_unknown_parameter_is_named_on_every_path(client: Client) -> None:
    """S6, S10."""
    path = f"/api/customers/{client.create()['id']}"
    unknown = ["offset", "name[$ne]", "$where", "LIMIT", "x\x01", "limit "]

    for name in unknown:
        for method, where in (
            ("GET", "/api/customers/"),
            ("POST", "/api/customers/"),
            ("GET", path),
            ("PUT", path),
            ("PATCH", path),
            ("DELETE", path),
            ("POST", path + "/restore"),
            ("GET", path + "/history"),
        ):
            answer = client(method, where, query_string={name: "1"}, json=ANN if method != "GET" else None)

            assert (answer.status_code, answer.json["code"]) == (400, "unknown-parameter"), (method, where)
            assert answer.json["errors"][0]["field"] == name
    assert client.get(path).json["version"] == 1


def test_a_parameter_that_is_there_twice_is_refused(client: Client) -> None:
    assert client.get("/api/customers/?limit=1&limit=2").status_code == 400


def test_a_cursor_that_was_touched_is_refused(client: Client, ids: list[int]) -> None:
    cursor = client.get("/api/customers/?limit=2").json["next"].partition("cursor=")[2]
    payload, _, signature = cursor.partition(".")
    other = base64.urlsafe_b64encode(b'[0,"x"]').decode().rstrip("=")
    touched = [
        "",
        "x",
        ".",
        payload,
        f"{payload}.",
        f".{signature}",
        f"{other}.{signature}",
        f"{payload}.{signature[:-1]}",
        f"{payload}.{signature[::-1]}",
        cursor + "A",
        "é" + cursor,
        "A" * 10_000,
    ]

    for text in touched:
        answer = client.get("/api/customers/", query_string={"limit": 2, "cursor": text})
        assert (answer.status_code, answer.json["code"]) == (400, "bad-cursor"), text[:80]
    assert client.get("/api/customers/", query_string={"limit": 2, "cursor": cursor}).status_code == 200


def test_a_cursor_of_another_list_is_refused(client: Client, ids: list[int]) -> None:
    path = f"/api/customers/{ids[0]}"
    client.patch(path, json={"phone": "2"})
    live = client.get("/api/customers/?limit=1").json["next"].partition("cursor=")[2]
    history = client.get(path + "/history?limit=1").json["next"].partition("cursor=")[2]

    for where, cursor in (
        ("/api/customers/?deleted=include", live),
        ("/api/customers/", history),
        (path + "/history", live),
        (f"/api/customers/{ids[1]}/history", history),
    ):
        answer = client.get(where + ("&" if "?" in where else "?") + f"cursor={cursor}")
        assert (answer.status_code, answer.json["code"]) == (400, "cursor-mismatch"), where


def test_a_cursor_is_good_in_every_process_on_the_database(
    app: Flask, client: Client, settings: Settings, other_store: Store, ids: list[int]
) -> None:
    following = client.get("/api/customers/?limit=2").json["next"]

    answer = Client(create_app(settings, other_store), client._key).get(following)

    assert [c["id"] for c in answer.json["results"]] == [ids[3], ids[4]]


def test_an_address_is_found_in_any_case_and_shown_as_it_was_given(client: Client) -> None:
    """On the list, in a count, on every page, and in an export."""
    given = ["Case@example.org", "case@example.org", "CASE@EXAMPLE.org", "Zoë@example.org", "zoe@example.org"]
    stored = [client.create(email=email) for email in given]

    for asked, expected in (("cAsE@Example.ORG", stored[:3]), ("ZOË@EXAMPLE.ORG", stored[3:4])):
        query = {"email": asked}
        page = client.get("/api/customers/", query_string=query).json
        assert page["results"] == expected
        assert page["count"] == len(expected)
        assert client.get("/api/customers/", query_string={**query, "count": "exact"}).json["count"] == len(
            expected
        )
        exported = client.get("/api/customers/export", query_string={**query, "format": "json"}).json
        assert exported == expected
        assert walk(client, f"/api/customers/?limit=1&sort=-email&email={asked}")[0] != []


def test_names_sort_and_begin_as_people_expect(client: Client) -> None:
    """On the list and its pages, in a search, and in an export."""
    names = ["Emil", "Émile", "Emilia", "Eva"]
    ids = {client.create(name=name)["id"]: name for name in (*reversed(names), "Zoe")}

    for query, expected in (
        ("sort=name&limit=1", [*names, "Zoe"]),
        ("sort=-name&limit=1", ["Zoe", *reversed(names)]),
        ("sort=name&limit=2&name__startswith=émi", ["Emil", "Émile", "Emilia"]),
        ("sort=name&limit=1&q=emi", ["Emil", "Émile", "Emilia"]),
        ("sort=-name&limit=1&name__startswith=EMIL&deleted=include", ["Emilia", "Émile", "Emil"]),
    ):
        found, _ = walk(client, f"/api/customers/?{query}")
        assert [ids[each] for each in found] == expected, query
    exported = client.get("/api/customers/export?sort=name&name__startswith=EMI&format=json").json
    assert [each["name"] for each in exported] == ["Emil", "Émile", "Emilia"]


SORTS = [f"{sign}{name}" for name in ("id", "name", "email", "updated_on", "version") for sign in ("", "-")]


def test_a_page_that_has_become_empty_is_no_dead_end(client: Client) -> None:
    """Whatever is deleted between two pages, the ways from an empty one lead to all that is left."""
    for sort in SORTS:
        empty_pages(client, sort)
        for each in client.get("/api/customers/").json["results"]:
            client.delete(f"/api/customers/{each['id']}")


def empty_pages(client: Client, sort: str) -> None:
    same = {"name": "Same", "email": "same@example.org"}  # so that the id decides
    for number in range(6):
        client.create(**(same if number % 2 else {"name": f"N{number}", "email": f"{number}@example.org"}))
    first = client.get(f"/api/customers/?limit=2&sort={sort}").json
    second = client.get(first["next"]).json
    third = client.get(second["next"]).json

    for each in first["results"]:
        client.delete(f"/api/customers/{each['id']}")
    before = client.get(second["previous"]).json
    assert (before["results"], before["previous"], before["has_more"]) == ([], None, True)
    assert client.get(before["next"]).json["results"] == second["results"]

    for each in third["results"]:
        client.delete(f"/api/customers/{each['id']}")
    after = client.get(second["next"]).json
    assert (after["results"], after["next"], after["has_more"]) == ([], None, False)
    assert client.get(after["previous"]).json["results"] == second["results"]

    for each in second["results"]:
        client.delete(f"/api/customers/{each['id']}")
    for way in (before["next"], after["previous"], second["previous"], second["next"]):
        assert client.get(way).json["results"] == []
    made = client.create()
    shown = [client.get(way).json["results"] for way in (before["next"], after["previous"])]
    assert [made] in shown or sort not in ("id", "-id")
