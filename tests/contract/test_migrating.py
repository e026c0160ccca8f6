"""Migrations beside live traffic: they block no session, and may be killed at any step."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest
from psycopg2 import errors

from custsvc.errors import ConfigurationError, Stopped, TemporaryError
from custsvc.ports.customers import CustomerFilter, CustomerQuery
from custsvc.ports.store import Store
from custsvc.ports.waiting import Waiting
from custsvc.runtime.loop import Stop
from custsvc.stores.postgres.steps import Step, migrations, read
from tests.waiting import until

from .conftest import Customers
from .migrating import another_migrates, as_of

pytestmark = pytest.mark.slow

DEADLINE = 120.0
postgres_only = pytest.mark.parametrize("backend", ["postgres"])


@pytest.fixture
def empty(opened: Callable[[str], Store], empty_database: str) -> Store:
    return opened(empty_database)


@contextmanager
def reading(url: str, table: str = "customer") -> Iterator[None]:
    """A session that has read the table in a transaction which stays open, as pg_dump does."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.set_session(isolation_level="REPEATABLE READ")
        cursor.execute(f"SELECT count(*) FROM {table}")
        yield


class InBackground:
    """A migration in a thread."""

    def __init__(self, work: Callable[[Waiting], Any], *, patience: float = DEADLINE) -> None:
        self.stop = Stop()
        self.told: list[str] = []
        self.result: Any = None
        self._waiting = Waiting(self.stop, self.told.append, patience)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[Waiting], Any]) -> None:
        try:
            self.result = work(self._waiting)
        except BaseException as exc:  # noqa: BLE001 - it is the result
            self.result = exc

    def waits_for(self, text: str) -> bool:
        return any(text in each for each in self.told)

    def ended(self) -> Any:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return self.result


# -- nobody waits


@postgres_only
@pytest.mark.parametrize(("table", "number"), [("customer", 2), ("customer_event", 2), ("notification", 3)])
def test_readers_do_not_queue_behind_a_migration_that_waits_for_a_table(
    empty: Store, empty_database: str, table: str, number: int
) -> None:
    as_of(empty, number)

    with closing(psycopg2.connect(empty_database)) as reader, reading(empty_database, table):
        reader.autocommit = True
        migration = InBackground(lambda waiting: empty.migrate(waiting=waiting))
        until("it waits for the reader", lambda: migration.waits_for("has a table in use"))
        with reader.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
            told = len(migration.told)
            while len(migration.told) < told + 3:
                # Raises where it waits for the lock for a second.
                cursor.execute(f"SELECT count(*) FROM {table}")

    applied = migration.ended()
    assert applied[-1] == "list_indexes"
    assert empty.pending_migrations() == []


@postgres_only
def test_an_index_of_lists_waits_for_an_open_transaction_and_neither_readers_nor_writers_for_it(
    empty: Store, opened: Callable[[str], Store], empty_database: str
) -> None:
    empty.migrate(lists=False)
    customers = Customers(opened(empty_database))
    customers.add("Ada")

    with reading(empty_database):
        migration = InBackground(empty.index_lists)
        until("it waits for the index", lambda: migration.waits_for("is being made"))
        with closing(psycopg2.connect(empty_database)) as other, other.cursor() as cursor:
            cursor.execute("SET lock_timeout = '1s'")
            cursor.execute("UPDATE customer SET name = name")
            other.commit()
        customers.add("Grace")

    assert migration.ended() is True
    found = customers.store.customers.find(CustomerQuery(filter=CustomerFilter(words=("grace",))))
    assert found.count == 1


# -- it can be stopped, and has an end


@postgres_only
@pytest.mark.parametrize("lists", [False, True])
def test_a_migration_that_waits_for_a_table_stops_when_it_is_asked_to(
    empty: Store, empty_database: str, lists: bool
) -> None:
    as_of(empty, 9999 if lists else 2)
    if lists:
        Customers(empty).add("Ada")

    with reading(empty_database):
        migration = InBackground(lambda waiting: empty.migrate(waiting=waiting))
        until("it waits", lambda: migration.waits_for("is being made" if lists else "has a table in use"))
        migration.stop.ask()
        assert isinstance(migration.ended(), Stopped)

    assert empty.migrate()
    assert empty.migrate() == []


@postgres_only
def test_a_migration_that_may_not_wait_names_the_session_that_blocks_it_and_how_to_end_it(
    empty: Store, empty_database: str
) -> None:
    as_of(empty, 2)

    with reading(empty_database), pytest.raises(TemporaryError, match="has a table in use") as caught:
        empty.migrate(waiting=Waiting(patience=0.5))

    assert "pg_terminate_backend" in (caught.value.fix or "")
    assert empty.migrate()


def test_one_process_waits_for_another_that_migrates_and_not_for_ever(
    empty: Store, opened: Callable[[str], Store], empty_database: str
) -> None:
    other = opened(empty_database)

    with another_migrates(other):
        with pytest.raises(TemporaryError, match="another process migrates"):
            empty.migrate(waiting=Waiting(patience=0.5))
        stopped = InBackground(lambda waiting: empty.migrate(waiting=waiting))
        patient = InBackground(lambda waiting: empty.migrate(waiting=waiting))
        until(
            "both wait", lambda: stopped.waits_for("another process") and patient.waits_for("another process")
        )
        stopped.stop.ask()
        assert isinstance(stopped.ended(), Stopped)

    assert patient.ended()
    assert other.migrate() == []


# -- it may be killed: see also integration/test_migrate_killed.py


@postgres_only
def test_an_index_that_a_killed_run_left_invalid_is_made_again(empty: Store, empty_database: str) -> None:
    empty.migrate(lists=False)
    Customers(empty).add("Ada")
    with reading(empty_database), closing(psycopg2.connect(empty_database)) as killed:
        killed.autocommit = True
        with killed.cursor() as cursor, pytest.raises(errors.QueryCanceled):
            cursor.execute("SET statement_timeout = '500ms'")
            cursor.execute("CREATE INDEX CONCURRENTLY customer_terms ON customer (id)")
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert rows(empty_database, invalid) == [(1,)]

    assert empty.migrate() == ["list_indexes"]

    assert rows(empty_database, invalid) == [(0,)]
    ((definition,),) = rows(
        empty_database, "SELECT indexdef FROM pg_indexes WHERE indexname = 'customer_terms'"
    )
    assert "gin (terms)" in definition


def rows(url: str, query: str) -> list[Any]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


# -- who may do what


@pytest.fixture
def limited(backend: str, empty_database: str) -> Iterator[str]:
    """The address of the empty database for a user who may read and write rows and nothing else."""
    user = f"limited_{uuid.uuid4().hex[:12]}"
    parts = urlsplit(empty_database)
    with closing(psycopg2.connect(empty_database)) as owner, owner.cursor() as cursor:
        owner.autocommit = True
        cursor.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'limited'")
        cursor.execute(f"GRANT USAGE ON SCHEMA public TO {user}")
        for what, kind in (("SELECT, INSERT, UPDATE, DELETE", "TABLES"), ("USAGE", "SEQUENCES")):
            cursor.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {what} ON {kind} TO {user}")
        yield urlunsplit(parts._replace(netloc=f"{user}:limited@{parts.hostname}:{parts.port}"))
        cursor.execute(f"DROP OWNED BY {user}")
        cursor.execute(f"DROP ROLE {user}")


@postgres_only
def test_a_user_who_may_only_write_rows_works_on_a_schema_that_is_up_to_date(
    empty: Store, opened: Callable[[str], Store], limited: str
) -> None:
    as_of(empty, 2)
    with pytest.raises(ConfigurationError, match="may not change it") as caught:
        opened(limited).migrate()
    assert "custsvc migrate" in (caught.value.fix or "")
    empty.migrate()

    store = opened(limited)
    assert store.migrate() == []
    store.claim_role("source")
    Customers(store).add("Ada")
    assert store.index_lists() is False
    assert store.outbox.depth().waiting == 1


# -- the files


def test_a_file_is_read_as_steps() -> None:
    migration = read(
        7,
        "0007_x.sql",
        """-- Why.
-- @compatible
ALTER TABLE a ADD COLUMN b text;
-- @concurrently and why
CREATE INDEX CONCURRENTLY IF NOT EXISTS c ON a (b); -- d; e
CREATE INDEX CONCURRENTLY IF NOT EXISTS f ON a (b);
-- @fill
UPDATE a SET b = '' WHERE b IS NULL;
-- @transaction
ALTER TABLE a ALTER COLUMN b SET NOT NULL;
""",
    )

    assert migration.compatible
    kinds = [step.kind for step in migration.steps]
    assert kinds == ["transaction", "concurrently", "fill", "transaction"]
    assert [len(step.statements()) for step in migration.steps] == [1, 2, 1, 1]


def test_a_misspelt_mark_in_a_migration_is_refused() -> None:
    with pytest.raises(ValueError, match="concurently"):
        read(7, "0007_x.sql", "-- @concurently\nCREATE INDEX …")


def _steps() -> list[Any]:
    return [
        pytest.param(step, id=f"{migration.number}-{number}")
        for migration in migrations()
        for number, step in enumerate(migration.steps)
    ]


@pytest.mark.parametrize("step", _steps())
def test_no_step_holds_a_lock_on_a_table_that_is_there_for_as_long_as_it_is_big(step: Step) -> None:
    """The table's rows are not read or written in a transaction; what is new is empty."""
    statements = [" ".join(each.split()) for each in step.statements()]
    made = {each.split()[2] for each in statements if each.startswith("CREATE TABLE")}
    for each in statements:
        words = each.split()
        if step.kind == "concurrently":
            assert each.startswith(
                ("CREATE INDEX CONCURRENTLY IF NOT EXISTS", "DROP INDEX CONCURRENTLY IF EXISTS")
            )
        elif step.kind == "transaction" and each.startswith("CREATE INDEX"):
            assert words[words.index("ON") + 1] in made
        elif step.kind == "transaction":
            # END is that of a function's body, which holds a semicolon.
            assert words[0] in ("CREATE", "ALTER", "DROP", "END")
            if "CHECK" in words and words[0] == "ALTER":
                assert each.endswith("NOT VALID")


@pytest.mark.parametrize("backend", ["mongo"])
@pytest.mark.parametrize("work", ["migrate", "index_lists", "refill"])
def test_schema_work_may_take_longer_than_a_request(
    empty: Store, opened: Callable[[str], Store], empty_database: str, work: str
) -> None:
    """As the making of an index of many customers, here held up by a transaction."""
    empty.migrate()
    ada = Customers(empty).add("Ada").id
    hurried = opened(f"{empty_database}{'&' if '?' in empty_database else '?'}timeoutMS=2000")
    database: Any = empty._connection.database  # type: ignore[attr-defined]
    database["custsvc_migration"].delete_one({"_id": 10})
    for index in ("outbox.pending_1", "name_key_1__id_1"):
        database["customer"].drop_index(index)
    database["customer"].update_one({"_id": ada}, {"$unset": {"keyed": 1}})

    with database.client.start_session() as session, session.start_transaction():
        database["customer"].update_one({"_id": ada}, {"$set": {"x": 1}}, session=session)
        running = InBackground(lambda waiting: getattr(hurried, work)(waiting=waiting))
        time.sleep(3)
        session.abort_transaction()

    assert running.ended() in (["0010_carried", "list_indexes"], True, 1)
