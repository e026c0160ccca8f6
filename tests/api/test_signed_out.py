"""The app while its database refuses its account, as after a change of the password."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg2
import pytest
from pymongo import MongoClient

from custsvc.accounts.keys import new_key
from custsvc.ports.store import Store
from custsvc.serve import create_app
from tests.databases import open_database, settings_of
from tests.waiting import until

from .conftest import ANN, Client

PASSWORD = "right"
_LOOKS_OFTEN = "serverMonitoringMode=poll&heartbeatFrequencyMS=500"


@contextmanager
def account(backend: str, database_url: str) -> Iterator[tuple[str, Callable[[str], object]]]:
    """The address of a database for a new account, and a function that sets the account's password."""
    name, parts = f"test_{uuid.uuid4().hex}", urlsplit(database_url)
    url = parts._replace(netloc=f"{name}:{PASSWORD}@{parts.netloc.rpartition('@')[2]}").geturl()
    if backend == "mongo":
        client: MongoClient[dict[str, object]]
        with MongoClient(database_url) as client:
            client.admin.command("createUser", name, pwd=PASSWORD, roles=["root"])
            try:
                # The driver takes the server for lost after a refused sign-in, until its next look at it.
                yield (
                    f"{url}&{_LOOKS_OFTEN}",
                    lambda password: client.admin.command("updateUser", name, pwd=password),
                )
            finally:
                client.admin.command("dropUser", name)
        return
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD %s", (PASSWORD,))
        try:
            yield url, lambda password: cursor.execute(f"ALTER ROLE {name} PASSWORD %s", (password,))
        finally:
            cursor.execute(f"DROP ROLE {name}")


def test_a_password_that_was_changed_is_503_with_the_reason_in_the_log_until_it_is_right_again(
    backend: str, database_url: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with account(backend, database_url) as (url, change), open_database(backend, url) as served:
        client = Client(create_app(settings_of(backend, url, auth="off"), served))
        keyed = Client(create_app(settings_of(backend, url), served), new_key("me", "read")[0])
        change("wrong")
        requests: list[tuple[Client, str, str]] = [
            (client, "GET", "/api/customers/"),
            (client, "GET", "/api/customers/7"),
            (client, "POST", "/api/customers/"),
            (client, "GET", "/readyz"),
            (client, "GET", "/ui/customers"),
            (keyed, "GET", "/api/customers/"),
        ]
        for caller, method, path in requests:
            caplog.clear()
            answer = caller(method, path, **({"json": ANN} if method == "POST" else {}))

            assert answer.status_code == 503, (path, answer.text)
            assert answer.headers["Retry-After"]
            if not path.startswith("/ui"):
                assert (answer.json["code"], answer.json["dependency"]) == ("dependency-down", backend)
            (line,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
            assert f"CUSTSVC_{backend.upper()}_URL" in line.message.partition("; fix: ")[2]
            assert line.exc_info is None

        change(PASSWORD)
        until("it signs in", lambda: client.get("/readyz").status_code == 200)
        assert client.create()["version"] == 1
