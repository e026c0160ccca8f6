"""Serving a copy: it only reads, and waits for the reader's own write to the source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from custsvc.accounts.keys import new_key
from custsvc.config import Settings
from custsvc.domain.received import decode
from custsvc.http import copy
from custsvc.ports.store import Store
from custsvc.serve import create_app

from .conftest import ANN, Client

PATH = "/api/customers/"


class Pair:
    """A source and a copy of it on the same kind of database, brought up to date by `replicate`."""

    def __init__(self, source: Store, copy: Store) -> None:
        text, key = new_key("reader", "admin")
        self.stores = (source, copy)
        for store in self.stores:
            store.keys.add(key)
        settings = Settings(backend=source.name)  # type: ignore[arg-type]
        self.source = Client(create_app(settings, source), text)
        self.copy = Client(create_app(settings.replace(read_only=True), copy), text)
        self._offset = 0

    def replicate(self) -> None:
        source, copy = self.stores
        with source.outbox.lead():
            batch = source.outbox.read(1000)
            source.outbox.done(batch)
        events = [decode(event.payload, b"%d" % event.customer_id) for event in batch.events]
        self._offset += len(events)
        copy.replica.apply(events, "t", {0: self._offset})


@pytest.fixture
def pair(store: Store, new_database: Callable[[], str], opened: Callable[[str], Store]) -> Pair:
    return Pair(store, opened(new_database()))


@pytest.fixture
def written(pair: Pair) -> dict[str, str]:
    """The headers that ask for a customer which the copy has not got yet."""
    for _ in range(3):
        answer = pair.source.post(PATH, json=ANN)
    return {"X-Custsvc-Min-Position": answer.headers["X-Custsvc-Position"]}


LISTS = [
    "",
    "?q=lee+ANN",
    "?q=example",
    "?email=ann@example.org",
    "?metadata.tier=gold",
    "?sort=-name&limit=2",
    "?name__startswith=Z&deleted=include",
    "?fields=id,name&sort=updated_on",
]


def test_a_copy_answers_reads_byte_for_byte_as_its_source(pair: Pair) -> None:
    for name in ("Ann Lee", "Zoë", "Émile Zola", "ann lee"):
        answer = pair.source.post(PATH, json={**ANN, "name": name, "metadata": {"tier": "gold"}})
    pair.source.delete(f"{PATH}2")
    pair.replicate()

    for tail in (*LISTS, "1", "2", "99", f"{answer.json['id']}"):
        ours, theirs = pair.source.get(PATH + tail), pair.copy.get(PATH + tail)
        assert _told(theirs) == _told(ours), tail


def _told(answer: Any) -> tuple[int, Any, str | None]:
    body = dict(answer.json)
    body.pop("request_id", None)
    for link in ("next", "previous"):  # signed by each for itself
        body[link] = body.get(link) is not None
    return answer.status_code, body, answer.headers.get("ETag")


@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("POST", ""),
        ("PUT", "1"),
        ("PATCH", "1"),
        ("DELETE", "1"),
        ("POST", "1/restore"),
        ("POST", "1/revert"),
        ("POST", "1/erase"),
        ("POST", "batch"),
    ],
)
def test_a_copy_refuses_every_write_and_says_where_to_write(pair: Pair, method: str, tail: str) -> None:
    pair.source.post(PATH, json=ANN)
    pair.replicate()

    answer = pair.copy(method, PATH + tail, json=ANN)

    assert (answer.status_code, answer.json["code"]) == (405, "read-only")
    assert "system of record" in answer.json["detail"]
    assert pair.copy.get(f"{PATH}1").json["version"] == 1


def test_a_copy_that_is_behind_says_so(pair: Pair, written: dict[str, str]) -> None:
    for path in (PATH, f"{PATH}3"):
        answer = pair.copy.get(path, headers=written)
        assert (answer.status_code, answer.json["code"]) == (504, "copy-behind")
        assert int(answer.headers["Retry-After"]) > 0

    pair.replicate()

    assert pair.copy.get(f"{PATH}3", headers=written).status_code == 200
    assert len(pair.copy.get(PATH, headers=written).json["results"]) == 3


def test_a_reader_that_waits_sees_its_write_as_soon_as_it_is_there(
    pair: Pair, written: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "WAIT_MAX", 90.0)  # on a machine that crawls ten seconds are no time
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(pair.copy.get(f"{PATH}3", headers=written | {"Prefer": "wait=90"}))
    )
    waiting.start()
    time.sleep(0.3)
    assert not answers
    pair.replicate()
    waiting.join(120)

    assert answers[0].status_code == 200


def test_waiting_ends_when_patience_does(pair: Pair, written: dict[str, str]) -> None:
    started = time.monotonic()

    answer = pair.copy.get(f"{PATH}3", headers=written | {"Prefer": "return=minimal, wait=1"})

    assert answer.json["code"] == "copy-behind"
    assert time.monotonic() - started >= 1


def test_a_version_is_waited_for_and_a_batch_names_all_it_wrote(pair: Pair) -> None:
    pair.source.post(PATH, json=ANN)
    pair.replicate()
    changed = pair.source.patch(f"{PATH}1", json={"name": "New"})
    batch = pair.source.post(f"{PATH}batch", json={"operations": [{"op": "create", "customer": ANN}] * 2})

    one, two = (each["id"] for each in batch.json["results"])
    for answer, position in ((changed, "1-2"), (batch, f"{one}-1,{two}-1")):
        assert answer.headers["X-Custsvc-Position"] == position
        headers = {"X-Custsvc-Min-Position": position}
        assert pair.copy.get(f"{PATH}1", headers=headers).status_code == 504
        assert pair.source.get(f"{PATH}1", headers=headers).status_code == 200
    pair.replicate()
    wanted = {"X-Custsvc-Min-Position": f"1-2, {one}-1,{two}-1"}
    assert pair.copy.get(f"{PATH}1", headers=wanted).json["name"] == "New"


@pytest.mark.parametrize("position", ["", "1", "1-", "x-1", "1-1,", "0-1", "1-99999999999999999999"])
def test_a_malformed_position_is_refused(pair: Pair, position: str) -> None:
    for client in (pair.source, pair.copy):
        answer = client.get(PATH, headers={"X-Custsvc-Min-Position": position})
        assert (answer.status_code, answer.json["code"]) == (400, "bad-header")


def test_a_copy_has_no_history_and_says_so(pair: Pair) -> None:
    pair.source.post(PATH, json=ANN)
    pair.replicate()

    assert "system of record" in pair.copy.get(f"{PATH}1/history").json["detail"]


def test_a_copy_finds_duplicates_but_does_not_say_which_were_dismissed(pair: Pair) -> None:
    for _ in range(2):
        pair.source.post(PATH, json=ANN)
    pair.replicate()
    assert pair.source.post(f"{PATH}duplicates/dismiss", json={"ids": [1, 2]}).status_code == 200

    for path in (f"{PATH}duplicates", f"{PATH}1/duplicates"):
        for query in ("", "?dismissed=include"):
            (found,) = pair.copy.get(path + query).json["results"]
            assert found["dismissed"] is None
        for word in ("exclude", "only"):
            refused = pair.copy.get(f"{path}?dismissed={word}")
            assert (refused.status_code, refused.json["errors"][0]["field"]) == (400, "dismissed")
        assert pair.source.get(path).json["results"] == []
