"""A rebuild fills a new copy and swaps it in; the old one serves until then, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg2
import pytest

from custsvc.config import Settings
from custsvc.copies import rebuild as rebuilding
from custsvc.copies.origin import Origin
from custsvc.copies.rebuild import Rebuild
from custsvc.copies.replicate import Replicate
from custsvc.domain.customers import Fields
from custsvc.errors import (
    CheckFailed,
    ConfigurationError,
    Conflict,
    PositionLost,
    Stopped,
    Superseded,
    TemporaryError,
)
from custsvc.kafka.publisher import Publisher
from custsvc.ports.contents import Row
from custsvc.ports.store import Store
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from custsvc.transfer.seed import seed_customers
from tests.background import in_background
from tests.databases import open_database
from tests.waiting import until

from .conftest import Workers, changing, make_topic_anew, plant

ME = Caller("test")
# A customer that the source never had.
STRANGER = 999_999


@pytest.fixture
def copy(backend: str, all_databases: Callable[[str], Any]) -> Iterator[Store]:
    """A copy in the database of the other kind."""
    other: Any = "mongo" if backend == "postgres" else "postgres"
    databases = all_databases(other)
    # A database of its own: a rename would change one that is used again.
    url = databases.empty()
    with open_database(other, url) as copy:
        copy.migrate()
        yield copy
    databases.drop(url)


@pytest.fixture
def store(store: Store) -> Store:
    store.claim_role("source")
    return store


def names_of_indexes(copy: Store) -> set[str]:
    if copy.name == "postgres":
        with copy._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'customer'")
            return {name for (name,) in cursor}
    return set(copy._connection.database["customer"].index_information())  # type: ignore[attr-defined]


@pytest.mark.parametrize("way", ["source", "topic"])
def test_the_new_copy_takes_over_while_customers_change_and_the_running_copy_goes_on(
    store: Store, copy: Store, settings: Settings, workers: Workers, way: str
) -> None:
    seed_customers(store.customers, 300, 1)
    ids = [row.id for row in store.replica.scan(0, 300)]
    workers.relay(store)
    workers.copy(copy.replica, "copy")
    until("the copy is there", lambda: copy.replica.digest(0) == store.replica.digest(0))
    plant(copy, STRANGER, 1)
    indexes = names_of_indexes(copy)
    stop = Stop()
    fell: list[tuple[int, int]] = []

    def watch() -> None:
        last: dict[int, int] = {}
        while not stop.asked():
            rows: list[Row] = []
            # MongoDB ends a read that is under way when the new copy takes the old one's place.
            with suppress(TemporaryError):
                rows = list(copy.replica.rows(ids))
            for row in rows:
                if row.version < last.get(row.id, 0):
                    fell.append((row.id, row.version))
                last[row.id] = row.version

    with changing(store, ids), in_background(watch, stop):
        report = Rebuild(settings, copy, store if way == "source" else None).run()

    until("it is what the source is", lambda: copy.replica.digest(0) == store.replica.digest(0))
    assert (report is not None) == (way == "source")
    assert fell == []
    assert names_of_indexes(copy) == indexes
    # The copy that ran all the time reads on.
    CustomerService(store.customers).create(Fields("afterwards"), ME)
    until("it goes on", lambda: copy.replica.digest(0) == store.replica.digest(0))


def test_one_that_was_cut_off_goes_on_where_it_was_and_the_old_copy_is_untouched(
    store: Store, copy: Store, settings: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "_PAGE", 50)
    seed_customers(store.customers, 200, 1)
    with workers.running_relay(store):
        until("all is out", lambda: store.outbox.depth().waiting == 0)
    plant(copy, STRANGER, 1)
    stop = Stop()
    filled = 0

    def progress(count: int) -> None:
        nonlocal filled
        filled += count
        if filled >= 100:
            stop.ask()

    with pytest.raises(Stopped):
        Rebuild(settings, copy, store, stop=stop, progress=progress).run()
    assert [row.id for row in copy.replica.scan(0, 9)] == [STRANGER]

    again: list[int] = []
    Rebuild(settings, copy, store, progress=again.append).run()

    assert sum(again) == 100
    assert copy.replica.digest(0) == store.replica.digest(0)


def test_a_rebuilt_copy_that_differs_from_the_source_is_not_swapped_in(
    store: Store, copy: Store, settings: Settings, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_customers(store.customers, 20, 1)
    with workers.running_relay(store):
        until("all is out", lambda: store.outbox.depth().waiting == 0)
    real = rebuilding._as_event

    def wrong(row: Row) -> Any:
        return real(row._replace(doc=row.doc.replace(b'"deleted":false', b'"deleted":true')))

    with monkeypatch.context() as patch:
        patch.setattr(rebuilding, "_as_event", wrong)
        with pytest.raises(CheckFailed, match="differs from the source in 20 customers"):
            Rebuild(settings, copy, store).run()

    assert copy.replica.digest(0).customers == 0
    Rebuild(settings, copy, store).run()
    assert copy.replica.digest(0) == store.replica.digest(0)


@pytest.mark.parametrize("backend", ["mongo"])
def test_only_one_at_a_time_fills_a_copy(store: Store, copy: Store, settings: Settings) -> None:
    with copy.replica.rebuilding(), pytest.raises(Conflict, match="another process"):
        Rebuild(settings, copy, store).run()


def test_a_rebuild_refuses_a_source_that_is_no_system_of_record(copy: Store, settings: Settings) -> None:
    """An empty database would make an empty copy."""
    with pytest.raises(ConfigurationError, match="no system of record"):
        Rebuild(settings, copy, copy).run()


def test_a_shadow_that_is_behind_the_copy_is_not_swapped_in(copy: Store) -> None:
    copy.replica.apply([], "t", {0: 10, 1: 5})
    shadow = copy.replica.shadow()
    shadow.apply([], "t", {0: 9, 1: 5})
    copy.replica.hold(60)

    assert copy.replica.swap("t") is False
    shadow.apply([], "t", {0: 11})
    assert copy.replica.swap("t") is True
    assert copy.replica.positions("t") == {0: 11, 1: 5}


def test_a_held_copy_takes_no_events_and_a_hold_ends_by_itself(copy: Store) -> None:
    copy.replica.apply([], "t", {0: 10})
    copy.replica.begin("t")
    copy.replica.hold(60)

    with pytest.raises(Superseded):
        copy.replica.apply([], "t", {0: 11})
    with pytest.raises(TemporaryError, match="about to be swapped"):
        copy.replica.begin("t")
    copy.replica.hold(0)
    assert copy.replica.begin("t") == {0: 10}


def test_a_copy_of_a_recreated_topic_is_refilled_and_goes_on(
    store: Store, copy: Store, settings: Settings, workers: Workers
) -> None:
    """R10, O13: where it stood on the old topic is further than the new one reaches, and means nothing."""
    seed_customers(store.customers, 40, 1)
    with workers.running_relay(store):
        until("all is out", lambda: store.outbox.depth().waiting == 0)
    Origin(settings, copy).check_topic()
    copy.replica.apply([], settings.topic_updates, dict.fromkeys(range(4), 1000))
    make_topic_anew(settings)
    with pytest.raises(PositionLost):
        Origin(settings, copy).check_topic()

    Rebuild(settings, copy, store).run()

    assert copy.replica.digest(0) == store.replica.digest(0)
    assert copy.replica.positions(settings.topic_updates) == dict.fromkeys(range(4), 0)
    Origin(settings, copy).check_topic()


@pytest.mark.parametrize("backend", ["mongo"])
def test_in_postgres_readers_do_not_wait_and_dependent_objects_of_the_table_stay(
    store: Store, copy: Store, settings: Settings
) -> None:
    """Grants, views and triggers; and a report that has been reading since before sees what it saw."""
    seed_customers(store.customers, 10, 1)
    plant(copy, STRANGER, 1)
    url = copy._connections.url  # type: ignore[attr-defined]
    with closing(psycopg2.connect(url)) as reader, closing(psycopg2.connect(url)) as owner:
        with owner, owner.cursor() as cursor:
            cursor.execute("GRANT SELECT ON customer TO public")
            cursor.execute("CREATE VIEW names AS SELECT id, name FROM customer")
        with reader.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT name FROM customer")
            before = cursor.fetchall()

            Rebuild(settings, copy, store).run()

            cursor.execute("SELECT name FROM names")
            assert cursor.fetchall() == before == [("Eve",)]
        with owner, owner.cursor() as cursor:
            cursor.execute("SELECT count(*), has_table_privilege('public', 'customer', 'SELECT') FROM names")
            assert cursor.fetchone() == (10, True)


def test_a_topic_that_lost_its_end_is_a_loss_until_the_copy_is_refilled_however_it_grows(
    store: Store, copy: Store, settings: Settings, workers: Workers
) -> None:
    """Kafka was restored to an older state. What comes from then on takes the places of what is gone."""
    seed_customers(store.customers, 10, 1)
    with workers.running_relay(store):
        until("all is out", lambda: store.outbox.depth().waiting == 0)
        copy.replica.apply([], settings.topic_updates, dict.fromkeys(range(4), 12))
        with pytest.raises(PositionLost, match="before the position 12"):
            run_copy(settings, copy)

        seed_customers(store.customers, 100, 2)
        until("all is out", lambda: store.outbox.depth().waiting == 0)
    with pytest.raises(PositionLost, match="before the position 12"):
        run_copy(settings, copy)

    Rebuild(settings, copy, store).run()

    assert copy.replica.digest(0) == store.replica.digest(0)
    Origin(settings, copy).check_topic()


def run_copy(settings: Settings, copy: Store) -> None:
    with Publisher(settings) as publisher:
        Replicate(settings, copy.replica, publisher, "copy", Stop(), origin=Origin(settings, copy)).run()
