"""A PgBouncer for the tests, in front of their PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from custsvc.local import ports
from custsvc.local.process import Account, as_account
from tests.waiting import until

_SECONDS = 60.0


def _program() -> str:
    """Where it is. Skips the test, loudly, where it is not."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        assert not os.environ.get("CUSTSVC_TEST_REQUIRE"), "pgbouncer is missing: apt-get install pgbouncer"
        pytest.skip("no pgbouncer here: apt-get install pgbouncer")
    return found


class PgBouncer:
    """Listens on `port`, in the mode of its pool, and connects each client to the server of `server`."""

    def __init__(self, server: str, folder: Path, mode: str, settings: Mapping[str, str]) -> None:
        self._server = urlsplit(server)
        self._folder = folder
        self.port = ports.choose()
        ours = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": mode,
            # Of the sessions that are free each is taken in its turn, so none is met twice.
            "server_round_robin": "1",
            "default_pool_size": "4",
            "max_client_conn": "200",
            "log_connections": "0",
            "log_disconnections": "0",
            **settings,
        }
        user = f"user={self._server.username} password={self._server.password}"
        lines = [
            "[databases]",
            f"* = host={self._server.hostname} port={self._server.port} {user}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in ours.items()),
        ]
        self._file = folder / f"{mode}-{self.port}.ini"
        self._file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._file.chmod(0o644)

    def url(self, direct: str) -> str:
        """The address of the same database, through the pooler."""
        return urlunsplit(urlsplit(direct)._replace(netloc=f"custsvc@127.0.0.1:{self.port}"))

    @contextmanager
    def running(self) -> Iterator[PgBouncer]:
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [_program(), str(self._file)], stdout=log, stderr=log, cwd="/", **as_account(_account())
            )
        try:
            self._wait(process)
            yield self
        finally:
            process.kill()
            process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        def answers() -> bool:
            assert process.poll() is None, (self._folder / "log").read_text()
            psycopg2.connect(self.url(urlunsplit(self._server))).close()
            return True

        until("PgBouncer answers", answers, _SECONDS, despite=psycopg2.OperationalError)


def _account() -> Account | None:
    """It refuses to run as root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account("nobody", entry.pw_uid, entry.pw_gid)


@contextmanager
def pgbouncer(server: str, mode: str, **settings: str) -> Iterator[PgBouncer]:
    """One that runs within the block."""
    _program()
    with tempfile.TemporaryDirectory(prefix="custsvc-pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with PgBouncer(server, folder, mode, settings).running() as pooler:
            yield pooler
