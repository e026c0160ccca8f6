"""PostgreSQL for the benchmarks: a scratch database, and bare loops with custsvc's own statements."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class

from ..domain.events import Change
from ..domain.name_key import name_key
from ..domain.search import terms_of
from ..errors import ConfigurationError
from ..stores.postgres import copying
from ..stores.postgres.connection import connect
from ..stores.postgres.customers import COPIED_EVENT, copied_event
from ..stores.postgres.rows import COPIED, copied_customer, tsvector


def create_database(url: str, name: str) -> str:
    """Create a database on this server; returns its address."""
    try:
        with closing(connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    except psycopg2.ProgrammingError as exc:
        raise ConfigurationError(
            f"PostgreSQL refuses to create a database for the benchmark: {str(exc).strip()}",
            fix="ALTER ROLE … CREATEDB for the role of CUSTSVC_POSTGRES_URL, or benchmark another server",
        ) from exc
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def drop_database(url: str) -> None:
    """Drop a database that `create_database` made."""
    name = urlsplit(url).path[1:]
    server = urlunsplit(urlsplit(url)._replace(path="/template1"))
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def checkpoint(url: str) -> None:
    """Flush earlier writes, so that the next measurement does not include them."""
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("CHECKPOINT")
        except psycopg2.errors.InsufficientPrivilege:
            return


class Bare:
    """The bare loops: no checks, no handling of outages, no other process."""

    def __init__(self, url: str) -> None:
        self._connection: Connection = connect(url)

    def insert(self, changes: Sequence[Change]) -> float:
        """Two COPYs of these customers and events; returns the seconds of the COPYs alone."""
        customers = copying.lines([copied_customer(change) for change in changes])
        events = copying.lines([copied_event(change) for change in changes])
        started = time.perf_counter()
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.copy_expert(f"COPY customer ({COPIED}) FROM STDIN", customers)
            cursor.copy_expert(f"COPY customer_event ({COPIED_EVENT}) FROM STDIN", events)
            cursor.execute("COMMIT")
        return time.perf_counter() - started

    def events(self, limit: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """The outbox in pages of (key, value); each page is read when the one before was sent."""
        last = 0
        with self._connection.cursor() as cursor:
            while True:
                cursor.execute(_PAGE, (last, limit))
                rows = cursor.fetchall()
                if not rows:
                    return
                yield [(b"%d" % customer_id, payload.encode()) for _, customer_id, payload in rows]
                last = rows[-1][0]

    def apply(self, customers: Sequence[tuple[dict[str, Any], bytes]]) -> None:
        """Write the newest state of each customer: COPY into a temporary table, one upsert, one commit."""
        lines = "".join(
            [
                f"{c['id']}\t{c['version']}\t{c['deleted']}\t{_text(c['name'])}\t{_text(c['email'])}\t"
                f"{_text(c['phone'])}\t{c['created_on']}\t{c['updated_on']}\t{_text(doc.decode())}\t"
                f"{tsvector(terms_of(c['name'], c['email'], c['phone'], c['metadata']))}\t"
                f"{_text(name_key(c['name']))}\t{c['version']}\n"
                for c, doc in sorted(customers, key=lambda each: int(each[0]["id"]))
            ]
        )
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(
                "CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE customer INCLUDING DEFAULTS) "
                "ON COMMIT DELETE ROWS"
            )
            cursor.copy_expert(f"COPY incoming ({COPIED}) FROM STDIN", BytesIO(lines.encode()))
            cursor.execute(_UPSERT)
            cursor.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()


_PAGE = "SELECT seq, customer_id, payload FROM customer_event WHERE seq > %s ORDER BY seq LIMIT %s"
_UPSERT = f"""
    INSERT INTO customer AS c ({COPIED}) SELECT {COPIED} FROM incoming ORDER BY id
    ON CONFLICT (id) DO UPDATE SET
        version = excluded.version, deleted = excluded.deleted, name = excluded.name, email = excluded.email,
        phone = excluded.phone, created_on = excluded.created_on, updated_on = excluded.updated_on,
        doc = excluded.doc, terms = excluded.terms, name_key = excluded.name_key,
        keyed = excluded.keyed
    WHERE excluded.version > c.version
"""  # noqa: S608 - constants of this module


def _text(value: str | None) -> str:
    return "\\N" if value is None else value.replace("\\", "\\\\")
