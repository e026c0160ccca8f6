"""A copy in PostgreSQL: each batch is one COPY, one upsert that keeps the higher version, one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from io import BytesIO
from typing import Final

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class
from psycopg2.extras import execute_values

from ...domain.received import ReceivedEvent, newest
from ...errors import Superseded, TemporaryError
from ...ports.replica import Applied, Positions
from ...runtime import crash
from . import copying, shadow
from .connection import Connections, temporary
from .contents import PostgresContents
from .rows import CHANGEABLE, COPIED, copied_received
from .translate import refused

# Bytes per piece: sending each one needs the interpreter, which decodes the next batch meanwhile.
_COPIED_AT_ONCE: Final = 1 << 20
# The rows come sorted by id: unsorted batches of two processes deadlock, repeated ids are an error.
_UPSERT = f"""
    INSERT INTO {{table}} AS c ({COPIED}) SELECT {COPIED} FROM incoming ORDER BY id
    ON CONFLICT (id) DO UPDATE SET created_on = excluded.created_on,
        {", ".join(f"{name} = excluded.{name}" for name in CHANGEABLE)}
    WHERE excluded.version > c.version
"""  # noqa: S608 - constants of this module
# Positions never move back: a process that lost the partition must not undo its successor's progress.
_POSITIONS = """
    INSERT INTO replica_position AS p (topic, part, next_offset) VALUES %s
    ON CONFLICT (topic, part) DO UPDATE SET next_offset = greatest(p.next_offset, excluded.next_offset)
"""


def _generation(cursor: Cursor) -> str:
    """How often the copy was rebuilt."""
    cursor.execute("SELECT value FROM custsvc_meta WHERE key = 'generation'")
    (generation,) = cursor.fetchone() or ("0",)
    return str(generation)


@contextmanager
def _no_exceptions() -> Iterator[None]:
    """Treat a row that violates a constraint which others added to this table as refused data."""
    try:
        yield
    except psycopg2.IntegrityError as exc:
        raise refused(exc) from exc


class PostgresReplica(PostgresContents):
    """The port `Replica` on PostgreSQL; positions are part of the batch's own transaction."""

    def __init__(self, connections: Connections, table: str = "customer") -> None:
        super().__init__(connections, table)
        # Set by `begin`; None for a shadow, and before that.
        self._generation: str | None = None
        self._prefix = shadow.PREFIX if table == shadow.TABLE else ""

    def positions(self, topic: str) -> dict[int, int]:
        with self._connections.cursor() as cursor:
            cursor.execute(
                "SELECT part, next_offset FROM replica_position WHERE topic = %s", (self._prefix + topic,)
            )
            return dict(cursor.fetchall())

    def begin(self, topic: str) -> dict[int, int]:
        with self._connections.cursor() as cursor:
            if shadow.is_held(cursor):
                raise TemporaryError("the copy is about to be swapped", dependency="postgres")
            self._generation = _generation(cursor)
        return self.positions(topic)

    def rebuilding(self) -> AbstractContextManager[bool]:
        return shadow.alone(self._connections)

    def shadow(self) -> PostgresReplica:
        shadow.make(self._connections)
        return PostgresReplica(self._connections, shadow.TABLE)

    def drop_shadow(self) -> None:
        shadow.drop(self._connections)

    def hold(self, seconds: float) -> None:
        shadow.hold(self._connections, seconds)

    def swap(self, topic: str, *, anyway: bool = False) -> bool:
        with _no_exceptions():
            return shadow.swap(self._connections, topic, anyway=anyway)

    def apply(self, events: Sequence[ReceivedEvent], topic: str, positions: Positions) -> Applied:
        return self.applying(events)(topic, positions)

    def applying(self, events: Sequence[ReceivedEvent]) -> Callable[[str, Positions], Applied]:
        rows = copying.lines(copied_received(event) for event in newest(events))
        return partial(self._write, rows.getvalue(), len(events), self._generation)

    def _write(
        self, rows: bytes, events: int, generation: str | None, topic: str, positions: Positions
    ) -> Applied:
        written = 0
        with _no_exceptions(), self._connections.transaction() as cursor:
            if rows:
                temporary(cursor, "incoming", "LIKE customer INCLUDING DEFAULTS")
                cursor.copy_expert(f"COPY incoming ({COPIED}) FROM STDIN", BytesIO(rows), _COPIED_AT_ONCE)
                cursor.execute(self._sql(_UPSERT))
                written = cursor.rowcount
            else:
                cursor.execute(self._sql("LOCK TABLE {table} IN ROW EXCLUSIVE MODE"))
            # From here to the commit the table lock prevents a swap.
            if generation not in (None, _generation(cursor)):
                raise Superseded("the copy was rebuilt meanwhile", dependency="postgres")
            moves = [(self._prefix + topic, part, offset) for part, offset in sorted(positions.items())]
            execute_values(cursor, _POSITIONS, moves)
            crash.point("replicate.writing")
        return Applied(written, events - written)
