"""The client over a real API: the promises of its calls, on both databases."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any
from unicodedata import normalize

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custsvc.accounts.keys import new_key
from custsvc.client import (
    Busy,
    Client,
    Deleted,
    Invalid,
    KeyReused,
    Merged,
    NotFound,
    NotPermitted,
    Unavailable,
    VersionMismatch,
    calls,
    sending,
)
from custsvc.config import Settings
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.values import METADATA

from .ways import FAULTS, URL, Clock, Faulty

LOSSES = st.lists(st.sampled_from(sorted(FAULTS)), max_size=6)
WRITES = st.sampled_from(["create", "update", "replace", "delete", "restore", "revert", "batch"])
FAR = 2**62


class Writer:
    """Writes by a client, and counts what it was told is done."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._number = 0
        self.customer = client.create("first")
        self.created = 1

    def write(self, kind: str) -> None:
        client, customer = self._client, self.customer
        self._number += 1
        name = f"name {self._number}"
        if kind == "create" or customer.deleted != (kind == "restore"):
            self.customer = client.create(name, metadata={"n": self._number})
            self.created += 1
        elif kind in ("delete", "restore"):
            if kind == "delete":
                assert client.delete(customer.id, version=customer.version) == customer.version + 1
                self.customer = client.at(customer.id, dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
            else:
                self.customer = client.restore(customer.id, version=customer.version)
        elif kind == "batch":
            (done,) = client.batch([{"op": "update", "id": customer.id, "customer": {"name": name}}])
            assert (done.status, done.version) == (200, customer.version + 1)
            self.customer = client.get(customer.id)
        else:
            self._edit(kind, name)
        if self.customer.id == customer.id:
            assert self.customer.version == customer.version + 1

    def _edit(self, kind: str, name: str) -> None:
        client, customer = self._client, self.customer
        if kind == "update":
            self.customer = client.update(customer.id, {"name": name}, version=customer.version)
        elif kind == "replace":
            self.customer = client.replace(customer.id, {"name": name}, version=customer.version)
        else:
            client.update(customer.id, {"name": name})
            self.customer = client.get(customer.id)
            reverted = client.revert(customer.id, customer.version, version=customer.version + 1)
            assert reverted.name == customer.name
            client.update(customer.id, {"name": name}, version=reverted.version)
            self.customer = client.get(customer.id)
            assert self.customer.version == customer.version + 3
            self.customer = client.create("after a revert")
            self.created += 1


@settings(max_examples=12)
@given(st.lists(st.tuples(WRITES, LOSSES), min_size=1, max_size=6))
def test_each_write_is_done_once_when_requests_or_answers_are_lost(
    client: Client, way: Faulty, store: Store, written: list[tuple[str, list[str]]]
) -> None:
    before = store.customers.count(CustomerFilter("include"))
    writer = Writer(client)

    for kind, faults in written:
        way.meets(faults)
        writer.write(kind)
        way.meets(())

    assert store.customers.count(CustomerFilter("include")) == before + writer.created


def test_a_call_that_gave_up_is_repeated_with_its_key_and_done_once(way: Faulty, store: Store) -> None:
    reached = ("lost answer", "cut", "too late", "bad gateway", "gateway timeout")
    with Client(URL, transport=way, retry=Clock().retry(within=3.0)) as client:
        for number, fault in enumerate(sorted(set(FAULTS) - {"none"}), start=1):
            way.meets([fault] * 1000)
            with pytest.raises((Unavailable, Busy)) as caught:
                client.create("Ann", key=fault.replace(" ", "-"))
            way.meets(())
            ann = client.create("Ann", key=fault.replace(" ", "-"))

            assert (ann.version, store.customers.count()) == (1, number)
            if isinstance(caught.value, Unavailable):
                assert caught.value.key == fault.replace(" ", "-")
                assert caught.value.maybe_done or fault not in reached
                assert fault != "no connection" or not caught.value.maybe_done


def test_a_customer_has_the_fields_of_the_api_and_can_be_sent_back(client: Client, way: Faulty) -> None:
    ann = client.create("Ann Lee", email="ann@example.org", phone="1", metadata={"tier": "gold", "n": 1})

    raw = httpx.Client(base_url=URL, transport=way).get(f"/api/customers/{ann.id}").json()
    assert ann.as_dict() == raw
    assert list(ann.as_dict()) == list(raw)
    assert client.get(ann.id) == ann
    assert client.replace(ann.id, ann.as_dict()) == ann


@settings(max_examples=12)
@given(METADATA.filter(lambda given: len({normalize("NFC", key) for key in given}) == len(given)))
def test_metadata_comes_back_as_it_was_given(client: Client, metadata: dict[str, Any]) -> None:
    made = client.create("Ann", metadata=metadata)

    again = client.get(made.id)
    assert again.metadata == made.metadata
    assert [(type(v), repr(v)) for v in again.metadata.values()] == [
        (type(v), repr(v)) for v in made.metadata.values()
    ]


def test_errors_say_what_the_caller_can_do(client: Client) -> None:
    ann = client.create("Ann")
    newer = client.update(ann.id, {"phone": "1"})

    with pytest.raises(VersionMismatch) as stale:
        client.update(ann.id, {"name": "Bob"}, version=ann.version)
    assert (stale.value.current, stale.value.changed) == (newer, ("phone",))
    with pytest.raises(Invalid) as wrong:
        client.create("", email="nobody")
    assert {each.field for each in wrong.value.errors} == {"name", "email"}
    with pytest.raises(Invalid, match="JSON"):
        client.update(ann.id, {"metadata": {"n": float("nan")}})
    with pytest.raises(Invalid) as half:
        client.create("\ud800")
    assert half.value.request_id
    with pytest.raises(NotFound):
        client.get(FAR)
    client.delete(ann.id)
    with pytest.raises(Deleted, match="deleted") as gone:
        client.get(ann.id)
    assert "restore" in (gone.value.fix or "")
    with pytest.raises(KeyReused):
        client.create("Ann", key="k") and client.create("Bob", key="k")


def test_a_key_without_the_right_is_an_error_with_the_fix_and_is_not_shown(
    settings: Settings, store: Store
) -> None:
    text, key = new_key("reader", "read")
    store.keys.add(key)
    app = create_app(settings.replace(auth="on"), store)

    with Client(URL, text, transport=httpx.WSGITransport(app)) as reader:
        assert list(reader.find()) == []
        with pytest.raises(NotPermitted) as caught:
            reader.create("Ann")
    with Client(URL, transport=httpx.WSGITransport(app)) as stranger, pytest.raises(NotPermitted) as nobody:
        stranger.get(1)

    assert "custsvc keys create" in (caught.value.fix or "")
    assert nobody.value.status == 401
    assert text not in repr(reader) + str(caught.value) + str(caught.value.fix)


def test_a_list_is_whole_and_in_order_however_many_pages_it_has(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAGE", 3)
    made = [client.create(f"Ann {n:02}", metadata={"even": str(n % 2 == 0)}) for n in range(8)]
    client.delete(made[3].id)

    assert [c.name for c in client.find(sort="-name")] == [f"Ann {n:02}" for n in (7, 6, 5, 4, 2, 1, 0)]
    assert [c.id for c in client.find(q="ann", deleted="only")] == [made[3].id]
    assert {c.id for c in client.find(metadata={"even": "True"})} == {made[n].id for n in (0, 2, 4, 6)}
    since = made[5].created_on
    assert {c.id for c in client.find(created_since=since)} >= {made[n].id for n in (5, 6, 7)}
    assert client.count(q="ann") == 7
    first = client.page(limit=2)
    second = client.page(first.next, limit=2)
    assert [c.id for c in (*first.customers, *second.customers)] == [made[n].id for n in (0, 1, 2, 4)]
    assert first.count == 7


def test_the_history_is_every_change_the_newest_first(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAGE", 2)
    ann = client.create("Ann")
    for n in range(4):
        client.update(ann.id, {"phone": str(n)})
    client.delete(ann.id)

    events = list(client.history(ann.id))

    assert [(e.version, e.op) for e in events] == [
        (6, "deleted"),
        *[(version, "updated") for version in (5, 4, 3, 2)],
        (1, "created"),
    ]
    assert events[-1].before is None
    assert events[-1].after == ann
    assert [e.changed for e in events[1:5]] == [("phone",)] * 4
    with pytest.raises(NotFound):
        next(client.history(FAR))


def test_the_results_of_a_batch_are_in_the_order_of_its_operations(client: Client) -> None:
    ann = client.create("Ann")

    found = client.batch(
        [
            {"op": "create", "customer": {"name": "Bob"}},
            {"op": "create", "customer": {"name": ""}},
            {"op": "update", "id": ann.id, "version": 9, "customer": {"name": "x"}},
            {"op": "delete", "id": ann.id},
        ]
    )

    assert [each.status for each in found] == [201, 400, 412, 204]
    assert found[0].version == 1
    assert (found[1].error or {})["errors"][0]["field"] == "name"


class Pair(httpx.BaseTransport):
    """The source at localhost, its copy at 127.0.0.1."""

    def __init__(self, source: httpx.BaseTransport, copy: httpx.BaseTransport) -> None:
        self._source, self._copy = source, copy

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return (self._source if request.url.host == "localhost" else self._copy).handle_request(request)


def test_customers_are_merged_once_whatever_is_lost(client: Client, way: Faulty) -> None:
    ann, bob = client.create("Ann"), client.create("Bob", phone="1")
    assert client.preview_merge(ann.id, {bob.id: None}).took == {"phone": bob.id}
    with pytest.raises(VersionMismatch):
        client.merge(ann.id, {bob.id: 9})

    way.meets(["lost answer", "bad gateway"])
    merged = client.merge(ann.id, {bob.id: bob.version}, version=ann.version)
    assert (merged.version, merged.phone) == (2, "1")
    with pytest.raises(Merged) as gone:
        client.get(bob.id)
    assert gone.value.survivor == ann.id
    way.meets(["cut", "too late"])
    assert client.unmerge(ann.id).phone is None
    assert client.get(bob.id).version == 3


def test_pairs_of_duplicates_are_walked_through_and_dismissed(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAGE", 1)
    a, b, c = (client.create("Ada Lovelace", email="ada@example.org") for _ in range(3))

    client.dismiss([a.id, c.id])

    assert [each.customers for each in client.duplicate_pairs()] == [(a, b), (b, c)]
    (gone,) = client.duplicate_pairs(dismissed="only")
    assert (gone.customers, gone.is_dismissed, gone.reasons[0]) == ((a, c), True, "same email")
    client.undismiss([c.id, a.id])
    assert len(list(client.duplicate_pairs())) == 3
    assert list(client.duplicate_pairs(min_score=1)) == []
    with pytest.raises(NotFound):
        client.dismiss([a.id, FAR])


def test_reads_from_a_copy_ask_for_the_written_version(
    settings: Settings, store: Store, new_database: Callable[[], str], opened: Callable[[str], Store]
) -> None:
    source = httpx.WSGITransport(create_app(settings, store))
    copy = httpx.WSGITransport(create_app(settings.replace(read_only=True), opened(new_database())))
    clock = Clock()
    with Client(
        URL, copy="http://127.0.0.1", transport=Pair(source, copy), retry=clock.retry(within=3.0)
    ) as client:
        assert list(client.find()) == []  # nothing was written, so whatever the copy has will do
        ann = client.create("Ann")
        monkey = pytest.MonkeyPatch()
        monkey.setattr(sending, "COPY_WAITS", "wait=0")
        with monkey.context(), pytest.raises(Unavailable, match="copy has not yet") as caught:
            client.get(ann.id)
        monkey.undo()

        assert caught.value.code == "copy-behind"
        assert client.positions.text == f"{ann.id}-1"
        assert [event.op for event in client.history(ann.id)] == ["created"]
        assert client.duplicates(ann.id) == []  # asked of the source, which knows what was dismissed
