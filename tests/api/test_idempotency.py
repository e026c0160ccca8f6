"""Idempotency-Key: a request that is sent twice is done once, and gets the same answer twice."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from custsvc.accounts.keys import new_key
from custsvc.domain.customers import utc_now
from custsvc.ports.answers import Answer
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store
from tests.sizes import sizes

from .conftest import ANN, Client

KEY = {"Idempotency-Key": "order-4711"}
PATH = "/api/customers/"


def essence(answer: Any) -> tuple[Any, ...]:
    headers = {k: v for k, v in answer.headers if k not in ("X-Request-Id", "Idempotency-Replayed")}
    return answer.status_code, headers, answer.data


@pytest.fixture
def ann(client: Client) -> str:
    """The path of a customer."""
    return f"{PATH}{client.create()['id']}"


def test_a_post_sent_twice_makes_one_customer_and_is_answered_alike(client: Client, store: Store) -> None:
    first = client.post(PATH, json=ANN, headers=KEY)
    again = client.post(PATH, json=ANN, headers=KEY)

    assert first.status_code == 201
    assert essence(again) == essence(first)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert store.customers.count(CustomerFilter("include")) == 1
    assert len(store.customers.history(first.json["id"], limit=9)) == 1


WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", "", {"json": {"name": "New"}}),
    ("PATCH", "", {"json": {"phone": "1"}}),
    ("DELETE", "", {}),
    ("POST", "/restore", {}),
]


@pytest.mark.parametrize(("method", "tail", "body"), WRITES, ids=["put", "patch", "delete", "restore"])
def test_every_write_is_done_once_even_after_others_changed_the_customer(
    client: Client, store: Store, ann: str, method: str, tail: str, body: dict[str, Any]
) -> None:
    if tail:
        client.delete(ann)
    headers = KEY | {"If-Match": f'"v{1 + bool(tail)}"'}
    first = client(method, ann + tail, headers=headers, **body)
    if method == "DELETE":
        client.post(f"{ann}/restore")
    client.patch(ann, json={"name": "Somebody else's"})
    versions = len(store.customers.history(1, limit=9))

    again = client(method, ann + tail, headers=headers, **body)

    assert first.status_code in (200, 204)
    assert essence(again) == essence(first)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(store.customers.history(1, limit=9)) == versions


def test_a_write_that_changed_nothing_is_remembered_too(client: Client, ann: str) -> None:
    same = client.put(ann, json=ANN, headers=KEY)
    client.patch(ann, json={"name": "Other"})

    again = client.put(ann, json=ANN, headers=KEY)

    assert (same.json["version"], again.json["version"]) == (1, 1)
    assert client.get(ann).json["name"] == "Other"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", PATH, {"json": {"name": "Other"}}),
        ("POST", PATH, {"data": '{"name": "Ann Lee" }', "content_type": "application/json"}),
        ("PUT", f"{PATH}1/", {"json": ANN}),
        ("DELETE", f"{PATH}1/", {}),
    ],
)
def test_a_key_used_for_another_request_is_422_and_does_nothing(
    client: Client, store: Store, method: str, path: str, body: dict[str, Any]
) -> None:
    """A3."""
    client.post(PATH, json=ANN, headers=KEY)

    answer = client(method, path, headers=KEY, **body)

    assert (answer.status_code, answer.json["code"]) == (422, "idempotency-mismatch")
    assert store.customers.count() == 1
    assert len(store.customers.history(1, limit=9)) == 1


def test_a_path_is_the_same_request_with_and_without_its_final_slash(client: Client) -> None:
    client.post(PATH, json=ANN, headers=KEY)

    assert client.post(PATH.rstrip("/"), json=ANN, headers=KEY).headers["Idempotency-Replayed"] == "true"


def test_the_key_of_one_principal_gives_no_replay_to_another(
    app: Flask, client: Client, store: Store
) -> None:
    """S31."""
    text, key = new_key("write", "write")  # of the same name, as a key and its successor have
    store.keys.add(key)
    first = client.post(PATH, json=ANN, headers=KEY)

    other = Client(app, text).post(PATH, json=ANN, headers=KEY)

    assert other.status_code == 201
    assert other.json["id"] != first.json["id"]
    assert "Idempotency-Replayed" not in other.headers


def test_a_request_that_was_refused_may_be_sent_again_under_its_key(client: Client, ann: str) -> None:
    for headers, status in ((KEY | {"If-Match": '"v7"'}, 412), (KEY, 200)):
        assert client.put(ann, json={"name": "New"}, headers=headers).status_code == status
    assert client.post(PATH, json={}, headers={"Idempotency-Key": "b"}).status_code == 400
    assert client.post(PATH, json=ANN, headers={"Idempotency-Key": "b"}).status_code == 201


def test_the_same_key_twice_is_one_and_a_comma_may_be_in_a_key(client: Client, store: Store) -> None:
    # The server joins headers of one name by a comma, and so may a proxy.
    keys = ("load-7", "load-7,load-7", "load-7, load-7", "load-7,load-8", '"load-7,load-8"')

    answers = [client.post(PATH, json=ANN, headers={"Idempotency-Key": key}) for key in keys]

    assert [each.status_code for each in answers] == [201] * 5
    replayed = [each.headers.get("Idempotency-Replayed") for each in answers]
    assert replayed == [None, "true", "true", None, "true"]
    assert store.customers.count() == 2


@pytest.mark.parametrize("key", ["", " ", "a b", '"', "x" * 256, "ä".encode().decode("latin-1")])
def test_a_malformed_key_is_refused(client: Client, store: Store, key: str) -> None:
    answer = client.post(PATH, json=ANN, headers={"Idempotency-Key": key})

    assert (answer.status_code, answer.json["code"]) == (400, "bad-header")
    assert store.customers.count() == 0


def test_a_key_may_be_quoted(client: Client) -> None:
    client.post(PATH, json=ANN, headers={"Idempotency-Key": '"abc"'})

    assert "Idempotency-Replayed" in client.post(PATH, json=ANN, headers={"Idempotency-Key": "abc"}).headers


def test_a_minimal_answer_can_be_asked_of_a_replay(client: Client) -> None:
    first = client.post(PATH, json=ANN, headers=KEY)

    again = client.post(PATH, json=ANN, headers=KEY | {"Prefer": "return=minimal"})

    assert (again.status_code, again.data) == (201, b"")
    assert again.headers["Location"] == first.headers["Location"]


def test_a_second_request_is_refused_with_a_wait_while_the_first_is_in_progress(
    client: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    save = store.customers.save

    def slowly(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return save(*args)

    monkeypatch.setattr(store.customers, "save", slowly)
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.append(client.post(PATH, json=ANN, headers=KEY)))
    thread.start()
    assert begun.wait(60)
    meanwhile = client.post(PATH, json=ANN, headers=KEY)
    go_on.set()
    thread.join()

    assert (meanwhile.status_code, meanwhile.json["code"]) == (409, "idempotency-in-flight")
    assert int(meanwhile.headers["Retry-After"]) > 0
    assert essence(client.post(PATH, json=ANN, headers=KEY)) == essence(first[0])


@sizes("rounds, at_once", (1, 20), (1000, 50))
def test_many_at_once_in_two_processes_make_one_customer(
    client: Client, store: Store, other_store: Store, settings: Any, rounds: int, at_once: int
) -> None:
    """A3."""
    from custsvc.serve import create_app

    other = Client(create_app(settings, other_store), client._key)
    half = at_once // 2
    with ThreadPoolExecutor(half) as ours, ThreadPoolExecutor(half) as theirs:
        for number in range(1, rounds + 1):
            key = {"Idempotency-Key": f"order-{number}"}
            gate = threading.Barrier(at_once)

            def send(to: Client, gate: threading.Barrier = gate, key: dict[str, str] = key) -> Any:
                gate.wait()
                return to.post(PATH, json=ANN, headers=key)

            sent = ours.map(send, [client] * half), theirs.map(send, [other] * half)
            _judge([answer for side in sent for answer in side])
            changed = client.post(PATH, json={"name": "Other"}, headers=key)
            assert (changed.status_code, changed.json["code"]) == (422, "idempotency-mismatch")
            assert store.customers.count() == number


def _judge(answers: list[Any]) -> None:
    """One was done, and the others were told what it did, or that it goes on."""
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json["code"] for answer in answers if answer.status_code == 409} <= {
        "idempotency-in-flight"
    }
    assert len({essence(answer)[2] for answer in answers if answer.status_code == 201}) == 1


def test_a_key_is_forgotten_after_a_day(client: Client, store: Store) -> None:
    first = client.post(PATH, json=ANN, headers=KEY)
    kept = store.answers.find(*_owner(store), dt.datetime.now(dt.UTC))
    assert kept is not None
    a_day = dt.timedelta(hours=24)

    assert store.answers.find(kept.principal, kept.key, kept.created_on + a_day * 0.999) == kept
    assert store.answers.find(kept.principal, kept.key, kept.created_on + a_day) is None

    again = client.post(PATH, json=ANN, headers=KEY)
    assert again.status_code == 201
    assert again.json["id"] != first.json["id"]


def test_old_keys_are_pruned_and_young_ones_are_not(store: Store) -> None:
    now = utc_now()
    for hours in (0, 23, 25):
        store.answers.add(Answer("p", f"k{hours}", b"h", b"{}", now - dt.timedelta(hours=hours)))

    assert store.answers.prune(now) <= 1  # MongoDB does it by itself, too

    assert [store.answers.find("p", f"k{hours}", now) is None for hours in (0, 23, 25)] == [
        False,
        False,
        True,
    ]


def _owner(store: Store) -> tuple[str, str]:
    (key,) = store.keys.all()
    return key.prefix, KEY["Idempotency-Key"]
