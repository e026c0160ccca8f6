"""Refills terms and keys made by an earlier version, or by a running process of an earlier release."""

from __future__ import annotations

from typing import Final

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.extras import execute_values

from ...domain.name_key import name_key
from ...domain.search import stored_terms
from ...ports.waiting import Waiting
from ...runtime import crash
from ..common.refilling import Refilling
from .connection import Connections
from .facts import PostgresFacts
from .rows import tsvector

_AT_ONCE: Final = 1000
_SOME: Final = """
    SELECT id, version, name, email, phone, doc FROM customer WHERE keyed IS DISTINCT FROM version
    ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
"""
_SET: Final = """
    UPDATE customer AS c SET terms = n.terms::tsvector, name_key = n.name_key, keyed = n.version
    FROM (VALUES %s) AS n (id, version, terms, name_key) WHERE c.id = n.id
"""
_ANY: Final = "SELECT EXISTS (SELECT FROM customer WHERE keyed IS DISTINCT FROM version)"


class PostgresRefilling(Refilling):
    """The refilling of a database's terms, and its progress."""

    def __init__(self, connections: Connections) -> None:
        super().__init__(PostgresFacts(connections))
        self._connections = connections

    def run(self, waiting: Waiting) -> int:
        """Refill all outdated customers; return how many."""
        refilled = 0
        while not self.note_if_over():
            waiting.check()
            with self._connections.transaction() as cursor:
                some = _refill_some(cursor)
            refilled += some
            if not some:
                # Other transactions hold the remaining customers.
                waiting.pause(0.2, "customers are being written")
        return refilled

    def note_if_over(self) -> bool:
        """Whether there is nothing left to refill; if so, note it."""
        with self._connections.cursor() as cursor:
            cursor.execute(_ANY)
            (any_left,) = cursor.fetchone() or (False,)
        if not any_left:
            self.note()
        return not any_left


def _refill_some(cursor: Cursor) -> int:
    cursor.execute(_SOME, (_AT_ONCE,))
    rows = [
        (customer_id, version, tsvector(stored_terms(name, *found)), name_key(name))
        for customer_id, version, name, *found in cursor.fetchall()
    ]
    if rows:
        execute_values(cursor, _SET, rows, page_size=_AT_ONCE)
    crash.point("migrate.refilling")
    return len(rows)
