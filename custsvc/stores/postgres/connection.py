"""Connections to PostgreSQL: one per lane, with prepared statements."""

from __future__ import annotations

import logging
import re
import select
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg2
from psycopg2 import errors, extensions

from ...errors import TemporaryError, Unusable
from ...runtime.lane import here
from ...runtime.printable import host_port
from . import encoding, pooler, refusals
from .deadline import deadlines
from .translate import ConnectionLost, one_line, translated

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5
# No statement may block a worker for longer; bulk work raises this for its own transaction.
STATEMENT_TIMEOUT = 30
# Longer, since the server should be the one to end it.
ANSWER_TIMEOUT = STATEMENT_TIMEOUT + 5.0

# Of a session.
_SETTINGS: Final = {
    "timezone": "UTC",
    # A stricter default of the database or role would fail the second of two writers of a row.
    pooler.ISOLATION: "read committed",
    "statement_timeout": f"{STATEMENT_TIMEOUT}s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
    # With fewer digits than a number has, a clock would be wrong by years.
    "extra_float_digits": "1",
}
# Of the connection; a dead network is noticed within seconds, idle or not.
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

_START: Final = "start PostgreSQL there, or correct CUSTSVC_POSTGRES_URL"
_FULL: Final = re.compile(r"too many (clients|connections)|connection slots are reserved|no more connections")
_MORE: Final = (
    "wait, or raise max_connections, or the CONNECTION LIMIT of the user or database; each process of serve "
    "takes about CUSTSVC_THREADS connections"
)
# Addresses at which a pooler was detected and logged.
_pooled: Final[set[str]] = set()
_BY_INDEX: Final = "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; "


@dataclass(frozen=True)
class Statement:
    """A statement prepared once per connection: `$1` … in `sql`, of these types.

    `by_index`: planned once, whatever its values, and never to read a whole table: that plan may be made when
    the table is empty.
    """

    name: str
    types: str
    sql: str
    by_index: bool = False

    @cached_property
    def execute(self) -> str:
        """What runs it once it is prepared."""
        count = self.types.count(",") + 1
        return f"{self.planned}EXECUTE {self.name} ({', '.join(['%s'] * count)})"

    @property
    def planned(self) -> str:
        """What goes before it in the same round trip, and so in its transaction."""
        return _BY_INDEX if self.by_index else ""


class Connection(extensions.connection):
    """A connection that remembers what it has prepared; behind a pooler it prepares nothing."""

    prepared: set[str]
    # Tells without a round trip whether anything has arrived.
    arrived: select.poll
    # Settings that each transaction brings along, behind a pooler; and the statement that does it.
    settings: dict[str, str] | None = None
    brings = b""

    @property
    def is_pooled(self) -> bool:
        """Whether the next transaction may run in another session."""
        return self.settings is not None

    def bring(self, settings: dict[str, str]) -> None:
        """Treat the connection as pooled: each transaction begins with these settings."""
        self.settings = (self.settings or {}) | settings
        self.brings = pooler.bringing(self.settings).as_string(self).encode()
        self.cursor_factory = pooler.PooledCursor

    def run(self, cursor: extensions.cursor, statement: Statement, params: Sequence[Any]) -> None:
        """Execute a prepared statement, preparing it in the same round trip where it is new here."""
        if self.is_pooled:
            values = {str(number): value for number, value in enumerate(params, 1)}
            cursor.execute(statement.planned + pooler.as_text(statement.sql, statement.types), values)
            return
        if statement.name not in self.prepared:
            prepare = f"PREPARE {statement.name} ({statement.types}) AS {statement.sql};"
            try:
                cursor.execute(prepare + statement.execute, params)
                self.prepared.add(statement.name)
                return
            except errors.DuplicatePreparedStatement:
                # The first execution failed, as for a taken key; the prepared statement remains.
                self.prepared.add(statement.name)
        cursor.execute(statement.execute, params)


def connect(
    url: str, name: str = "custsvc", *, schema: str | None = None, pooled: bool = False
) -> Connection:
    """A new connection in autocommit. Raises TemporaryError or ConfigurationError with the fix.

    Settings in the address take precedence, except for `schema`. A pooler is detected; `pooled` says that
    there is one which cannot be detected.
    """
    try:
        options = _options(url, schema)
        try:
            connection = _open(url, name, options)
        except psycopg2.Error as exc:
            if not pooler.refuses_options(exc):
                raise
            connection, pooled = _open(url, name, ""), True
        if not pooled and _is_direct(connection):
            return connection
        return _shared(connection, url, name, pooler.settings_of(options))
    except psycopg2.Error as exc:
        raise _not_connected(url, exc) from exc


def _open(url: str, name: str, options: str) -> Connection:
    given = extensions.parse_dsn(url)
    # Of several hosts use the one that accepts writes: after a failover that is another one.
    writable = {"target_session_attrs": "read-write"} if "," in given.get("host", "") else {}
    defaults = {name: value for name, value in (_DEFAULTS | writable).items() if name not in given}
    defaults |= encoding.OURS
    try:
        connection: Connection = psycopg2.connect(
            url, connection_factory=Connection, fallback_application_name=name, options=options, **defaults
        )
    except UnicodeDecodeError as exc:  # the driver expects the server's message to be UTF-8
        raise psycopg2.OperationalError(refusals.text_of(exc.object)) from exc
    connection.autocommit = True
    connection.prepared = set()
    connection.arrived = select.poll()
    connection.arrived.register(connection.fileno(), select.POLLIN)
    encoding.check(connection, address(url))
    return connection


def _options(url: str, schema: str | None) -> str:
    ours = ["-c {}={}".format(name, value.replace(" ", r"\ ")) for name, value in _SETTINGS.items()]
    options = [*ours, extensions.parse_dsn(url).get("options", "")]
    if schema:
        options.append(f"-c search_path={schema}")
    return " ".join(options).rstrip()


def _is_direct(connection: Connection) -> bool:
    """Whether the server process is the one that the connection reported at connect."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone() == (connection.get_backend_pid(),)


def _shared(connection: Connection, url: str, name: str, settings: dict[str, str]) -> Connection:
    """A connection through a pooler. Raises ConfigurationError if that pools by statement."""
    connection.bring(settings)
    if not _takes_transactions(connection):
        # It closes the connection without an error; so does one that is being stopped, but hardly twice.
        connection = _open(url, name, "")
        connection.bring(settings)
        if not _takes_transactions(connection):
            raise pooler.no_transactions(address(url))
    level = logging.DEBUG if address(url) in _pooled else logging.INFO
    _pooled.add(address(url))
    logger.log(
        level,
        "PostgreSQL at %s is behind a pooler: nothing is prepared, each transaction brings its settings",
        address(url),
        extra={"action": "pooled"},
    )
    return connection


def _has_ended(connection: Connection) -> bool:
    """Whether the server has ended this idle connection, as at a restart or by `idle_session_timeout`.

    Asks nothing of the server, and closes the connection if so: nothing was sent on it that could be lost.
    """
    if connection.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE:
        return False
    try:
        # Its last words and then the end, or only notices.
        while connection.arrived.poll(0):
            connection.poll()
    except psycopg2.Error:
        connection.close()
    return bool(connection.closed)


def _takes_transactions(connection: Connection) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        try:
            cursor.execute("BEGIN")
            cursor.execute("ROLLBACK")
        except psycopg2.OperationalError:
            if connection.closed:
                return False
            raise
    return True


def _not_connected(url: str, exc: psycopg2.Error) -> TemporaryError | Unusable:
    reason = one_line(exc)
    message = f"cannot connect to PostgreSQL at {address(url)} ({reason})"
    if isinstance(exc, psycopg2.ProgrammingError) or refusals.is_refusal(reason):
        return Unusable(
            message,
            fix="correct CUSTSVC_POSTGRES_URL (postgresql://user:password@host:port/database)",
            dependency="postgres",
        )
    is_full = _FULL.search(reason)
    return TemporaryError(message, dependency="postgres", fix=_MORE if is_full else _START)


def address(url: str) -> str:
    """`host:port/database` of a URL or of libpq's `name=value` pairs, without the password."""
    if "://" not in url:
        pairs = dict(re.findall(r"(host|hostaddr|port|dbname)\s*+=\s*+([^\s'=]++)", url))
        host = pairs.get("host") or pairs.get("hostaddr") or "localhost"
        return f"{host}:{pairs.get('port', 5432)}" + (f"/{pairs['dbname']}" if "dbname" in pairs else "")
    try:
        parts = urlsplit(url)
        return host_port(parts.hostname or "localhost", parts.port or 5432) + parts.path
    except ValueError:
        return "the given URL"


def temporary(cursor: extensions.cursor, table: str, like: str) -> None:
    """Make a table for the rows of this transaction."""
    # Made once per session; a shared session is left unchanged.
    end = "DROP" if cursor.connection.is_pooled else "DELETE ROWS"  # type: ignore[attr-defined]
    cursor.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS {table} ({like}) ON COMMIT {end}")


class Connections:
    """One connection per lane, or per thread outside lanes; opened when needed, and again after a loss."""

    def __init__(self, url: str, schema: str | None = None, *, answer: float = ANSWER_TIMEOUT) -> None:
        """`answer`: the seconds to wait for the answer to a prepared statement or a query."""
        self._answer = answer
        self.url = url
        self.schema = schema
        self._local = threading.local()
        self._of_lane: dict[int, Connection] = {}
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        # A pooler changes sessions between transactions, although a connection does not show it.
        self._swapped = False

    def get(self) -> Connection:
        lane = here.lane
        mine = getattr(self._local, "connection", None) if lane is None else self._of_lane.get(lane)
        connection: Connection | None = mine
        if connection is None or connection.closed or (connection.arrived.poll(0) and _has_ended(connection)):
            connection = connect(self.url, schema=self.schema, pooled=self._swapped)
            if lane is None:
                self._local.connection = connection
            else:
                self._of_lane[lane] = connection
            self._all.add(connection)
        return connection

    def another(self, name: str) -> Connection:
        """A new connection that belongs to no thread; the caller closes it."""
        return connect(self.url, name, schema=self.schema, pooled=self._swapped)

    @contextmanager
    def cursor(self) -> Iterator[extensions.cursor]:
        """A cursor outside a transaction: each statement commits by itself."""
        connection = self.get()
        with translated(connection), connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def transaction(self) -> Iterator[extensions.cursor]:
        """A cursor inside one transaction, committed at the end of the block, rolled back on an error."""
        connection = self.get()
        with translated(connection), connection.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if not connection.closed:
                    cursor.execute("ROLLBACK")
                raise

    def run(self, statement: Statement, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a prepared statement; an empty list for one that returns none."""
        connection = self.get()
        with (
            translated(connection),
            deadlines.within(connection, self._answer),
            connection.cursor() as cursor,
        ):
            try:
                connection.run(cursor, statement, params)
            except errors.InvalidSqlStatementName:
                self._swapped = True
                raise
            return cursor.fetchall() if cursor.description else []

    def read(self, statement: Statement, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """`run` for a statement that only reads: after a lost connection it reconnects and reads again."""
        try:
            return self.run(statement, params)
        except ConnectionLost:
            return self.run(statement, params)

    def query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement that only reads, planned for these values; repeated after a loss."""
        try:
            return self._query(sql, values)
        except ConnectionLost:
            return self._query(sql, values)

    def _query(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        connection = self.get()
        with (
            translated(connection),
            deadlines.within(connection, self._answer),
            connection.cursor() as cursor,
        ):
            cursor.execute(sql, values)
            return cursor.fetchall()

    def close(self) -> None:
        for connection in list(self._all):
            connection.close()
