"""A second table that is filled while the copy goes on serving; its rows then replace the copy's rows.

The swap exchanges the contents, not the tables: in one transaction, and only the rows that differ. So the
copy's table keeps its indexes, grants, views and triggers; and readers see the old rows until the commit, so
they never wait.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class

from ...runtime import crash
from .connection import Connections
from .locks import giving_back, try_lock
from .rows import COPIED

TABLE: Final = "customer_shadow"
PREFIX: Final = "shadow:"

# Each copy in a database has its own lock: a named copy is a schema.
_ALONE = "1668510580, hashtext('rebuild ' || current_schema())"
# Whether the shadow is behind the copy: then a swap would revert customers.
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
    """Lock the filling of this copy's shadow; yields False if it is taken. Ends with the block or process."""
    with giving_back(connections.another("custsvc rebuild")) as connection:
        yield try_lock(connection, _ALONE)


def make(connections: Connections) -> None:
    """The shadow, new or as it was left. It is never searched, so only its id is indexed."""
    with connections.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS customer_shadow (LIKE customer, PRIMARY KEY (id))")


def drop(connections: Connections) -> None:
    with connections.transaction() as cursor:
        _drop(cursor)
        cursor.execute("DELETE FROM replica_position WHERE starts_with(topic, %s)", (PREFIX,))


def _drop(cursor: Cursor) -> None:
    cursor.execute("DROP TABLE IF EXISTS customer_shadow")


def hold(connections: Connections, seconds: float) -> None:
    """Stop all applying to the copy; batches that were being applied are finished on return."""
    with connections.transaction() as cursor:
        cursor.execute("LOCK TABLE customer IN EXCLUSIVE MODE")
        _supersede(cursor)
        cursor.execute(
            "INSERT INTO custsvc_meta (key, value) VALUES ('hold', extract(epoch FROM now() + %s)::text) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (dt.timedelta(seconds=seconds),),
        )


def is_held(cursor: Cursor) -> bool:
    """Whether the copy is held for a swap. A hold expires by itself: its process may be killed."""
    cursor.execute(
        "SELECT 1 FROM custsvc_meta WHERE key = 'hold' AND value::numeric > extract(epoch FROM now())"
    )
    return cursor.fetchone() is not None


def _supersede(cursor: Cursor) -> None:
    """Raise the generation: each process that applies a batch checks it, and reads its positions again."""
    cursor.execute(
        "INSERT INTO custsvc_meta AS m (key, value) VALUES ('generation', '1') "
        "ON CONFLICT (key) DO UPDATE SET value = (m.value::bigint + 1)::text"
    )


def swap(connections: Connections, topic: str, *, anyway: bool) -> bool:
    """Replace the copy's rows and positions by the shadow's; False if the copy is further."""
    names = {"topic": topic, "shadow": PREFIX + topic}
    with connections.transaction() as cursor:
        # No timeout: readers do not wait, and processes that apply go on afterwards.
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
