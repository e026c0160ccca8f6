"""Batches: many operations in one request, one result for each, never half done."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from custsvc.config import Settings
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .conftest import Answer, Client

PATH = "/api/customers/batch"


def create(name: str, **fields: Any) -> dict[str, Any]:
    return {"op": "create", "customer": {"name": name, **fields}}


def send(client: Client, *operations: Any, atomic: bool = False, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"operations": list(operations), "atomic": atomic}
    answer = client.post(PATH, json=body, headers=given)
    assert answer.status_code == 200, answer.text
    assert [each["index"] for each in answer.json["results"]] == list(range(len(operations)))
    return answer


def statuses(answer: Answer) -> list[int]:
    return [each["status"] for each in answer.json["results"]]


def test_each_operation_acts_as_its_own_request_and_sees_the_effects_of_those_before_it(
    client: Client, store: Store
) -> None:
    one, two, three = (client.create(name=name)["id"] for name in ("One", "Two", "Three"))

    answer = send(
        client,
        create("New", email="new@example.org"),
        {"op": "replace", "id": one, "customer": {"name": "First"}},
        {"op": "update", "id": one, "customer": {"phone": "1"}},
        {"op": "update", "id": two, "version": 1, "customer": {"metadata": {"tier": "gold"}}},
        {"op": "delete", "id": three},
        {"op": "restore", "id": three},
        {"op": "delete", "id": three},
    )

    assert statuses(answer) == [201, 200, 200, 200, 204, 200, 204]
    assert answer.json["done"] is True
    new = answer.json["results"][0]["id"]
    assert client.get(f"/api/customers/{new}").json["email"] == "new@example.org"
    first = client.get(f"/api/customers/{one}").json
    assert (first["name"], first["phone"], first["version"]) == ("First", "1", 3)
    assert client.get(f"/api/customers/{two}").json["metadata"] == {"tier": "gold"}
    assert client.get(f"/api/customers/{three}").json["code"] == "customer-deleted"
    ops = [orjson.loads(event)["op"] for event in store.customers.history(three, limit=9)]
    assert ops == ["deleted", "restored", "deleted", "created"]


WRONG: list[tuple[Any, int, str]] = [
    ({"op": "update", "id": 999999, "customer": {}}, 404, "not-found"),
    ({"op": "update", "id": 1, "version": 7, "customer": {"name": "x"}}, 412, "version-mismatch"),
    ({"op": "create", "customer": {"name": ""}}, 400, "validation"),
    ({"op": "create", "customer": {"name": "x", "colour": 1}}, 400, "validation"),
    ({"op": "create", "id": 5, "customer": {"name": "x"}}, 400, "validation"),
    ({"op": "explode", "id": 1}, 400, "validation"),
    ({"op": "delete"}, 400, "validation"),
    ({"op": "delete", "id": {"$gt": 0}}, 400, "validation"),
    ({"op": "delete", "id": 1, "where": "all"}, 400, "validation"),
    ({"op": "replace", "id": 1}, 400, "validation"),
    ("delete", 400, "validation"),
]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(("wrong", "status", "code"), WRONG)
def test_a_failed_operation_is_named_and_skipped_and_an_atomic_batch_does_nothing_then(
    client: Client, store: Store, wrong: Any, status: int, code: str, atomic: bool
) -> None:
    client.create(name="Before")

    answer = send(
        client, create("A"), wrong, {"op": "update", "id": 1, "customer": {"name": "B"}}, atomic=atomic
    )

    assert statuses(answer) == ([424, status, 424] if atomic else [201, status, 200])
    assert answer.json["done"] is not atomic
    error = answer.json["results"][1]["error"]
    assert (error["code"], error["status"], error["type"]) == (code, status, f"/problems/{code}")
    assert store.customers.count(CustomerFilter("include")) == (1 if atomic else 2)
    assert client.get("/api/customers/1").json["name"] == ("Before" if atomic else "B")
    assert ("X-Custsvc-Position" in answer.headers) is not atomic


def test_a_thousand_operations_go_and_one_more_does_not(client: Client, store: Store) -> None:
    assert set(statuses(send(client, *(create(f"N{n}") for n in range(1000)), atomic=True))) == {201}
    assert store.customers.count() == 1000

    too_many = client.post(PATH, json={"operations": [create("x")] * 1001})

    assert too_many.status_code == 400
    assert too_many.json["errors"][0]["field"] == "operations"
    assert store.customers.count() == 1000


@pytest.mark.parametrize(
    "body", [[], {}, {"operations": []}, {"operations": {}}, {"operations": [{}], "atomic": 1}, {"x": 1}]
)
def test_an_envelope_that_is_wrong_is_refused_whole(client: Client, body: Any) -> None:
    answer = client.post(PATH, json=body)

    assert (answer.status_code, answer.json["code"]) == (400, "validation")


def test_a_batch_sent_twice_under_its_key_is_done_once(client: Client, store: Store) -> None:
    operations = [create("A"), {"op": "delete", "id": 99}]
    first = send(client, *operations, Idempotency_Key="k")
    again = send(client, *operations, Idempotency_Key="k")

    assert again.data == first.data
    assert again.headers["Idempotency-Replayed"] == "true"
    assert store.customers.count() == 1


def test_where_if_match_is_required_each_operation_names_its_version(
    client: Client, store: Store, settings: Settings
) -> None:
    client.create()
    strict = Client(create_app(settings.replace(require_if_match=True), store), client._key)

    answer = send(strict, create("A"), {"op": "delete", "id": 1}, {"op": "delete", "id": 1, "version": 1})

    assert statuses(answer) == [201, 428, 204]


def test_batches_that_change_the_same_customers_at_once_lose_nothing(
    client: Client, store: Store, other_store: Store, settings: Settings
) -> None:
    import threading

    ids = [client.create(name=f"N{n}")["id"] for n in range(5)]
    clients = [client, Client(create_app(settings, other_store), client._key)]
    found: list[Answer] = []

    def work(number: int) -> None:
        for each in range(5):
            operations = [
                {"op": "update", "id": id_, "customer": {"metadata": {f"w{number}": each}}}
                for id_ in (ids if number % 2 else reversed(ids))
            ]
            found.append(send(clients[number % 2], *operations, atomic=True))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [statuses(answer) for answer in found] == [[200] * 5] * 20
    for id_ in ids:
        customer = client.get(f"/api/customers/{id_}").json
        assert (customer["version"], customer["metadata"]) == (21, {f"w{n}": 4 for n in range(4)})
        versions = [orjson.loads(event)["version"] for event in store.customers.history(id_, limit=50)]
        assert versions == list(range(21, 0, -1))
