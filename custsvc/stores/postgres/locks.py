"""Locks that end with the connection that holds them, behind a pooler too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any, Final

import psycopg2

from .connection import Connection
from .deadline import deadlines
from .translate import translated

# A server that hangs is not waited for: it lets go of the locks when it sees that the connection is closed.
_GIVE_BACK_WITHIN: Final = 2.0

# A machine that vanished must not hold the lock for hours.
_BEGIN: Final = """
    BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL tcp_keepalives_idle = {idle};
    SET LOCAL tcp_keepalives_interval = {interval}; SET LOCAL tcp_keepalives_count = {count}
"""
_CALM: Final = _BEGIN.format(idle=30, interval=5, count=3)
# Within the promised take-over time.
_SOON: Final = _BEGIN.format(idle=2, interval=1, count=2)


def try_lock(
    connection: Connection, key: str, values: Sequence[Any] = (), *, soon: bool = False, shared: bool = False
) -> bool:
    """Take the advisory lock of `key`, SQL with placeholders for `values`; False at once if it is held.

    With `shared`, others may share it. The lock belongs to a transaction in which `connection` then stays; it
    has no snapshot, so nothing waits for it. With `soon` a machine that vanished loses it within seconds.
    """
    with translated(connection), connection.cursor() as cursor:
        cursor.execute(_SOON if soon else _CALM)
        kind = "_shared" if shared else ""
        cursor.execute(f"SELECT pg_try_advisory_xact_lock{kind}({key})", values)
        (ours,) = cursor.fetchone() or (False,)
        if not ours:
            cursor.execute("ROLLBACK")
    return bool(ours)


@contextmanager
def giving_back(connection: Connection) -> Iterator[Connection]:
    """Close `connection` at the end, and give back its locks before.

    The server ends a session some time after its client has closed it. Until then the next
    session that asks for the lock would be refused.
    """
    with closing(connection):
        try:
            yield connection
        finally:
            # In a transaction through a pooler the session is not ours alone, and its lock ends with it.
            give_back = "ROLLBACK" if connection.is_pooled else "ROLLBACK; SELECT pg_advisory_unlock_all()"
            with (
                suppress(psycopg2.Error),
                deadlines.within(connection, _GIVE_BACK_WITHIN),
                connection.cursor() as cursor,
            ):
                cursor.execute(give_back)
