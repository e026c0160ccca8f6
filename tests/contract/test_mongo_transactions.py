"""MongoDB only: transactions whose answer is lost, that are ended from outside, or that nobody ends."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from custsvc.domain.customers import Stored
from custsvc.errors import TemporaryError
from custsvc.ports.store import Store
from custsvc.stores.mongo import carried
from custsvc.stores.mongo.connection import ABANDONED, Connection
from custsvc.stores.mongo.customers import MongoCustomers, customer_document, event_document

if TYPE_CHECKING:
    from tests.backdoor import MongoBackdoor
    from tests.chaos.faultproxy import FaultProxy

    from .conftest import Customers


pytestmark = pytest.mark.slow


@pytest.fixture
def backend() -> str:
    return "mongo"


def test_a_change_saved_again_is_recognised_by_its_event(store: Store, customers: Customers) -> None:
    new = customers.new()
    one = store.customers.save(new)
    change = customers.next(one)
    two = store.customers.save(change)

    again = store.customers.save(change)

    assert (again.version, again.doc) == (two.version, two.doc)
    assert len(store.customers.history(one.id, limit=9)) == 2


# How a change is written, and what the request that makes it final holds.
WAYS = pytest.mark.parametrize(
    ("before", "final"), [("add", b"$push"), ("filled", b"commitTransaction")], ids=["carried", "apart"]
)


def begin(how: str, customers: Customers) -> Stored:
    return customers.add() if how == "add" else customers.filled()


@WAYS
@pytest.mark.parametrize("lost", ["request", "reply"])
def test_a_write_whose_answer_is_lost_again_and_again_happens_once(
    lost: Any,
    before: str,
    final: bytes,
    proxied: Store,
    proxy: FaultProxy,
    store: Store,
    customers: Customers,
) -> None:
    """A5."""
    one = begin(before, customers)
    proxied.ping()

    proxy.lose(lost, final, times=4)
    two = proxied.customers.save(customers.next(one))

    assert proxy.left == 0
    assert store.customers.get(one.id) == two
    assert len(store.customers.history(one.id, limit=99)) == two.version


def test_a_bulk_write_whose_answer_is_lost_happens_once(
    proxied: Store, proxy: FaultProxy, store: Store, customers: Customers
) -> None:
    proxied.ping()

    proxy.lose("reply", b"commitTransaction", times=3)
    proxied.customers.save_many([customers.new() for _ in range(20)])
    proxy.lose("reply", b"commitTransaction", times=3)
    applied = proxied.replica.apply(customers.versions(2, id=500), "topic", {0: 2})

    assert proxy.left == 0
    assert store.customers.count() == 21
    assert applied.written + applied.stale == 2
    assert store.replica.positions("topic") == {0: 2}


@WAYS
def test_a_write_whose_answer_never_comes_ends_in_a_temporary_error(
    before: str,
    final: bytes,
    proxied: Store,
    proxy: FaultProxy,
    customers: Customers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = begin(before, customers)
    proxied.ping()
    give_up_after(1.5, monkeypatch)

    proxy.lose("reply", final, times=10_000)
    with pytest.raises(TemporaryError):  # though the loss goes on
        proxied.customers.save(customers.next(one))

    assert proxy.left > 0


@pytest.mark.parametrize("waited", [0.0, ABANDONED])
def test_a_write_that_is_not_durable_yet_is_recognised(
    waited: float, customers: Customers, backdoor: MongoBackdoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A5: the answer was lost, and the server is not done with the write when it comes again."""
    monkeypatch.setattr("custsvc.stores.mongo.customers.ABANDONED", ABANDONED - waited)
    hasty = backdoor.database["customer"].with_options(write_concern=WriteConcern(1, j=False))
    for _ in range(5):
        change = customers.new()
        carried.insert(hasty, customer_document(change, 1), event_document(change, 1))

        assert customers.store.customers.save(change).version == 1


def test_a_transaction_that_is_ended_from_outside_runs_again(store: Store, database_url: str) -> None:
    """A process that was only slow is taken for dead, and its transaction ended, in its commit too."""
    sessions: list[Any] = []
    over = threading.Event()

    def end_them(client: MongoClient[Any]) -> None:
        while not over.wait(0.001):
            for each in sessions[-1:]:
                client.admin.command("killSessions", [{"id": each["id"]}])

    def write(number: int, session: ClientSession) -> None:
        sessions.append(session.session_id)
        opened["customer"].update_one({"_id": number}, {"$set": {"n": number}}, upsert=True, session=session)

    with closing(Connection(database_url)) as opened, MongoClient[Any](database_url) as client:
        killer = threading.Thread(target=end_them, args=(client,))
        killer.start()
        try:
            for number in range(200):
                opened.transaction(partial(write, number), timeout=60)
        finally:
            over.set()
            killer.join()
        assert len(sessions) > 200
        assert opened["customer"].count_documents({}) == 200


def test_a_transaction_that_a_dead_process_left_open_blocks_no_one(
    store: Store, customers: Customers, database_url: str
) -> None:
    before = customers.add()
    with MongoClient[Any](database_url, appname="custsvc") as dead, dead.start_session() as session:
        session.start_transaction()
        dead.get_default_database()["customer"].update_one(
            {"_id": before.id}, {"$set": {"version": 99}}, session=session
        )
        started = time.monotonic()

        after = customers.change(before)

        # The server itself would end it after a minute.
        assert time.monotonic() - started < 45
        assert after.version == 2
        with pytest.raises(OperationFailure):
            session.commit_transaction()
    assert store.customers.get(before.id) == after


def give_up_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for write in (MongoCustomers._carried, MongoCustomers._committed):
        monkeypatch.setattr(write, "__kwdefaults__", {"timeout": seconds})


@WAYS
def test_a_change_that_was_not_committed_leaves_neither_customer_nor_event(
    before: str,
    final: bytes,
    proxied: Store,
    proxy: FaultProxy,
    store: Store,
    customers: Customers,
    backdoor: MongoBackdoor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = begin(before, customers)
    proxied.ping()
    give_up_after(1.0, monkeypatch)

    proxy.lose("request", final, times=10_000)
    with pytest.raises(TemporaryError):
        proxied.customers.save(customers.next(one))
    end_transactions(proxy.seen_as, backdoor)

    assert store.customers.get(one.id) == one
    assert len(store.customers.history(one.id, limit=99)) == one.version
    assert store.outbox.depth().waiting == one.version


def end_transactions(clients: list[str], backdoor: MongoBackdoor) -> None:
    """Abort the open transactions of these clients, as the server does after a minute."""
    idle = {"$currentOp": {"allUsers": True, "idleSessions": True, "idleCursors": False}}
    theirs = {"$match": {"transaction": {"$exists": True}, "client": {"$in": clients}}}
    admin = backdoor.client.admin
    for found in admin.aggregate([idle, theirs]):
        admin.command("killSessions", [{"id": found["lsid"]["id"]}])
