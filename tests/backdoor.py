"""Behind the ports: steps of tests that need a database's own language."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class PostgresBackdoor:
    """Steps that need SQL."""

    def __init__(self, url: str) -> None:
        import psycopg2

        self._connection = psycopg2.connect(url)

    @contextmanager
    def open_write(self) -> Iterator[None]:
        """A transaction that has written something and stays open."""
        with self._connection.cursor() as cursor:
            cursor.execute("INSERT INTO custsvc_meta (key, value) VALUES ('open', 'write')")
            try:
                yield
            finally:
                self._connection.rollback()

    def pass_time(self, seconds: float, *, born_too: bool = False) -> None:
        """Make the ledger's leases and waits so much older, as if that time had passed; its rows too."""
        columns = ["lease_until", "publish_lease", "next_at", *(["created_on"] if born_too else [])]
        older = ", ".join(f"{name} = {name} - make_interval(secs => %(seconds)s)" for name in columns)
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(f"UPDATE notification SET {older}", {"seconds": seconds})
            failing = "failing_since = failing_since - make_interval(secs => %s)"
            cursor.execute(f"UPDATE webhook_endpoint SET {failing}", (seconds,))

    def write_as_before(self, notifications: Sequence[str] = ()) -> None:
        """Leave of these notifications, or of all, what a version wrote that ordered them by `version`."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(
                "UPDATE notification SET first_version = NULL WHERE id = ANY(%(ids)s) OR %(ids)s = '{}'",
                {"ids": list(notifications)},
            )

    def block(self, notification: str, by: str) -> None:
        """Mark a notification as one that waits for another."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("UPDATE notification SET blocked_by = %s WHERE id = %s", (by, notification))

    def set_schema(self, number: int, *, compatible: bool = False) -> None:
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO custsvc_migration (number, name, compatible) VALUES (%s, 'future', %s)",
                (number, compatible),
            )

    def leased_until(self, notification: str) -> dt.datetime:
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("SELECT lease_until FROM notification WHERE id = %s", (notification,))
            (until,) = cursor.fetchone() or (None,)
        assert isinstance(until, dt.datetime)
        return until

    def tables(self) -> set[str]:
        """The names of all tables."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
            return {table for (table,) in cursor.fetchall()}

    def dump(self) -> str:
        """All rows of all tables."""
        rows = []
        for table in self.tables():
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute("SET LOCAL bytea_output = escape")  # so that text is found in bytes too
                cursor.execute(f'SELECT t::text FROM "{table}" t')
                rows += [row for (row,) in cursor.fetchall()]
        return "\n".join(rows)

    def close(self) -> None:
        self._connection.close()


class MongoBackdoor:
    """Steps that need MongoDB's own client."""

    def __init__(self, url: str) -> None:
        from pymongo import MongoClient

        self.client: MongoClient[dict[str, Any]] = MongoClient(url)
        self.database = self.client.get_default_database()

    @contextmanager
    def open_write(self) -> Iterator[None]:
        """A transaction that has written something and stays open."""
        with self.client.start_session() as session:
            session.start_transaction()
            self.database["custsvc_meta"].insert_one({"_id": "open"}, session=session)
            yield
            session.abort_transaction()

    def pass_time(self, seconds: float, *, born_too: bool = False) -> None:
        """Make the ledger's leases and waits so much older, as if that time had passed; its rows too."""
        names = ["lease_until", "publish_lease", "next_at", "due", *(["created_on"] if born_too else [])]
        older = {
            name: {
                "$cond": [
                    {"$eq": [{"$type": f"${name}"}, "date"]},
                    {"$subtract": [f"${name}", round(seconds * 1000)]},
                    "$$REMOVE",
                ]
            }
            for name in names
        }
        self.database["notification"].update_many({}, [{"$set": older}])
        since = {"failing_since": {"$subtract": ["$failing_since", round(seconds * 1000)]}}
        self.database["webhook_endpoint"].update_many({"failing_since": {"$ne": None}}, [{"$set": since}])

    def write_as_before(self, notifications: Sequence[str] = ()) -> None:
        """Leave of these notifications, or of all, what a version wrote that ordered them by `version`."""
        these = {"_id": {"$in": list(notifications)}} if notifications else {}
        self.database["notification"].update_many(these, {"$unset": {"first_version": ""}})

    def block(self, notification: str, by: str) -> None:
        """Mark a notification as one that waits for another."""
        mark = {"$set": {"blocked_by": by}, "$unset": {"due": ""}}
        self.database["notification"].update_one({"_id": notification}, mark)

    def set_schema(self, number: int, *, compatible: bool = False) -> None:
        self.database["custsvc_migration"].insert_one(
            {"_id": number, "name": "future", "compatible": compatible}
        )

    def leased_until(self, notification: str) -> dt.datetime:
        until = (self.database["notification"].find_one({"_id": notification}) or {})["lease_until"]
        assert isinstance(until, dt.datetime)
        return until

    def tables(self) -> set[str]:
        """The names of all collections."""
        return set(self.database.list_collection_names())

    def dump(self) -> str:
        """All documents of all collections."""
        return "\n".join(str(each) for name in self.tables() for each in self.database[name].find())

    def close(self) -> None:
        self.client.close()


Backdoor = PostgresBackdoor | MongoBackdoor
