"""PostgreSQL behind PgBouncer: what a session would keep is brought along, and nobody notices a difference.

The suites of the ports that most of the work goes through run here again, through the pooler.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from urllib.parse import quote, urlsplit

import psycopg2
import pytest

from custsvc.config import Settings
from custsvc.domain.events import CustomerEvent
from custsvc.errors import ConfigurationError
from custsvc.ports.store import Store
from custsvc.stores import open_store
from custsvc.stores.postgres.connection import connect
from custsvc.stores.postgres.pooler import settings_of
from tests.chaos.faultproxy import FaultProxy
from tests.conftest import Servers, open_database
from tests.pgbouncer import PgBouncer, pgbouncer

# The same tests as of PostgreSQL itself: `opened` below sends them through the pooler.
from .conftest import Customers, received
from .test_customers import *  # noqa: F403
from .test_outbox import *  # noqa: F403
from .test_shares import *  # noqa: F403

IGNORING = {"ignore_startup_parameters": "options"}
STRICT = "default_transaction_isolation = 'serializable'"
LEVEL = "SELECT current_setting('transaction_isolation')"
TIMES = "SELECT current_setting('statement_timeout'), current_setting('TimeZone'), current_schema()"


@pytest.fixture
def backend() -> str:
    return "postgres"


@pytest.fixture(scope="module")
def poolers(servers: Servers) -> Iterator[Callable[..., PgBouncer]]:
    """Poolers by mode and settings, each started once."""
    with ExitStack() as stack:
        started: dict[tuple[str, ...], PgBouncer] = {}

        def of(mode: str, **settings: str) -> PgBouncer:
            key = (mode, *settings)
            if key not in started:
                started[key] = stack.enter_context(pgbouncer(servers.url("postgres"), mode, **settings))
            return started[key]

        yield of


@pytest.fixture
def opened(poolers: Callable[..., PgBouncer], backend: str) -> Iterator[Callable[[str], Store]]:
    with ExitStack() as stack:
        pooler = poolers("transaction")
        yield lambda url: stack.enter_context(open_database(backend, pooler.url(url)))


@pytest.fixture
def proxy(poolers: Callable[..., PgBouncer], database_url: str) -> Iterator[FaultProxy]:
    """A way to the pooler that can lose a request, or the reply to one, and can be shut."""
    with FaultProxy(("127.0.0.1", poolers("transaction").port)) as proxy:
        yield proxy


@pytest.fixture
def proxied(proxy: FaultProxy, database_url: str, backend: str) -> Iterator[Store]:
    address = f"postgresql://custsvc@127.0.0.1:{proxy.port}{urlsplit(database_url).path}"
    with open_database(backend, address) as store:
        yield store


@pytest.fixture
def write_mark() -> bytes:
    """A part of the statement that makes a write final; nothing is prepared."""
    return b"INSERT INTO customer_event ("


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("settings", [{}, IGNORING], ids=["refusing-options", "ignoring-options"])
def test_settings_hold_in_each_transaction_and_those_of_the_address_count(
    poolers: Callable[..., PgBouncer], database_url: str, mode: str, settings: dict[str, str]
) -> None:
    url = poolers(mode, **settings).url(database_url)
    own = "options=" + quote("-c statement_timeout=1234ms -c search_path=pg_catalog")

    for address, expected in (
        (url, ("30s", "UTC", "public")),
        (f"{url}?{own}", ("1234ms", "UTC", "pg_catalog")),
    ):
        with closing(connect(address)) as connection, connection.cursor() as cursor:
            found = set()
            for _ in range(6):
                cursor.execute(TIMES)
                found.add(cursor.fetchone())
            cursor.execute("BEGIN")
            cursor.execute("SELECT pg_sleep(0)")
            cursor.execute(TIMES)
            found.add(cursor.fetchone())
            cursor.execute("COMMIT")
        assert found == {expected}


def test_a_stricter_default_of_the_database_holds_in_no_transaction(
    poolers: Callable[..., PgBouncer], empty_database: str
) -> None:
    with closing(psycopg2.connect(empty_database)) as owner, owner.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {urlsplit(empty_database).path[1:]} SET {STRICT}")
        owner.commit()
    url = poolers("transaction").url(empty_database)
    own = "options=" + quote(r"-c default_transaction_isolation=repeatable\ read")

    for address, expected in ((url, "read committed"), (f"{url}?{own}", "repeatable read")):
        with closing(connect(address)) as connection, connection.cursor() as cursor:
            cursor.execute(LEVEL)
            alone = cursor.fetchone()
            cursor.execute("BEGIN")
            cursor.execute(LEVEL)
            within = cursor.fetchone()
            cursor.execute("ROLLBACK")
        assert (alone, within) == ((expected,), (expected,))


def test_options_are_read_as_postgresql_reads_them() -> None:
    assert settings_of(r"-c a=1 -cb=2  --work-mem=5MB -c search_path=x\ y,\\z --a=3 -d 5") == {
        "a": "3",
        "b": "2",
        "work_mem": "5MB",
        "search_path": "x y,\\z",
    }


def test_a_schema_is_made_served_and_copied_to_by_many_at_once(
    poolers: Callable[..., PgBouncer], empty_database: str, backend: str
) -> None:
    """From nothing: migrations, writes alone and in batches, reads, a relay, a copy in its own schema."""
    settings = Settings(backend="postgres", postgres_url=poolers("transaction").url(empty_database))
    with open_store(settings) as store, open_store(settings, copy="one") as copy:
        assert store.migrate()
        copy.migrate(lists=False)
        store.claim_role("source")
        copy.claim_role("copy")
        failed: list[BaseException] = []

        def work(name: str) -> None:
            try:
                _write_and_read(store, name)
            except BaseException as exc:
                failed.append(exc)
                raise

        threads = [threading.Thread(target=work, args=(f"Ada {n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        events = []
        while any(thread.is_alive() for thread in threads):
            events += _relay(store, copy)
        events += _relay(store, copy)

        assert failed == []
        assert len(events) == len({(event.customer_id, event.version) for event in events}) == 6 * 10 * 5
        assert store.outbox.depth().waiting == 0
        assert copy.replica.digest(0) == store.replica.digest(0)


def _write_and_read(store: Store, name: str) -> None:
    customers = Customers(store)
    for _ in range(10):
        one = customers.change(customers.add(name))
        assert store.customers.get(one.id) == one
        changes = [customers.next(one), customers.new(name), customers.new(name)]
        store.customers.save_many(changes)
        found = store.customers.get_many([change.after.id for change in changes])
        assert {each.version for each in found.values()} == {1, 3}


def _relay(store: Store, copy: Store) -> list[CustomerEvent]:
    events: list[CustomerEvent] = []
    with store.outbox.lead() as leading:
        assert leading
        while (batch := store.outbox.read(50)).events:
            copy.replica.apply([received(event) for event in batch.events], "t", {0: 1})
            store.outbox.done(batch)
            events += batch.events
    return events


def test_one_leads_whether_through_the_pooler_or_not_and_the_next_one_as_soon_as_it_ends(
    store: Store, database_url: str, backend: str, poolers: Callable[..., PgBouncer]
) -> None:
    in_session = poolers("session").url(database_url)
    with open_database(backend, database_url) as direct, open_database(backend, in_session) as third:
        outboxes = [store.outbox, direct.outbox, third.outbox]
        for leader in outboxes * 20:
            with leader.lead() as leads:
                assert leads
                for other in outboxes:
                    if other is not leader:
                        with other.lead() as leads_too:
                            assert not leads_too
                leader.read(1)


def test_a_copy_is_filled_by_one_at_a_time(store: Store, database_url: str, backend: str) -> None:
    with open_database(backend, database_url) as direct:
        for _ in range(20):
            with direct.replica.rebuilding() as theirs, store.replica.rebuilding() as ours:
                assert theirs
                assert not ours
            with store.replica.rebuilding() as ours, direct.replica.rebuilding() as theirs:
                assert ours
                assert not theirs
        with store.replica.rebuilding():
            shadow = store.replica.shadow()
            assert shadow.positions("t") == {}
            assert store.replica.swap("t")


def test_an_index_over_rows_is_made_in_the_schema_that_is_meant_or_refused(
    poolers: Callable[..., PgBouncer], database_url: str, store: Store, customers: Customers
) -> None:
    """It is a statement that nothing may stand before, so no schema can be said with it."""
    customers.add()
    with closing(connect(database_url)) as direct, direct.cursor() as cursor:
        cursor.execute("DROP INDEX customer_version")
    assert store.index_lists() is True
    assert store.index_lists() is False

    settings = Settings(backend="postgres", postgres_url=poolers("transaction").url(database_url))
    with open_store(settings, copy="one") as copy:
        copy.migrate(lists=False)
        copy.replica.apply([received(customers.new().event)], "t", {0: 1})
        with pytest.raises(ConfigurationError, match="behind a pooler") as refused:
            copy.index_lists()
    assert "address" in (refused.value.fix or "")


def test_a_pooler_without_transactions_is_refused_at_the_first_connection(
    poolers: Callable[..., PgBouncer], database_url: str, backend: str
) -> None:
    def lead(store: Store) -> None:
        with store.outbox.lead():
            pass

    for step in (lambda store: store.ping(), lambda store: store.migrate(), lead):
        with (
            open_database(backend, poolers("statement").url(database_url)) as store,
            pytest.raises(ConfigurationError, match="statement mode") as refused,
        ):
            step(store)
        assert refused.value.exit_code == 3
        assert "pool_mode" in (refused.value.fix or "")
