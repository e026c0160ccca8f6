"""A PostgreSQL whose primary dies and whose standby is promoted, under load."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from custsvc.config import Settings
from custsvc.local import LocalServers, ports
from custsvc.local.postgres import Postgres
from custsvc.stores.postgres import PostgresStore
from tests.chaos.clients import Clients
from tests.chaos.conftest import OPTIONS, Line, fresh_topics
from tests.chaos.roles import request, serves
from tests.waiting import until


class Pair:
    """A primary and a standby that has each commit before its client is told."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        servers = LocalServers(folder / "primary", names=["postgres"], ephemeral=True)
        stack.callback(servers.stop)
        servers.start()
        server = servers.server("postgres")
        assert isinstance(server, Postgres)
        self._server = server
        self._primary = urlsplit(server.url)
        self.port = self._primary.port
        self._port = ports.choose()
        self._standby = server._base / "standby"
        self._make_standby()
        stack.callback(self._control, "stop", "-m", "immediate")
        user = self._primary.netloc.rpartition("@")[0]
        hosts = f"{ports.HOST}:{self._primary.port},{ports.HOST}:{self._port}"
        self.url = f"postgresql://{user}@{hosts}{self._primary.path}"
        self.sql(self.port, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.sql(self.port, "SELECT pg_reload_conf()")
        until("the standby follows", self._follows)

    def _make_standby(self) -> None:
        self._standby.mkdir(mode=0o700)
        if self._server._account is not None:
            os.chown(self._standby, self._server._account.uid, self._server._account.gid)
        source = self._primary._replace(path="").geturl()
        self._run("pg_basebackup", "-c", "fast", "-d", source, "-R", "-D", self._standby)
        where = f"-p {self._port} -c listen_addresses={ports.HOST} -c unix_socket_directories= "
        where += "-c max_prepared_transactions=5"
        self._control("start", "-o", where)

    def _control(self, *what: str | Path) -> None:
        self._run("pg_ctl", "-D", self._standby, "-w", "-l", self._standby / "log", *what)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = self._server._run(self._server._binaries / program, *arguments)
        assert done.returncode == 0, done.stderr

    def _follows(self) -> bool:
        state = self.sql(self.port, "SELECT sync_state FROM pg_stat_replication")
        return state == "sync"

    def sql(self, port: int | None, statement: str) -> Any:
        address = self._primary._replace(netloc=f"{self._primary.netloc.rpartition(':')[0]}:{port}")
        with closing(
            psycopg2.connect(address.geturl(), options="-c default_transaction_read_only=off")
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return (cursor.fetchone() or (None,))[0] if cursor.description else None

    def kill_primary(self) -> None:
        self._server.kill()

    def promote(self) -> None:
        self._control("promote")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path, stack)


@pytest.fixture
def line(pair: Pair, servers: Any, all_databases: Callable[[str], Any], tmp_path: Path) -> Iterator[Line]:
    databases = all_databases("mongo")
    urls = {"postgres_url": pair.url, "mongo_url": databases.migrated()}
    with PostgresStore(pair.url) as store:
        store.migrate()
    settings = fresh_topics(
        Settings(backend="postgres", kafka=servers.url("kafka"), kafka_options=OPTIONS, partitions=4, **urls)
    )
    with ExitStack() as stack:
        stack.callback(databases.drop, urls["mongo_url"])
        yield Line(settings, tmp_path, stack)


def test_a_promotion_loses_nothing_and_no_role_has_to_be_restarted(line: Line, pair: Pair) -> None:
    port = ports.choose()
    api = line.role("serve", "--auth", "off", "--port", str(port)).start()
    relay = line.role("relay").start()
    until("the API answers", lambda: serves(port))
    writes = 0

    def call(method: str, path: str, body: Any) -> Any:
        nonlocal writes
        answer = request(port, method, path, body)
        writes += answer[0] < 300
        return answer

    with Clients(call) as clients:
        until("writes go on", lambda: writes >= 50, 600)
        pair.kill_primary()
        pair.promote()
        promoted, before = time.monotonic(), writes
        until("writes go on", lambda: writes > before, 600)
        waited = time.monotonic() - promoted
        goal = writes + 50
        until("writes go on", lambda: writes >= goal, 600)
    line.acknowledged |= clients.acknowledged
    line.source.close()
    line.settle_topic()

    assert clients.surprises == []
    assert line.judge(copied=False).problems == []
    assert api.is_running()
    assert relay.is_running()
    assert waited < 60
    print(f"writes went on {waited:.1f} s after the promotion, {writes} writes, {clients.refused} refused")


def test_a_database_that_turns_read_only_is_not_ready_and_takes_writes_when_it_is_back(
    line: Line, pair: Pair
) -> None:
    """As a managed one does whose disk is full: it goes on to answer."""
    port = ports.choose()
    line.role("serve", "--auth", "off", "--port", str(port)).start()
    until("the API answers", lambda: serves(port))

    def status(method: str, path: str, body: Any = None) -> int:
        return int(request(port, method, path, body)[0])

    def turn(setting: str) -> None:
        """For connections that are made from now on."""
        pair.sql(pair.port, f"ALTER DATABASE custsvc {setting}")

    assert status("POST", "/api/customers/", {"name": "Ada"}) == 201
    turn("SET default_transaction_read_only = on")
    ours = "pg_stat_activity WHERE application_name LIKE 'custsvc%'"
    pair.sql(pair.port, f"SELECT count(pg_terminate_backend(pid)) FROM {ours}")
    until("it is not ready", lambda: status("GET", "/readyz") == 503)
    assert status("POST", "/api/customers/", {"name": "Grace"}) == 503

    turn("RESET default_transaction_read_only")

    until("it is ready", lambda: status("GET", "/readyz") == 200)
    until("writes go on", lambda: status("POST", "/api/customers/", {"name": "Grace"}) == 201)
    # Each lane has a connection of its own, and none is left that is read-only.
    assert {status("POST", "/api/customers/", {"name": f"n{n}"}) for n in range(40)} <= {201, 503}
    assert {status("POST", "/api/customers/", {"name": f"n{n}"}) for n in range(40)} == {201}
