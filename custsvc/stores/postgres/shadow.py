"""A second table that is filled while the copy goes on serving; its rows then take the place of the copy's.

Not the tables change places but their contents, in one transaction and only where they differ. So the copy
stays the table that it was, with its indexes, grants, views and triggers; and as a reader sees the old rows
until the commit, nobody who reads ever waits.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class

from ...runtime import crash
from .connection import Connections
from .locks import try_lock
from .rows import COPIED

TABLE: Final = "customer_shadow"
PREFIX: Final = "shadow:"

# A lock of its own for each copy of a database: a named one is a schema.
_ALONE = "1668510580, hashtext('rebuild ' || current_schema())"
# Where the shadow has not come as far as the copy: to swap would take customers back.
_BEHIND = """
    SELECT EXISTS (
        SELECT FROM replica_position live LEFT JOIN replica_position filled
            ON filled.topic = %(shadow)s AND filled.part = live.part
        WHERE live.topic = %(topic)s AND live.next_offset > coalesce(filled.next_offset, 0)
    )
"""
_NAMES = COPIED.split(", ")
_DELETE = "DELETE FROM customer c WHERE NOT EXISTS (SELECT FROM customer_shadow s WHERE s.id = c.id)"
_WRITE = f"""
    INSERT INTO customer AS c ({COPIED})
    SELECT {", ".join(f"s.{name}" for name in _NAMES)} FROM customer_shadow s LEFT JOIN customer o USING (id)
    WHERE ({", ".join(f"s.{name}" for name in _NAMES)})
        IS DISTINCT FROM ({", ".join(f"o.{name}" for name in _NAMES)})
    ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _NAMES[1:])}
"""  # noqa: S608 - constants of this package


@contextmanager
def alone(connections: Connections) -> Iterator[bool]:
    """Whether nobody else fills a shadow of this copy; the lock ends with the block, or the process."""
    with closing(connections.another("custsvc rebuild")) as connection:
        yield try_lock(connection, _ALONE)


def make(connections: Connections) -> None:
    """The shadow, as it was left. Nobody searches it, so it has no index but the one on the id."""
    with connections.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS customer_shadow (LIKE customer, PRIMARY KEY (id))")


def drop(connections: Connections) -> None:
    with connections.transaction() as cursor:
        _drop(cursor)
        cursor.execute("DELETE FROM replica_position WHERE starts_with(topic, %s)", (PREFIX,))


def _drop(cursor: Cursor) -> None:
    cursor.execute("DROP TABLE IF EXISTS customer_shadow")


def hold(connections: Connections, seconds: float) -> None:
    """Nobody applies from here on, and what was being applied is done."""
    with connections.transaction() as cursor:
        cursor.execute("LOCK TABLE customer IN EXCLUSIVE MODE")
        _supersede(cursor)
        cursor.execute(
            "INSERT INTO custsvc_meta (key, value) VALUES ('hold', extract(epoch FROM now() + %s)::text) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (dt.timedelta(seconds=seconds),),
        )


def is_held(cursor: Cursor) -> bool:
    """Whether the copy is about to be swapped. A hold ends by itself: whoever holds may be killed."""
    cursor.execute(
        "SELECT 1 FROM custsvc_meta WHERE key = 'hold' AND value::numeric > extract(epoch FROM now())"
    )
    return cursor.fetchone() is not None


def _supersede(cursor: Cursor) -> None:
    """Whoever applies a batch looks at this within its transaction, and asks for the positions anew."""
    cursor.execute(
        "INSERT INTO custsvc_meta AS m (key, value) VALUES ('generation', '1') "
        "ON CONFLICT (key) DO UPDATE SET value = (m.value::bigint + 1)::text"
    )


def swap(connections: Connections, topic: str, *, anyway: bool) -> bool:
    """Put the shadow's rows in the copy's place, with its positions; False where the copy is further."""
    names = {"topic": topic, "shadow": PREFIX + topic}
    with connections.transaction() as cursor:
        # As long as it takes: nobody who reads waits, and who applies goes on afterwards.
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("LOCK TABLE customer IN EXCLUSIVE MODE")
        cursor.execute(_BEHIND, names)
        (is_behind,) = cursor.fetchone() or (True,)
        if is_behind and not anyway:
            return False
        cursor.execute("ANALYZE customer_shadow")
        cursor.execute(_DELETE)
        cursor.execute(_WRITE)
        cursor.execute("DELETE FROM replica_position WHERE topic = %(topic)s", names)
        cursor.execute("UPDATE replica_position SET topic = %(topic)s WHERE topic = %(shadow)s", names)
        _supersede(cursor)
        cursor.execute("DELETE FROM custsvc_meta WHERE key = 'hold'")
        crash.point("rebuild.swapping")
        _drop(cursor)
    return True
