"""The outbox on PostgreSQL only: snapshots, sequences, sessions, clusters."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, get_args

import psycopg2
import pytest

from custsvc.domain.customers import Fields
from custsvc.domain.events import CustomerEvent
from custsvc.domain.search import asked
from custsvc.errors import ConfigurationError
from custsvc.ports.customers import CustomerFilter, CustomerQuery, SortField
from custsvc.ports.ledger import Notification, Settlement
from custsvc.ports.outbox import Outbox
from custsvc.ports.store import Store
from custsvc.service.customers import Caller, CustomerService
from custsvc.stores.postgres.connection import connect
from custsvc.stores.postgres.queries import PostgresQueries
from custsvc.transfer import load, seed
from custsvc.transfer.rows import read
from tests.sizes import sizes

from .conftest import Customers

pytestmark = pytest.mark.parametrize("backend", ["postgres"])

Drain = Callable[..., list[CustomerEvent]]


@pytest.fixture
def sql(database_url: str) -> Iterator[Callable[..., Any]]:
    """Runs a statement by itself and returns its first row."""
    connection = psycopg2.connect(database_url)
    connection.autocommit = True

    def run(statement: str, *params: object) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(statement, params)
            return cursor.fetchone() if cursor.description else None

    with closing(connection):
        yield run


INSERT = (
    "INSERT INTO customer_event (id, customer_id, version, op, created, payload) "
    """VALUES (%s, %s, 1, 'created', now(), '{"id":"some"}')"""
)


@contextmanager
def open_transaction(url: str) -> Iterator[Any]:
    """A connection in a transaction that writes; the caller commits it or not."""
    with closing(psycopg2.connect(url)) as connection:
        yield connection


def add_event(connection: Any, customer_id: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(INSERT, (str(uuid.uuid4()), customer_id))


def ids(events: list[CustomerEvent]) -> list[int]:
    return [event.customer_id for event in events]


def test_an_event_whose_transaction_commits_late_is_read_late_and_not_lost(
    store: Store, database_url: str, drain: Drain
) -> None:
    """O1."""
    with store.outbox.lead(), open_transaction(database_url) as late, open_transaction(database_url) as early:
        add_event(late, 1)
        for customer_id in range(2, 12):
            add_event(early, customer_id)
        early.commit()
        first = drain(store.outbox)

        late.commit()
        second = drain(store.outbox)

    assert (ids(first), ids(second)) == ([*range(2, 12)], [1])


def test_an_event_that_was_rolled_back_is_never_read(store: Store, database_url: str, drain: Drain) -> None:
    with store.outbox.lead(), open_transaction(database_url) as connection:
        add_event(connection, 1)
        assert drain(store.outbox) == []
        connection.rollback()

        assert drain(store.outbox) == []


def test_an_event_of_a_prepared_transaction_is_read_once_it_is_committed(
    store: Store, database_url: str, sql: Callable[..., Any], drain: Drain
) -> None:
    """O3."""
    if sql("SHOW max_prepared_transactions")[0] == "0":
        pytest.skip("this server takes no prepared transactions")
    name = uuid.uuid4().hex
    with open_transaction(database_url) as connection:
        add_event(connection, 1)
        with connection.cursor() as cursor:
            cursor.execute(f"PREPARE TRANSACTION '{name}'")
    with store.outbox.lead():
        assert drain(store.outbox) == []
        sql(f"COMMIT PREPARED '{name}'")

        assert ids(drain(store.outbox)) == [1]


def test_an_event_written_inside_a_savepoint_is_read(store: Store, database_url: str, drain: Drain) -> None:
    with store.outbox.lead(), open_transaction(database_url) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SAVEPOINT s")
            add_event(connection, 1)
            cursor.execute("RELEASE s")
        assert drain(store.outbox) == []
        connection.commit()

        assert ids(drain(store.outbox)) == [1]


def test_a_reader_that_dies_within_a_big_window_leaves_the_rest_to_the_next(
    store: Store, other_store: Store, database_url: str, drain: Drain
) -> None:
    with open_transaction(database_url) as connection:
        for customer_id in range(1, 101):
            add_event(connection, customer_id)
        connection.commit()
    with store.outbox.lead():
        batch = store.outbox.read(30)
        store.outbox.done(batch)
        unfinished = store.outbox.read(30)
        with open_transaction(database_url) as connection:
            add_event(connection, 101)
            connection.commit()

    with other_store.outbox.lead():
        rest = drain(other_store.outbox, 30)

    assert ids(batch.events) == [*range(1, 31)]
    assert ids(unfinished.events) == [*range(31, 61)]
    assert ids(rest) == [*range(31, 102)]
    assert other_store.outbox.depth().waiting == 0


def test_depth_counts_the_rest_of_a_window_and_the_events_after_it(store: Store, database_url: str) -> None:
    with store.outbox.lead(), open_transaction(database_url) as connection:
        for customer_id in range(1, 11):
            add_event(connection, customer_id)
        connection.commit()
        store.outbox.done(store.outbox.read(4))
        add_event(connection, 11)
        connection.commit()

        assert store.outbox.depth().waiting == 7


@pytest.mark.parametrize("never_led", [False, True])
def test_a_database_restored_into_another_cluster_is_refused_until_it_is_adopted(
    never_led: bool,
    store: Store,
    other_store: Store,
    database_url: str,
    sql: Callable[..., Any],
    drain: Drain,
) -> None:
    """O14."""
    with open_transaction(database_url) as connection:
        add_event(connection, 1)
        connection.commit()
    with store.outbox.lead():
        drain(store.outbox)
    sql("UPDATE outbox_cursor SET system_identifier = '1', prev = '900000000:900000000:'")
    # It was stored by a cluster that has seen more transactions than this one.
    sql("UPDATE customer_event SET txid = '900000000'")
    if never_led:
        sql("DELETE FROM outbox_cursor")

    with pytest.raises(ConfigurationError, match="another cluster") as refused, other_store.outbox.lead():
        pass
    assert "relay --resync" in (refused.value.fix or "")

    other_store.outbox.adopt()
    with other_store.outbox.lead():
        assert ids(drain(other_store.outbox)) == [1]


def test_a_database_restored_into_its_own_cluster_still_knows_what_it_has_sent(
    store: Store, database_url: str, drain: Drain
) -> None:
    with open_transaction(database_url) as connection:
        add_event(connection, 1)
        connection.commit()
    with store.outbox.lead():
        drain(store.outbox)

    store.outbox.adopt()

    with store.outbox.lead():
        assert not drain(store.outbox)


def test_a_sequence_that_hands_out_numbers_in_blocks_is_refused(
    store: Store, sql: Callable[..., Any]
) -> None:
    """O14."""
    sql("ALTER SEQUENCE customer_event_seq_seq CACHE 20")

    with pytest.raises(ConfigurationError, match="CACHE 20") as refused, store.outbox.lead():
        pass

    assert refused.value.fix == "ALTER SEQUENCE customer_event_seq_seq CACHE 1"


def test_a_pooler_that_swaps_the_session_is_noticed(store: Store, database_url: str) -> None:
    """O7."""
    outbox: Outbox = store.outbox
    with outbox.lead():
        outbox.read(1)
        with closing(outbox._connection), closing(connect(database_url)) as another:  # type: ignore[attr-defined]
            outbox._connection = another  # type: ignore[attr-defined]

            with pytest.raises(ConfigurationError, match="shares sessions"):
                outbox.read(1)


@sizes("events", 20_000, 1_000_000)
def test_a_poll_of_an_idle_outbox_does_not_look_at_old_events(
    store: Store, database_url: str, sql: Callable[..., Any], drain: Drain, events: int
) -> None:
    """O4."""
    sql(
        "INSERT INTO customer_event (id, customer_id, version, op, created, payload) "
        f"SELECT gen_random_uuid(), n, 1, 'created', now(), '{{}}' FROM generate_series(1, {events}) n"
    )
    sql("ANALYZE customer_event")
    with store.outbox.lead(), open_transaction(database_url) as still_open:
        add_event(still_open, 5_000_000)
        drain(store.outbox)
        with open_transaction(database_url) as connection:
            add_event(connection, 4_000_000)
            connection.commit()
        cursor = store.outbox._cursor  # type: ignore[attr-defined]
        from custsvc.stores.postgres.outbox import _FIRST

        plan = sql(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
            + _FIRST.sql.replace("$1", f"'{cursor.prev}'::pg_snapshot")
            .replace("$2", "pg_current_snapshot()")
            .replace("$3", "5000")
        )[0][0]["Plan"]

    # A look-up for each transaction that is open anywhere on the server; all history is 300 or more.
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert pages < 150
    print(f"{events} events, {pages} pages, {plan['Actual Total Time']} ms")


def test_a_renewal_of_leases_waits_for_no_row_that_takes_a_step(store: Store, database_url: str) -> None:
    store.ledger.add([_mail("held"), _mail("moving")])
    claimed = store.ledger.claim(2, 60.0)
    assert len(claimed) == 2

    with open_transaction(database_url) as step, step.cursor() as cursor:
        cursor.execute("SELECT 1 FROM notification WHERE id = 'moving' FOR UPDATE")
        # The sessions of custsvc wait ten seconds for a lock and then fail.
        store.ledger.renew(claimed, 600.0)
        cursor.execute("SELECT id FROM notification WHERE lease_until > now() + interval '5 minutes'")
        assert cursor.fetchall() == [("held",)]


def test_no_step_of_a_mail_reads_the_whole_ledger(store: Store) -> None:
    """A plan is kept; while the ledger is empty, the cheapest plan would be to read all of it."""

    def read_as_a_whole() -> int:
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'notification'")
            (times,) = cursor.fetchone()
        return int(times)

    before = read_as_a_whole()
    for number in range(10):
        store.ledger.add([_mail(f"{number}")])
        (claimed,) = store.ledger.claim(1, 60.0)
        assert store.ledger.advance([claimed], []).handed_over == {claimed.id}
        assert store.ledger.advance([], [Settlement(claimed, "sent", "250 OK")]).settled == {claimed.id}

    assert read_as_a_whole() == before


def _mail(name: str) -> Notification:
    return Notification(name, f"event-{name}", None, 1, "changed", f"{name}@example.com", "s", "t", None)


def test_a_word_that_no_customer_has_is_looked_up_in_the_index(store: Store, customers: Customers) -> None:
    """Of such a word the planner knows nothing, so it hopes to meet it soon on its way through the list."""
    store.customers.save_many([customers.new(f"Ann {number}") for number in range(3000)])
    with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("VACUUM ANALYZE customer")

    def looked_up() -> int:
        with store._connections.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'customer_terms'")
            (times,) = cursor.fetchone()
        return int(times)

    before = looked_up()
    for sort in get_args(SortField):
        where = CustomerFilter(words=("nobody",))
        assert store.customers.find(CustomerQuery(1, where, sort)).count == 0
    assert looked_up() - before == len(get_args(SortField))


def test_the_planner_knows_the_values_of_many_customers_that_were_written_at_once(
    store: Store, sql: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def known() -> int:
        (count,) = sql("SELECT count(*) FROM pg_stats WHERE tablename = 'customer'")
        return int(count)

    monkeypatch.setattr(seed, "ANALYZE_FROM", 20)
    monkeypatch.setattr(load, "ANALYZE_FROM", 20)
    rows = b"name\n" + b"".join(b"Many %d\n" % number for number in range(20))
    writers: list[Callable[[], object]] = [
        lambda: seed.seed_customers(store.customers, 20, 1),
        lambda: load.load(
            store.customers, lambda: read(io.BytesIO(rows), "csv"), load.Options(), Caller("me")
        ),
    ]
    for write in writers:
        sql("DELETE FROM pg_statistic WHERE starelid = 'customer'::regclass")
        write()
        assert known() > 0


def test_a_word_that_the_planner_does_not_know_is_looked_up_however_many_customers_there_are(
    store: Store, sql: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sql("ALTER TABLE customer ALTER COLUMN terms SET STATISTICS 10")  # of 2,000 it would know every word
    seed.seed_customers(store.customers, 2000, 1)
    store.customers.analyze()
    CustomerService(store.customers).create(Fields("Zyzzyx Only"), Caller("t"))
    one, nobodys, many, everybodys = (
        CustomerFilter().asking(asked(text)) for text in ("zyzzyx", "zyzzyva", "smith", "example")
    )
    queries = store.customers
    assert isinstance(queries, PostgresQueries)
    # Half a percent of these customers are more than this, as of five millions they are more than the limit.
    for limit in ("_FEW", "_CHEAP", "_COUNTED"):
        monkeypatch.setattr(f"custsvc.stores.postgres.queries.{limit}", 3)
    assert queries.count(one, exact=False) > 3

    assert [queries._are_few(each) for each in (one, nobodys)] == [True, True]
    assert [queries._are_few(each) for each in (many, everybodys)] == [False, False]
    assert queries.count_if_cheap(one) == (1, True)
    assert queries.count_if_cheap(nobodys) == (0, True)
    assert not queries.count_if_cheap(many)[1]
    assert queries.find(CustomerQuery(filter=one, sort="name")).count == 1
