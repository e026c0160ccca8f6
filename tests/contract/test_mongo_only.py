"""MongoDB only: how things are stored, leases, kinds of servers."""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bson import Int64
from pymongo import MongoClient
from pymongo.database import Database

from custsvc.domain.customers import Stored
from custsvc.errors import ConfigurationError, TemporaryError, VersionConflict
from custsvc.local import mongod as embedded
from custsvc.local import ports
from custsvc.local.process import wait_until
from custsvc.ports.store import Store
from custsvc.stores.mongo import MongoStore, outbox
from custsvc.stores.mongo.connection import Connection
from custsvc.stores.mongo.lease import Lease
from tests.addresses import changed
from tests.waiting import until

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.backdoor import MongoBackdoor

    from .conftest import Customers


@pytest.fixture
def backend() -> str:
    return "mongo"


# -- how things are stored


def test_numbers_are_64_bit_whatever_their_size(
    store: Store, customers: Customers, backdoor: MongoBackdoor
) -> None:
    stored = customers.change(customers.add())
    customers.change(stored)
    store.replica.apply(customers.versions(1, id=99), "topic", {0: 1})

    database = backdoor.database
    for field in ("_id", "version", "hlc"):
        assert isinstance((database["customer"].find_one({"_id": stored.id}) or {})[field], Int64)
    for field in ("_id", "version"):
        assert isinstance((database["customer"].find_one({"_id": 99}) or {})[field], Int64)
    customer: Any = database["customer"].find_one({"_id": stored.id})
    event = customer["outbox"][0]
    assert [type(each) for each in event["_id"].values()] == [Int64, Int64]
    assert isinstance(event["pending"], Int64)
    assert isinstance((database["position"].find_one() or {})["next"], Int64)


def test_the_hybrid_clock_rises_with_each_version_though_the_wall_clock_goes_back(
    store: Store, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns
    one = customers.add()
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)

    two = customers.change(one)
    other = customers.add()
    reread = store.customers.get(two.id)
    assert reread is not None
    three = customers.change(reread)

    assert one.hint < two.hint < three.hint
    assert other.hint < one.hint
    with store.outbox.lead():
        order = [(event.customer_id, event.version) for event in store.outbox.read(10).events]
    assert order == [(other.id, 1), (one.id, 1), (one.id, 2), (one.id, 3)]


def test_the_hybrid_clock_rises_without_the_hint_of_the_store(
    store: Store, customers: Customers, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns
    one = customers.add()
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)

    two = customers.change(Stored(one.id, one.version, one.deleted, one.doc))

    assert two.hint > one.hint


def test_a_customer_is_not_stored_without_its_event(
    store: Store, customers: Customers, backdoor: MongoBackdoor
) -> None:
    full = customers.filled()
    key = {"customer_id": Int64(full.id), "version": Int64(full.version + 1)}
    backdoor.database["customer_event"].insert_one({"_id": key, "id": "another"})

    with pytest.raises(VersionConflict):
        store.customers.save(customers.next(full))

    assert store.customers.get(full.id) == full


def test_a_counter_that_was_lost_does_not_begin_again(store: Store, backdoor: MongoBackdoor) -> None:
    store.customers.new_id()
    backdoor.database["counter"].drop()

    with pytest.raises(ConfigurationError):
        store.customers.new_ids(1)


# -- leases


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with closing(Connection(database_url)) as connection:
        yield connection


def lease_end(connection: Connection, name: str) -> dt.datetime:
    end = (connection["custsvc_meta"].find_one({"_id": name}) or {})["until"]
    assert isinstance(end, dt.datetime)
    return end


def run_out(database: Database[dict[str, Any]], name: str) -> None:
    """As if its holder had not renewed it."""
    long_ago = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    database["custsvc_meta"].update_one({"_id": name}, {"$set": {"until": long_ago}})


def test_a_lease_is_renewed_while_its_holder_is_busy(connection: Connection) -> None:
    ours = Lease(connection, "custsvc_meta", "test", 6)

    with ours.held() as held:
        assert held
        for _ in range(2):
            end = lease_end(connection, "test")
            until("it is renewed", lambda end=end: lease_end(connection, "test") != end)
            with Lease(connection, "custsvc_meta", "test", 6).held() as other:
                assert not other
        ours.check()


def test_a_leader_whose_lease_was_taken_gets_an_error(
    store: Store,
    other_store: Store,
    customers: Customers,
    backdoor: MongoBackdoor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """O6."""
    customers.add()
    monkeypatch.setattr(outbox, "LEASE", 60)
    monkeypatch.setattr(Lease, "_renew_until", lambda self, stop: None)  # as if the process stood still
    with store.outbox.lead() as leading:
        assert leading
        batch = store.outbox.read(10)
        store.outbox._lease._renewed -= 60  # type: ignore[attr-defined]
        run_out(backdoor.database, "outbox")
        with other_store.outbox.lead() as other_leads:
            assert other_leads
            assert other_store.outbox.read(10).events == batch.events

            with pytest.raises(TemporaryError, match="lost"):
                store.outbox.done(batch)
            with pytest.raises(TemporaryError, match="lost"):
                store.outbox.read(10)

            # It stops, and leaves the lease to its present holder.
    with store.outbox.lead() as leading:
        assert leading


def test_a_lease_that_was_lost_is_not_given_back_by_its_old_holder(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lease, "_renew_until", lambda self, stop: None)
    old = Lease(connection, "custsvc_meta", "test", 60)
    new = Lease(connection, "custsvc_meta", "test", 60)
    with old.held() as held:
        assert held
        run_out(connection.database, "test")
        context = new.held()
        assert context.__enter__()

    with Lease(connection, "custsvc_meta", "test", 5).held() as third:
        assert not third
    context.__exit__(None, None, None)


def test_the_age_of_the_oldest_event_is_in_seconds(store: Store, backdoor: MongoBackdoor) -> None:
    hour_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    for number, age in enumerate((0, 1)):
        backdoor.database["customer_event"].insert_one(
            {"_id": number, "pending": Int64(number + 1), "time": hour_ago + dt.timedelta(minutes=age)}
        )

    waiting, oldest = store.outbox.depth()
    assert waiting == 2
    assert oldest == pytest.approx(3600, abs=120)


# -- kinds of servers


@pytest.fixture
def bare_mongod(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a mongod with these options and nothing done to it; returns host:port."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> str:
        port = ports.choose(None)
        folder = tmp_path / str(port)
        folder.mkdir()
        command: list[str | Path] = [
            embedded._binary(),
            "--dbpath",
            folder,
            "--port",
            str(port),
            "--bind_ip",
            "127.0.0.1",
        ]
        with (tmp_path / "log").open("wb") as log:
            running.append(subprocess.Popen([*command, "--nounixsocket", *options], stdout=log))
        patient: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 90_000}
        with MongoClient[dict[str, Any]]("127.0.0.1", port, **patient) as client:
            client.admin.command("ping")
        return f"127.0.0.1:{port}"

    yield start
    for each in running:
        each.send_signal(signal.SIGKILL)
        each.wait()


def test_a_mongod_without_replica_set_is_refused_with_the_fix(bare_mongod: Callable[..., str]) -> None:
    server = bare_mongod()

    with (
        MongoStore(f"mongodb://{server}/x") as store,
        MongoStore(f"mongodb://{server}/x?replicaSet=rs0") as named,
    ):
        for call in (store.ping, store.migrate, lambda: store.claim_role("source"), named.ping):
            with pytest.raises(ConfigurationError, match="not a replica set") as caught:
                call()
            assert "--replSet rs0" in (caught.value.fix or "")
            assert "rs.initiate()" in (caught.value.fix or "")


def test_a_replica_set_that_was_never_initiated_is_named_so(bare_mongod: Callable[..., str]) -> None:
    server = bare_mongod("--replSet", "rs0")

    with MongoStore(f"mongodb://{server}/x") as store, pytest.raises(TemporaryError) as caught:
        store.ping()
    assert "rs.initiate()" in (caught.value.fix or "")


def test_a_replica_set_without_a_primary_is_waited_for(bare_mongod: Callable[..., str]) -> None:
    """As in an election that takes longer than looking for a server."""
    server = bare_mongod("--replSet", "rs0")
    patient: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 90_000}
    with MongoClient[dict[str, Any]](f"mongodb://{server}", **patient) as client:
        members = [{"_id": 0, "host": server}]
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
        assert wait_until(lambda: client.admin.command("hello")["isWritablePrimary"], 90)
        client.admin.command("replSetStepDown", 3600, force=True)

    with MongoStore(f"mongodb://{server}/x?replicaSet=rs0") as store:
        for call in (store.ping, store.migrate, lambda: store.customers.get(1)):
            with pytest.raises(TemporaryError, match="No replica set members match"):
                call()


def test_a_wrong_password_is_a_configuration_error(database_url: str) -> None:
    url = changed(database_url, {"login": "ada:hush-hush"})

    with MongoStore(url) as store, pytest.raises(ConfigurationError) as caught:
        store.ping()
    assert "CUSTSVC_MONGO_URL" in (caught.value.fix or "")
    assert "hush" not in str(caught.value)


def test_a_database_name_with_a_dot_is_used_to_the_dot_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("shop", "shop.eu", "shop.eu", "shop.us.2"):
        with MongoStore(f"mongodb://127.0.0.1:1/{name}") as store:
            assert store._connection.database.name == "shop"

    told = [record.getMessage() for record in caplog.records]
    assert [("shop.eu" in line, "shop.us.2" in line) for line in told] == [(True, False), (False, True)]
    assert all("shop is used" in line for line in told)


@pytest.mark.parametrize(
    "url", ["mongo://x", "mongodb://", "mongodb://h/db?tls=perhaps", "mongodb://a/b?c", ""]
)
def test_an_address_that_cannot_be_read_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        MongoStore(url)
    assert "mongodb://" in (caught.value.fix or "")


def test_without_a_database_in_the_address_it_is_custsvc() -> None:
    with closing(Connection("mongodb://127.0.0.1:1")) as connection:
        assert connection.database.name == "custsvc"
        assert connection.address == "127.0.0.1:1"
