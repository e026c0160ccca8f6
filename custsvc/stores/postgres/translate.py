"""The driver's errors as ours: temporary, refused data, or what an operator must repair."""

from __future__ import annotations

import re
from typing import Final

import psycopg2
from psycopg2 import errors, extensions

from ...errors import CustsvcError, DataRefused, TemporaryError, Unusable
from ..common.errors import foreign

# The SQLSTATE classes of temporary errors: connections, conflicts, resources, locks, operator intervention,
# the server's own system; and a server that is read-only or aborted a transaction.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING = ("08", "25006", "25P", "40", "53", "55", "57", "58")
# The connection works, but every statement on it will fail: a new one may be better.
_WRONG = (errors.InvalidSqlStatementName, errors.CannotConnectNow)
_WRITABLE: Final = (
    "wait while a stand-by takes over; else let CUSTSVC_POSTGRES_URL name the primary, and turn "
    "default_transaction_read_only off for its user and database"
)
_NO_SCHEMA = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)
_NO_RIGHT = (errors.InsufficientPrivilege, errors.InvalidSchemaName)
_OF_DATA = (psycopg2.DataError, psycopg2.ProgrammingError, psycopg2.NotSupportedError)


class ConnectionLost(TemporaryError):
    """The connection to PostgreSQL broke; whether the statement took effect is not known."""


class translated:  # noqa: N801 - used like a function
    """Turn the driver's errors into ours. IntegrityError passes: only the caller knows what it means.

    A class, because each statement runs in it: a generator takes four times as long.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: extensions.connection | None) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: object) -> None:
        if exc is not None and (ours := _translation(exc, self._connection)) is not None:
            raise ours from exc


def _translation(exc: BaseException, connection: extensions.connection | None) -> CustsvcError | None:
    """Our error for an error of the driver; None for any other one."""
    if isinstance(exc, ValueError):
        # The driver refuses these values before it sends them, with Python's own errors.
        if isinstance(exc, UnicodeError) or "NUL (0x00)" in str(exc) or "digits" in str(exc):
            return DataRefused("PostgreSQL cannot hold this data: NUL, or half a character")
        return None
    if isinstance(exc, psycopg2.IntegrityError) or not isinstance(exc, psycopg2.Error):
        return None
    if isinstance(exc, errors.ReadOnlySqlTransaction):
        if connection is not None:
            connection.close()
        return TemporaryError(f"PostgreSQL failed: {one_line(exc)}", dependency="postgres", fix=_WRITABLE)
    if isinstance(exc, errors.DuplicateTable):
        return foreign("postgres", one_line(exc))
    if isinstance(exc, _NO_SCHEMA):
        return Unusable(
            f"the database has no custsvc schema, or an older one ({one_line(exc)})",
            fix="custsvc migrate",
            dependency="postgres",
        )
    if isinstance(exc, _NO_RIGHT):
        return Unusable(
            f"PostgreSQL refuses: {one_line(exc)}",
            fix="grant the user of CUSTSVC_POSTGRES_URL what its role needs: custsvc doctor names it",
            dependency="postgres",
        )
    if connection is not None and isinstance(exc, _WRONG):
        connection.close()
    return _failed(exc, lost=connection is None or bool(connection.closed))


def _failed(exc: psycopg2.Error, *, lost: bool) -> TemporaryError | DataRefused:
    """Our error for any other error: its SQLSTATE shows whether it is temporary."""
    if lost:
        return ConnectionLost(f"PostgreSQL failed: {one_line(exc)}", dependency="postgres")
    # An error without SQLSTATE is the driver's own: about the connection, or the values to send.
    passing = exc.pgcode.startswith(_PASSING) if exc.pgcode else not isinstance(exc, _OF_DATA)
    if passing:
        return TemporaryError(f"PostgreSQL failed: {one_line(exc)}", dependency="postgres")
    return refused(exc)


def refused(exc: psycopg2.Error) -> DataRefused:
    """The error for data that this database refuses. It is logged, so it contains no values."""
    reason = exc.diag.message_primary or type(exc).__name__
    return DataRefused(f"PostgreSQL refuses this data: {reason}")


def one_line(exc: BaseException) -> str:
    """The message of an error of the driver, without line breaks and the address."""
    text = " ".join(str(exc).split())
    return re.sub(r'^connection to server at "[^"]*".* failed: ', "", text) or type(exc).__name__
