"""Merging customers over HTTP: all or nothing, guarded by version, told in the history, and undone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custsvc.domain.canonical import canonical_fields
from custsvc.domain.received import decode
from custsvc.ports.accounts import Role
from custsvc.ports.store import Store
from custsvc.service.changes import Caller
from custsvc.service.customers import CustomerService
from custsvc.service.merging import Merge
from tests.customers import accepted, editable

from .conftest import Client

ADA = {"name": "Ada Lovelace", "email": "ada@example.org", "phone": None, "metadata": {"tier": "gold"}}
TWIN = {
    "name": "A. Lovelace",
    "email": "Ada.L@example.org",
    "phone": "+44 20 7946 0000",
    "metadata": {"tier": "silver", "city": "London"},
}


def _path(customer: dict[str, Any], action: str = "") -> str:
    return f"/api/customers/{customer['id']}/{action}"


def _history(client: Client, customer: dict[str, Any]) -> list[dict[str, Any]]:
    """The customer's events, the oldest first."""
    return list(reversed(client.get(_path(customer, "history?limit=200")).json["results"]))


@pytest.fixture
def two(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    return client.create(**ADA), client.create(**TWIN)


def test_the_survivor_keeps_its_values_and_gets_those_it_lacks(client: Client, two: Any) -> None:
    one, twin = two

    merged = client.post(_path(one, "merge"), json={"from": [twin["id"]]})

    assert merged.status_code == 200, merged.text
    assert editable(merged.json) == ADA | {
        "phone": "+44 20 7946 0000",
        "metadata": {"city": "London", "tier": "gold"},
    }
    assert merged.headers["ETag"] == '"v2"'
    assert merged.headers["X-Custsvc-Position"] == f"{one['id']}-2,{twin['id']}-2"
    assert client.get(_path(one)).json == merged.json


def test_the_one_that_was_merged_is_gone_and_says_where_to(client: Client, two: Any) -> None:
    one, twin = two
    client.post(_path(one, "merge"), json={"from": [twin["id"]]})

    for gone in (
        client.get(_path(twin)),
        client.put(_path(twin), json=ADA),
        client.patch(_path(twin), json={"name": "A"}),
        client.post(_path(twin, "merge"), json={"from": [one["id"]]}),
        client.post(_path(twin, "unmerge")),
    ):
        assert gone.status_code == 410, gone.text
        assert gone.json["code"] == "customer-merged"
        assert gone.json["survivor"] == one["id"]
        assert gone.headers["Link"] == f'<{_path(one)}>; rel="canonical"'
    assert client.get("/api/customers/?q=lovelace").json["count"] == 1


def test_the_events_name_the_customer_that_each_value_came_from(client: Client, two: Any) -> None:
    one, twin = two
    merged = client.post(_path(one, "merge"), json={"from": [twin["id"]]}).json

    first, into = _history(client, one)[-1], _history(client, twin)[-1]

    assert (first["op"], first["app_event_type"], first["changed"]) == ("merged", 200, ["phone", "metadata"])
    assert first["merge"] == {
        "from": [{"id": twin["id"], "version": 2}],
        "took": {"phone": twin["id"], "metadata.city": twin["id"]},
    }
    assert first["before_change"] == one
    assert first["after_change"] == merged
    assert (into["op"], into["app_event_type"], into["changed"]) == ("merged_into", 300, ["deleted"])
    assert into["merge"] == {"into": {"id": one["id"], "version": 2}}
    assert into["before_change"] == twin
    assert into["after_change"]["deleted"]


def test_the_body_decides_where_the_customers_differ(client: Client, two: Any) -> None:
    one, twin = two
    fields = {"name": "Ada King", "email": TWIN["email"], "metadata": {"tier": None, "note": "two cards"}}

    merged = client.post(_path(one, "merge"), json={"from": [twin["id"]], "fields": fields})

    assert editable(merged.json) == {
        "name": "Ada King",
        "email": TWIN["email"],
        "phone": TWIN["phone"],
        "metadata": {"city": "London", "note": "two cards"},
    }
    took = _history(client, one)[-1]["merge"]["took"]
    assert took == dict.fromkeys(("email", "phone", "metadata.city"), twin["id"])


def test_a_dry_run_shows_the_result_and_stores_nothing(client: Client, two: Any) -> None:
    one, twin = two

    shown = client.post(_path(one, "merge?dry_run=true"), json={"from": [twin["id"]]})

    assert shown.status_code == 200, shown.text
    assert shown.json["took"] == {"phone": twin["id"], "metadata.city": twin["id"]}
    assert client.get(_path(one)).json == one
    assert client.get(_path(twin)).json == twin
    merged = client.post(_path(one, "merge"), json={"from": [twin["id"]]}).json
    assert editable(merged) == editable(shown.json["customer"])


def test_each_side_is_guarded_by_its_version(client: Client, two: Any) -> None:
    one, twin = two
    body = {"from": [{"id": twin["id"], "version": 1}]}
    client.patch(_path(twin), json={"name": "Changed"})

    other = client.post(_path(one, "merge"), json=body)
    assert (other.status_code, other.json["code"]) == (412, "version-mismatch")
    assert other.json["current"]["id"] == twin["id"]
    assert other.json["changed"] == ["name"]
    mine = client.post(_path(one, "merge"), json={"from": [twin["id"]]}, headers={"If-Match": '"v7"'})
    assert (mine.status_code, mine.json["current"]["id"]) == (412, one["id"])

    assert client.get(_path(one)).json == one
    body["from"][0]["version"] = 2
    assert client.post(_path(one, "merge"), json=body, headers={"If-Match": '"v1"'}).status_code == 200


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ([], "", "not_an_object"),
        ({}, "from", "bad_value"),
        ({"from": []}, "from", "bad_value"),
        ({"from": "8"}, "from", "bad_value"),
        ({"from": list(range(2, 23))}, "from", "bad_value"),
        ({"from": [True]}, "from.0", "bad_value"),
        ({"from": [2, None]}, "from.1", "bad_value"),
        ({"from": [2, 2]}, "from.1", "bad_value"),
        ({"from": [1]}, "from.0", "bad_value"),
        ({"from": [{"id": 2, "version": 0}]}, "from.0", "bad_value"),
        ({"from": [{"id": 2, "more": 1}]}, "from.0", "bad_value"),
        ({"from": [2, 2**63 - 1]}, "from.1", "not_found"),
        ({"from": [3]}, "from.0", "deleted"),
        ({"from": [2], "fields": []}, "fields", "not_an_object"),
        ({"from": [2], "fields": {"email": "@"}}, "email", "invalid_email"),
        ({"from": [2], "fields": {"name": None}}, "name", "required"),
        ({"from": [2], "into": 1}, "into", "unknown_field"),
    ],
)
def test_a_wrong_body_is_named_and_merges_nothing(
    client: Client, two: Any, body: Any, field: str, code: str
) -> None:
    one, twin = two
    third = client.create(name="Third")
    client.delete(_path(third))
    assert [one["id"], twin["id"], third["id"]] == [1, 2, 3]

    refused = client.post(_path(one, "merge"), json=body)

    assert refused.status_code == 400, refused.text
    assert [(error["field"], error["code"]) for error in refused.json["errors"]] == [(field, code)]
    assert client.get(_path(one)).json == one
    assert client.get(_path(twin)).json == twin


def test_more_metadata_than_a_customer_can_have_is_named_and_can_be_left_out(client: Client) -> None:
    one = client.create(name="A", metadata={f"a{n}": n for n in range(30)})
    twin = client.create(name="B", metadata={f"b{n}": n for n in range(30)})

    refused = client.post(_path(one, "merge"), json={"from": [twin["id"]]})
    assert refused.status_code == 400
    assert [(e["field"], e["code"]) for e in refused.json["errors"]] == [("fields.metadata", "too_many_keys")]

    fields = {"metadata": {f"b{n}": None for n in range(10)}}
    merged = client.post(_path(one, "merge"), json={"from": [twin["id"]], "fields": fields})
    assert len(merged.json["metadata"]) == 50


def test_a_repeated_merge_with_a_key_is_answered_and_not_done_again(client: Client, two: Any) -> None:
    one, twin = two
    ask = {"json": {"from": [twin["id"]]}, "headers": {"Idempotency-Key": "m1"}}

    first = client.post(_path(one, "merge"), **ask)
    again = client.post(_path(one, "merge"), **ask)

    assert again.status_code == 200
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.data == first.data
    assert again.headers["X-Custsvc-Position"] == first.headers["X-Custsvc-Position"]
    undone = client.post(_path(one, "unmerge"), headers={"Idempotency-Key": "u1"})
    repeated = client.post(_path(one, "unmerge"), headers={"Idempotency-Key": "u1"})
    assert repeated.data == undone.data
    assert repeated.headers["X-Custsvc-Position"] == f"{one['id']}-3,{twin['id']}-3"


def test_reading_does_not_suffice_to_merge(
    app: Any, make_key: Callable[[Role], str], client: Client, two: Any
) -> None:
    one, twin = two
    reader = Client(app, make_key("read"))

    for action in ("merge", "merge?dry_run=true", "unmerge"):
        assert reader.post(_path(one, action), json={"from": [twin["id"]]}).status_code == 403


# -- undoing


def test_undoing_a_merge_brings_both_back(client: Client, two: Any) -> None:
    one, twin = two
    client.post(_path(one, "merge"), json={"from": [twin["id"]]})

    undone = client.post(_path(one, "unmerge"))

    assert undone.status_code == 200, undone.text
    assert editable(undone.json) == editable(one)
    assert undone.headers["X-Custsvc-Position"] == f"{one['id']}-3,{twin['id']}-3"
    assert editable(client.get(_path(twin)).json) == editable(twin)
    event = _history(client, one)[-1]
    assert event["op"] == "unmerged"
    assert event["merge"] == {"undid": 2, "restored": [{"id": twin["id"], "version": 3}], "kept": []}
    assert _history(client, twin)[-1]["merge"] == {"out_of": {"id": one["id"], "version": 3}}


def test_a_change_made_since_the_merge_stays(client: Client, two: Any) -> None:
    one, twin = two
    client.post(_path(one, "merge"), json={"from": [twin["id"]]})
    client.patch(_path(one), json={"phone": "555", "metadata": {"tier": "black"}})

    undone = client.post(_path(one, "unmerge"))

    assert editable(undone.json) == ADA | {"phone": "555", "metadata": {"tier": "black"}}
    assert _history(client, one)[-1]["merge"]["kept"] == ["phone"]


def test_merges_are_undone_the_newest_first_each_once(client: Client) -> None:
    one, two, three = (client.create(name=name) for name in "ABC")
    client.post(_path(one, "merge"), json={"from": [two["id"]]})
    client.post(_path(one, "merge"), json={"from": [three["id"]]})

    client.post(_path(one, "unmerge"))
    assert client.get(_path(three)).status_code == 200
    assert client.get(_path(two)).status_code == 410
    client.post(_path(one, "unmerge"))
    assert client.get(_path(two)).status_code == 200

    refused = client.post(_path(one, "unmerge"))
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    assert "all of it is undone" in refused.json["detail"]


def test_one_that_was_restored_by_itself_stays_as_it_is(client: Client, two: Any) -> None:
    one, twin = two
    client.post(_path(one, "merge"), json={"from": [twin["id"]]})
    client.post(_path(twin, "restore"))
    changed = client.patch(_path(twin), json={"name": "Own life"}).json

    undone = client.post(_path(one, "unmerge"))

    assert undone.status_code == 200
    assert editable(undone.json) == editable(one)
    assert client.get(_path(twin)).json == changed


@pytest.mark.parametrize("how", ["erased", "restored and deleted", "survivor erased"])
def test_a_merge_that_cannot_be_undone_is_refused_with_the_reason(
    app: Any, make_key: Callable[[Role], str], client: Client, two: Any, how: str
) -> None:
    one, twin = two
    admin = Client(app, make_key("admin"))
    client.post(_path(one, "merge"), json={"from": [twin["id"]]})
    if how == "erased":
        admin.post(_path(twin, "erase"))
    elif how == "survivor erased":
        admin.post(_path(one, "erase"))
    else:
        client.post(_path(twin, "restore"))
        client.delete(_path(twin))
    before = client.get(_path(one)).json

    refused = client.post(_path(one, "unmerge"))

    assert refused.status_code == 409, refused.text
    words = {"erased": "erased", "survivor erased": "was erased", "restored and deleted": "deleted"}
    assert words[how] in refused.json["detail"]
    assert client.get(_path(one)).json == before


def test_a_survivor_that_is_merged_itself_is_undone_step_by_step(client: Client) -> None:
    one, two, three = (client.create(name=name) for name in "ABC")
    client.post(_path(two, "merge"), json={"from": [three["id"]]})
    client.post(_path(one, "merge"), json={"from": [two["id"]]})
    assert client.get(_path(three)).json["survivor"] == two["id"]

    assert client.post(_path(two, "unmerge")).status_code == 410
    client.post(_path(one, "unmerge"))
    client.post(_path(two, "unmerge"))

    assert [client.get(_path(each)).status_code for each in (one, two, three)] == [200] * 3


def test_erasing_the_survivor_erases_those_inside_it(
    app: Any, make_key: Callable[[Role], str], client: Client
) -> None:
    one, two, three, apart = (client.create(name=f"Secret {n}", metadata={f"secret{n}": n}) for n in range(4))
    client.post(_path(two, "merge"), json={"from": [three["id"], apart["id"]]})
    client.post(_path(apart, "restore"))
    client.post(_path(one, "merge"), json={"from": [two["id"]]})

    erased = Client(app, make_key("admin")).post(_path(one, "erase"))

    assert erased.status_code == 200, erased.text
    for customer in (one, two, three):
        assert b"ecret" not in orjson.dumps(_history(client, customer))
    assert client.get(_path(apart)).json["name"] == "Secret 3"


# -- what others rely on


@given(first=accepted, second=accepted, third=accepted, changed=st.booleans())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_customers_are_merged_and_come_back_byte_for_byte(
    store: Store, first: Any, second: Any, third: Any, changed: bool
) -> None:
    service, me = CustomerService(store.customers), Caller("me")
    ids = [service.create(canonical_fields(each), me).id for each in (first, second, third)]
    before = [service.get(each).customer().fields for each in ids]

    merged = service.merge(ids[0], Merge.parse(ids[0], {"from": ids[1:]}), me)
    if changed:
        service.delete(ids[0], me)
        service.restore(ids[0], me)
    service.unmerge(ids[0], me)

    assert merged.versions == dict.fromkeys(ids, 2)
    assert [service.get(each).customer().fields for each in ids] == before
    for each in ids:
        events = list(reversed(store.customers.history(each, limit=50)))
        versions = [decode(event, b"%d" % each).version for event in events]
        assert versions == list(range(1, len(events) + 1))
        for earlier, later in itertools.pairwise(events):
            assert orjson.loads(later)["before_change"] == orjson.loads(earlier)["after_change"]
