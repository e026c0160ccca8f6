"""The connection to PostgreSQL, and the growth of its history, for `doctor`."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import Final

from ...ports.store import Growth, Link
from ...runtime.links import elsewhere
from .connection import Connections

# The rate of changes is measured over this many of the last ones.
_LATE: Final = 10_000
_SIZE: Final = """
    SELECT pg_total_relation_size('customer_event'), greatest(reltuples, 0)::bigint
    FROM pg_class WHERE oid = 'customer_event'::regclass
"""
_RATE: Final = """
    WITH last AS (SELECT seq, created FROM customer_event ORDER BY seq DESC LIMIT 1),
        early AS (
            SELECT seq, created FROM customer_event WHERE seq >= (SELECT seq FROM last) - %s
            ORDER BY seq LIMIT 1
        )
    SELECT last.seq - early.seq, extract(epoch FROM now() - early.created)::float8 FROM last, early
"""
_AGE: Final = """
    SELECT extract(epoch FROM now() - created)::float8 FROM customer_event ORDER BY seq LIMIT 1
"""
_FOLDER: Final = "SELECT setting FROM pg_settings WHERE name = 'data_directory'"


def link(connections: Connections) -> Link:
    """How we are connected."""
    info = connections.get().info
    return Link((info.host or "",), bool(info.ssl_in_use))


def growth(connections: Connections) -> Growth:
    """The size of the history, and how fast it grows."""
    with connections.cursor() as cursor:
        cursor.execute(_SIZE)
        size, changes = cursor.fetchone() or (0, 0)
        cursor.execute(_RATE, (_LATE,))
        came, seconds = cursor.fetchone() or (0, 0.0)
        cursor.execute(_AGE)
        (age,) = cursor.fetchone() or (None,)
        cursor.execute(_FOLDER)
        (folder,) = cursor.fetchone() or ("",)
    per_day = came * 86400 / seconds if came and seconds else None
    free = _free(folder) if _is_here(connections) else None
    return Growth(size, max(changes, came), per_day, free, age)


def _is_here(connections: Connections) -> bool:
    return not elsewhere(link(connections).hosts)


def _free(folder: str) -> int | None:
    with suppress(OSError):
        return shutil.disk_usage(folder).free if folder else None
    return None
