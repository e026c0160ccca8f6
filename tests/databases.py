"""Databases for tests: created once, and emptied between tests where that is faster."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from io import StringIO
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from custsvc.config import Settings
from custsvc.ports.store import Store
from custsvc.stores import open_store


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path="/" + name))


class PostgresDatabases:
    """New databases on PostgreSQL, copied from one that was migrated once.

    Making and dropping one takes a good part of a second on a busy machine, so those whose schema is still
    as it was made are emptied and kept.
    """

    def __init__(self, server: str) -> None:
        import psycopg2

        self._server = server
        self._connection = psycopg2.connect(server)
        self._connection.autocommit = True
        self._template = ""
        self._new: _New | None = None
        self._inside: dict[str, Any] = {}  # a connection to each database of the template
        self._free: list[str] = []

    def _run(self, sql: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)

    def empty(self) -> str:
        name = f"test_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        return with_database(self._server, name)

    def migrated(self) -> str:
        if self._free:
            return self._free.pop()
        if not self._template:
            self._template = self._made_template()
        name = f"test_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        url = with_database(self._server, name)
        self._inside[url] = self._connect(url)
        return url

    def _made_template(self) -> str:
        url = self.empty()
        with open_database("postgres", url) as store:
            store.migrate()
        with closing(self._connect(url)) as connection, connection.cursor() as cursor:
            self._new = _New.read(cursor)
        return urlsplit(url).path[1:]

    def _connect(self, url: str) -> Any:
        import psycopg2

        connection = psycopg2.connect(url)
        connection.autocommit = True
        return connection

    def drop(self, url: str) -> None:
        if url in self._inside:
            if self._restored(url):
                self._free.append(url)
                return
            self._inside.pop(url).close()
        self._run(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def _restored(self, url: str) -> bool:
        """Whether the database is as new again; not where its test ended our connection to it."""
        import psycopg2

        try:
            with self._inside[url].cursor() as cursor:
                return self._new is not None and self._new.restore(cursor)
        except psycopg2.Error:
            return False

    def close(self) -> None:
        for url in list(self._inside):
            self._inside.pop(url).close()
            self.drop(url)
        if self._template:
            self.drop(with_database(self._server, self._template))
        self._connection.close()


@dataclass(frozen=True)
class _New:
    """The rows of a newly migrated database."""

    schema: str
    rows: dict[str, str]  # of each table that has any, as COPY writes them

    @classmethod
    def read(cls, cursor: Any) -> _New:
        cursor.execute(_SCHEMA)
        (schema,) = cursor.fetchone()
        rows = {}
        for table in _tables_with_rows(cursor):
            text = StringIO()
            cursor.copy_expert(f"COPY {table} TO STDOUT", text)
            rows[table] = text.getvalue()
        return cls(schema, rows)

    def restore(self, cursor: Any) -> bool:
        """Have the database hold just this again; False where its schema, or somebody in it, has changed."""
        if not _alone(cursor):
            return False
        cursor.execute(_SCHEMA)
        if cursor.fetchone() != (self.schema,):
            return False
        cursor.execute("BEGIN")
        if tables := _tables_with_rows(cursor):
            # Tables that refer to one of them must be named too, even if they are empty.
            cursor.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
        cursor.execute("SELECT quote_ident(sequencename) FROM pg_sequences WHERE last_value IS NOT NULL")
        for (sequence,) in cursor.fetchall():
            cursor.execute(f"ALTER SEQUENCE {sequence} RESTART")
        for table, text in self.rows.items():
            cursor.copy_expert(f"COPY {table} FROM STDIN", StringIO(text))
        cursor.execute("COMMIT")
        return True


# All that a migration may make or a test change, as one hash.
_SCHEMA = """
SELECT md5(string_agg(what, '|' ORDER BY what)) FROM (
    SELECT 'namespace ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL SELECT concat_ws(' ', 'class', oid, relname, relkind, reloptions, relowner, relacl)
        FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum, attname, atttypid, attnotnull, attoptions)
        FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'index', indexrelid, indisvalid, indisready) FROM pg_index
    UNION ALL SELECT concat_ws(' ', 'sequence', seqrelid, seqstart, seqincrement, seqmin, seqmax, seqcache)
        FROM pg_sequence
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname, convalidated) FROM pg_constraint
    UNION ALL SELECT concat_ws(' ', 'function', oid, proname, prosrc) FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgname, tgenabled) FROM pg_trigger
    UNION ALL SELECT concat_ws(' ', 'setting', setconfig) FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) found (what)
"""


def _tables_with_rows(cursor: Any) -> list[str]:
    cursor.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
    tables = [table for (table,) in cursor.fetchall()]
    cursor.execute(" UNION ALL ".join(f"(SELECT '{table}' FROM {table} LIMIT 1)" for table in tables))
    return [table for (table,) in cursor.fetchall()]


def _alone(cursor: Any) -> bool:
    """End all other connections to the database, as dropping it does; False where one does not end."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if not cursor.fetchall():
            return True
        time.sleep(0.005)
    return False


class MongoDatabases:
    """New databases on MongoDB. Making one takes a second, so those that were used are emptied and kept."""

    def __init__(self, server: str) -> None:
        from pymongo import MongoClient

        self._server = server
        self._client: MongoClient[dict[str, Any]] = MongoClient(server)
        self._new: dict[str, dict[str, list[dict[str, Any]]]] = {}  # what each held when it was new
        self._free: list[str] = []

    def empty(self) -> str:
        return with_database(self._server, f"test_{uuid.uuid4().hex}")

    def migrated(self) -> str:
        if self._free:
            return self._free.pop()
        url = self.empty()
        with open_database("mongo", url) as store:
            store.migrate()
        database = self._client[urlsplit(url).path[1:]]
        self._new[url] = {name: list(database[name].find()) for name in database.list_collection_names()}
        return url

    def drop(self, url: str) -> None:
        database = self._client[urlsplit(url).path[1:]]
        # Emptying one that is big takes longer than making another.
        if url not in self._new or database["customer"].estimated_document_count() > 50_000:
            self._new.pop(url, None)
            self._client.drop_database(database.name)
            return
        database.drop_collection("system.profile")
        names = set(database.list_collection_names())
        for name in names - self._new[url].keys():
            database.drop_collection(name)
        for name in _with_documents(database, names & self._new[url].keys()):
            database[name].delete_many({})
        for name, documents in self._new[url].items():
            if documents:
                database[name].insert_many(documents)
        self._free.append(url)

    def close(self) -> None:
        for url in self._new:
            self._client.drop_database(urlsplit(url).path[1:])
        self._client.close()


def _with_documents(database: Any, names: Iterable[str]) -> set[str]:
    """The collections that hold any document, by one query: emptying all of them costs more."""
    steps: list[dict[str, Any]] = [{"$match": {"_id": {"$in": []}}}]
    for name in sorted(names):
        first = [{"$limit": 1}, {"$project": {"_id": {"$literal": name}}}]
        steps.append({"$unionWith": {"coll": name, "pipeline": first}})
    return {found["_id"] for found in database["custsvc_meta"].aggregate(steps)}


Databases = PostgresDatabases | MongoDatabases


def address(backend: str, url: str) -> dict[str, Any]:
    """The settings that name this database, for `Settings` and its `replace`."""
    return {"backend": backend, f"{backend}_url": url}


def settings_of(backend: str, url: str, **more: Any) -> Settings:
    """Settings of this database, and others."""
    return Settings(**address(backend, url), **more)


def open_database(backend: str, url: str) -> Store:
    """A store on this database. The caller closes it."""
    return open_store(settings_of(backend, url))
