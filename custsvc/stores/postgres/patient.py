"""Changes the schema beside live traffic: no other statement waits for it for more than a moment.

A statement that waits for a table lock blocks all later ones, readers too. So a change waits for a fifth of a
second, gives up its place in the queue, and tries again. Indexes are made without such a lock; an index that
a killed run left invalid is distinguished from one that is still being made.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final, TypeVar

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.sql import SQL, Identifier

from ...errors import ConfigurationError, Stopped, TemporaryError
from ...ports.waiting import Waiting
from .connection import Connection, Connections
from .locks import giving_back, try_lock
from .translate import translated

T = TypeVar("T")

_NAME: Final = "custsvc migrate"
_TIMEOUTS: Final = "SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = 0"
_GAP: Final = 0.3
_LONGEST_GAP: Final = 3.0
# One process at a time. This is not the lock of earlier releases, which wait for theirs within a statement:
# an index made concurrently would wait for that statement's snapshot.
_ALONE: Final = "1668510580, hashtext('migrate ' || coalesce(%s, current_schema(), ''))"
_IS_HELD: Final = "another process migrates this database"
# The sessions that hold a lock on one of our tables, the longest transaction first.
_HOLDERS: Final = """
    SELECT l.pid, a.application_name, extract(epoch FROM clock_timestamp() - a.xact_start)::float8
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_stat_activity a USING (pid)
    WHERE l.granted AND l.pid <> pg_backend_pid() AND n.nspname = current_schema()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY 1, 2, 3 ORDER BY 3 DESC NULLS LAST LIMIT 1
"""
_INDEX: Final = """
    SELECT i.indisvalid,
        EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relname = %s
"""
_CREATE: Final = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS\s+(?P<name>\w+)\s+ON\s+(?P<table>\w+)",
    re.IGNORECASE,
)
_CONCURRENTLY: Final = re.compile(r"\sCONCURRENTLY", re.IGNORECASE)


class Migrator:
    """A connection that changes the schema, while no other process does."""

    def __init__(self, connection: Connection, waiting: Waiting) -> None:
        self._connection = connection
        self._waiting = waiting

    def transaction(self, work: Callable[[Cursor], T]) -> T:
        """Run `work` in a transaction; repeat while a lock is not available.

        Raises TemporaryError, naming the lock's holder, when patience ends; Stopped when stop is asked.
        """
        return self._patiently(lambda: self._once(work))

    def fill(self, some: Callable[[Cursor], int]) -> None:
        """Fill `some` rows per transaction, repeatedly, until none is left."""
        while self.transaction(some) > 0:
            self._waiting.check()

    def concurrently(self, statement: str) -> None:
        """Run a statement outside a transaction; repeat CREATE INDEX until the index is valid."""
        if index := _CREATE.match(statement):
            self._patiently(lambda: self._index(index["name"], index["table"], statement))
        else:
            self._patiently(lambda: self._alone(statement))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with translated(self._connection), self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall()

    def _once(self, work: Callable[[Cursor], T]) -> T:
        with self._interruptible(), translated(self._connection), self._connection.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                cursor.execute(_TIMEOUTS)
                result = work(cursor)
                cursor.execute("COMMIT")
            except BaseException:
                if not self._connection.closed:
                    cursor.execute("ROLLBACK")
                raise
        return result

    def _alone(self, statement: str) -> None:
        if "search_path" in (self._connection.settings or {}):
            self._in_transaction(statement)
            return
        # This must be the first statement of its transaction.
        alone = self._connection.cursor(cursor_factory=Cursor)
        with self._interruptible(), translated(self._connection), alone as cursor:
            if not self._connection.is_pooled:
                # It waits for open transactions as long as they last, and blocks no other session meanwhile.
                cursor.execute("SET lock_timeout = 0; SET statement_timeout = 0")
            cursor.execute(statement)

    def _in_transaction(self, statement: str) -> None:
        """The same behind a pooler, where search_path can only be set within a transaction.

        Raises ConfigurationError for an index on a non-empty table: writers would wait until it is made.
        """
        if _CREATE.match(statement):
            raise ConfigurationError(
                f"behind a pooler this cannot be said for another schema: {' '.join(statement.split())}",
                fix="custsvc migrate --backend postgres, once, with PostgreSQL's own address",
            )
        self._once(lambda cursor: cursor.execute(_CONCURRENTLY.sub("", statement, count=1)))

    def _index(self, name: str, table: str, statement: str) -> None:
        while True:
            found = self.rows(_INDEX, name)
            if found and found[0][0]:
                return
            self._waiting.tell(f"the index {name} is being made")
            if found and found[0][1]:
                self._waiting.pause(_GAP, f"the index {name} is being made already")
            elif found:
                self._alone(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            elif self._is_empty(table):
                self._once(lambda cursor: cursor.execute(_CONCURRENTLY.sub("", statement, count=1)))
            else:
                self._alone(statement)

    def _is_empty(self, table: str) -> bool:
        # A new database has no other users, so there is no need to wait for their transactions.
        query = SQL("SELECT NOT EXISTS (SELECT FROM {})").format(Identifier(table))
        with translated(self._connection), self._connection.cursor() as cursor:
            cursor.execute(query)
            (is_empty,) = cursor.fetchone() or (False,)
        return bool(is_empty)

    def _patiently(self, work: Callable[[], T]) -> T:
        deadline, gap = time.monotonic() + self._waiting.patience, _GAP
        while True:
            self._waiting.check()
            try:
                return work()
            except TemporaryError as exc:
                if not isinstance(exc.__cause__, errors.LockNotAvailable | errors.DeadlockDetected):
                    raise
                why, fix = self._holder()
                if time.monotonic() > deadline:
                    raise TemporaryError(
                        f"the migration waited too long: {why}", dependency="postgres", fix=fix
                    ) from exc
            self._waiting.pause(gap, why)
            gap = min(gap * 1.5, _LONGEST_GAP)

    def _holder(self) -> tuple[str, str]:
        """Why a lock is not available, and the fix."""
        for pid, program, age in self.rows(_HOLDERS):
            since = f" for {age:.0f} s" if age is not None else ""
            why = f"process {pid} of the server ({program or 'unknown'}) has a table in use{since}"
            return why, f"wait until it is done, or end it: SELECT pg_terminate_backend({pid})"
        return "a table is in use", "run it again"

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Cancel the server's statement within the block once stop is asked; then raise Stopped."""
        if not self._waiting.interruptible:
            yield
            return
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.2):
                if self._waiting.stop.asked():
                    self._connection.cancel()

        watching = threading.Thread(target=watch, name="migration-stop", daemon=True)
        watching.start()
        try:
            yield
        except (TemporaryError, psycopg2.Error) as exc:
            self._stopped(exc)
            raise
        finally:
            over.set()
            watching.join()

    def _stopped(self, exc: BaseException) -> None:
        try:
            self._waiting.check()
        except Stopped as stopped:
            raise stopped from exc


@contextmanager
def migrator(connections: Connections, waiting: Waiting) -> Iterator[Migrator]:
    """A Migrator, once no other process has one. Raises TemporaryError when patience ends."""
    with giving_back(connections.another(_NAME)) as lock, closing(connections.another(_NAME)) as connection:
        _wait_for_turn(lock, connections.schema, waiting)
        yield Migrator(connection, waiting)


def _wait_for_turn(lock: Connection, schema: str | None, waiting: Waiting) -> None:
    deadline = time.monotonic() + waiting.patience
    while not try_lock(lock, _ALONE, (schema,)):
        if time.monotonic() > deadline:
            raise TemporaryError(
                f"{_IS_HELD}, and has for {waiting.patience:.0f} s",
                dependency="postgres",
                fix="wait for it, then run it again",
            )
        waiting.pause(_GAP, _IS_HELD)
