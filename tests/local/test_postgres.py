"""PostgreSQL only: left-overs of a crash, a taken port, a failed start, unreachable folders."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from custsvc.errors import TemporaryError
from custsvc.local import LocalServers
from custsvc.local import postgres as embedded


@pytest.fixture
def servers(folder: Path) -> LocalServers:
    return LocalServers(folder, names=("postgres",))


def test_a_stale_pid_file_that_names_a_living_process_does_not_keep_it_from_starting(
    servers: LocalServers, folder: Path
) -> None:
    servers.start()
    servers.server("postgres").kill()
    pid_file = folder / "postgres/data/postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(pid_file.read_text().split()[0], str(os.getpid()), 1))

    servers.start()

    assert servers.server("postgres").is_running()


def test_a_taken_port_is_changed_and_the_data_kept(servers: LocalServers) -> None:
    servers.start()
    port = servers.server("postgres").port
    servers.stop()

    with socket.create_server(("127.0.0.1", port)):
        env = servers.start()

    assert servers.server("postgres").port != port
    psycopg2.connect(env["CUSTSVC_POSTGRES_URL"]).close()


def test_a_failed_start_shows_the_end_of_the_log_and_a_fix(servers: LocalServers, folder: Path) -> None:
    servers.start()
    servers.stop()
    (folder / "postgres/data/PG_VERSION").write_text("9.6\n")

    with pytest.raises(TemporaryError) as caught:
        servers.start()

    assert "ended while starting" in str(caught.value)
    assert "incompatible with" in str(caught.value)
    assert "postgres.log" in str(caught.value.fix)
    assert servers.env() == {}


def test_an_interrupted_initdb_is_made_good(servers: LocalServers, folder: Path) -> None:
    half = folder / "postgres/data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    servers.start()

    assert servers.server("postgres").is_running()
    assert not half.exists()


def test_without_the_wheel_it_is_the_machines_postgresql(
    servers: LocalServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_wheel_binaries", lambda: None)
    if embedded._system_binaries() is None:
        pytest.skip("no PostgreSQL is installed")

    with closing(psycopg2.connect(servers.start()["CUSTSVC_POSTGRES_URL"])) as connection:
        assert connection.encoding == "UTF8"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as somebody else")
def test_roots_data_goes_elsewhere_when_the_servers_account_cannot_reach_the_folder() -> None:
    closed = Path(tempfile.mkdtemp(prefix="custsvc-closed-"))  # mode 0700
    said: list[str] = []
    servers = LocalServers(closed / "data", names=("postgres",), ephemeral=False, on_progress=said.append)
    try:
        servers.start()
        elsewhere = Path((closed / "data/postgres/elsewhere").read_text().strip())

        assert (elsewhere / "data/PG_VERSION").exists()
        assert any(str(elsewhere) in line for line in said)
    finally:
        servers.stop()
        servers.server("postgres").remove()
        shutil.rmtree(closed)
    assert not elsewhere.exists()
