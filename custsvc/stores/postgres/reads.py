"""A hot stand-by that answers reads.

Each lane has its own connection, so a check and the read after it are answered by the same server.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from psycopg2.extensions import make_dsn, parse_dsn

from ...errors import ConfigurationError
from ...ports.customers import CustomerStore
from ..common.arrived import arrived
from .connection import Connections, address
from .customers import PostgresCustomers
from .doorbell import Doorbell

# Seconds. The source can answer instead, so nobody should wait long for a stand-by that hangs.
_CONNECT: Final = 2
_ANSWER: Final = 5.0
# Ends of the log, one a second: a lag of more is not measured.
_REMEMBERED: Final = 3600

_WHO: Final = "SELECT system_identifier::text, current_database() FROM pg_control_system()"
# Where the source's write-ahead log ends, and up to where the stand-by has applied it; NULL if that is the
# source itself.
_END: Final = "SELECT pg_current_wal_lsn() - '0/0'"
_APPLIED: Final = """
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() - '0/0' END
"""


class PostgresReadServer:
    """The port `ReadServer` on PostgreSQL."""

    def __init__(self, url: str, source: Connections) -> None:
        if "connect_timeout" not in parse_dsn(url):
            url = make_dsn(url, connect_timeout=_CONNECT)
        self._connections = Connections(url, answer=_ANSWER)
        self._source = source
        self._customers = PostgresCustomers(self._connections, Doorbell(self._connections))
        # Ends of the source's log with their times, the oldest one first.
        self._ends: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)
        self._checked = False

    @contextmanager
    def reading(self, wanted: Mapping[int, int], patience: float) -> Iterator[CustomerStore | None]:
        yield self._customers if not wanted or arrived(self._customers, wanted, patience) else None

    def lag(self) -> float:
        if not self._checked:
            self._check()
        now = time.monotonic()
        with self._source.cursor() as cursor:
            cursor.execute(_END)
            ((end,),) = cursor.fetchall()
        self._ends.append((now, int(end)))
        with self._connections.cursor() as cursor:
            cursor.execute(_APPLIED)
            ((applied,),) = cursor.fetchall()
        if applied is None:
            self._ends.clear()
            return 0.0
        # The newest end that it has applied stays, as it says since when it is behind.
        while len(self._ends) > 1 and self._ends[1][1] <= applied:
            self._ends.popleft()
        if self._ends[-1][1] <= applied:
            return 0.0
        return time.monotonic() - self._ends[0][0]

    def _check(self) -> None:
        who = []
        for connections in (self._source, self._connections):
            with connections.cursor() as cursor:
                cursor.execute(_WHO)
                who.append(cursor.fetchone())
        if who[0] != who[1]:
            raise ConfigurationError(
                f"{address(self._connections.url)} is no stand-by of {address(self._source.url)}",
                fix="let CUSTSVC_POSTGRES_READ_URL name a stand-by of the server of CUSTSVC_POSTGRES_URL",
            )
        self._checked = True

    def close(self) -> None:
        self._connections.close()
