"""A PostgreSQL primary of the test's own, and a standby that follows it."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2

from custsvc.local import LocalServers, ports
from custsvc.local.postgres import Postgres
from tests.waiting import until


class Pair:
    """A primary and a standby; if it is `synchronous`, it has each commit before its client is told."""

    def __init__(self, folder: Path, stack: ExitStack, *, synchronous: bool = True) -> None:
        servers = LocalServers(folder / "primary", names=["postgres"], ephemeral=True)
        stack.callback(servers.stop)
        servers.start()
        server = servers.server("postgres")
        assert isinstance(server, Postgres)
        self._server = server
        self._primary = urlsplit(server.url)
        self.primary_url = server.url
        self.port = self._primary.port
        self.standby_port = ports.choose()
        self._standby = server._base / "standby"
        self._make_standby()
        stack.callback(self.stop_standby)
        user = self._primary.netloc.rpartition("@")[0]
        standby = f"{ports.HOST}:{self.standby_port}"
        self.url = f"postgresql://{user}@{ports.HOST}:{self._primary.port},{standby}{self._primary.path}"
        self.standby_url = self._primary._replace(netloc=f"{user}@{standby}").geturl()
        if synchronous:
            self.sql(self.port, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.sql(self.port, "SELECT pg_reload_conf()")
        state = "sync" if synchronous else "async"
        until("the standby follows", lambda: self._state() == state)

    def _make_standby(self) -> None:
        self._standby.mkdir(mode=0o700)
        if self._server._account is not None:
            os.chown(self._standby, self._server._account.uid, self._server._account.gid)
        source = self._primary._replace(path="").geturl()
        self._run("pg_basebackup", "-c", "fast", "-d", source, "-R", "-D", self._standby)
        self.start_standby()

    def start_standby(self) -> None:
        where = f"-p {self.standby_port} -c listen_addresses={ports.HOST} -c unix_socket_directories= "
        where += "-c max_prepared_transactions=5"
        self._control("start", "-o", where)

    def stop_standby(self) -> None:
        """End it as an accident does."""
        if (self._standby / "postmaster.pid").exists():
            self._control("stop", "-m", "immediate")

    def _control(self, *what: str | Path) -> None:
        self._run("pg_ctl", "-D", self._standby, "-w", "-l", self._standby / "log", *what)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = self._server._run(self._server._binaries / program, *arguments)
        assert done.returncode == 0, done.stderr

    def _state(self) -> str:
        return str(self.sql(self.port, "SELECT sync_state FROM pg_stat_replication"))

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
