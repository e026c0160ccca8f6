"""Locks that end with the connection that holds them, behind a pooler too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from .connection import Connection, translated

# A machine that vanished must not hold the lock for hours.
_BEGIN: Final = """
    BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL tcp_keepalives_idle = {idle};
    SET LOCAL tcp_keepalives_interval = {interval}; SET LOCAL tcp_keepalives_count = {count}
"""
_CALM: Final = _BEGIN.format(idle=30, interval=5, count=3)
# Within the promised take-over time.
_SOON: Final = _BEGIN.format(idle=2, interval=1, count=2)


def try_lock(connection: Connection, key: str, values: Sequence[Any] = (), *, soon: bool = False) -> bool:
    """Take the advisory lock of `key`, SQL with placeholders for `values`; False at once if it is held.

    The lock belongs to a transaction in which `connection` then stays; it has no snapshot, so nothing waits
    for it. With `soon` a machine that vanished loses the lock within seconds.
    """
    with translated(connection), connection.cursor() as cursor:
        cursor.execute(_SOON if soon else _CALM)
        cursor.execute(f"SELECT pg_try_advisory_xact_lock({key})", values)
        (ours,) = cursor.fetchone() or (False,)
        if not ours:
            cursor.execute("ROLLBACK")
    return bool(ours)
