"""`custsvc up`, `env` and `down` where no role runs: what they refuse, and what they leave."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from custsvc import redact
from custsvc.cli import stack
from custsvc.local import LocalServers, runs
from custsvc.local.process import Identity

from .test_up import custsvc


def test_a_taken_port_is_reported_before_anything_is_started(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = custsvc(folder, "up", "--port", str(port))

    assert done.returncode == 3
    assert f"error: port {port} is taken by " in done.stderr
    assert f"(pid {os.getpid()})" in done.stderr
    assert "fix: custsvc up --port " in done.stderr
    assert not (folder / "data").exists()


def test_servers_only_and_ephemeral_leaves_nothing(folder: Path) -> None:
    done = custsvc(folder, "up", "--detach", "--servers-only", "--ephemeral")
    assert done.returncode == 0, done.stderr
    supervisor = runs.status(folder / "data").supervisor
    identity = Identity.of(supervisor or 0)

    assert custsvc(folder, "down").returncode == 0

    assert identity is not None
    assert not identity.is_running()
    assert [path.name for path in (folder / "data").rglob("*")] == ["logs", "up.log"]


def test_up_removes_what_a_killed_ephemeral_one_left_and_ends_all_when_its_terminal_goes_away(
    folder: Path,
) -> None:
    data_dir = folder / "data"
    left = LocalServers(data_dir, names=("mail",), ephemeral=True)
    left.start()
    env = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    argv = [sys.executable, "-m", "custsvc", "up", "--servers-only", "--data-dir", str(data_dir)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True) as up:
        assert up.stdout is not None
        assert up.stderr is not None
        assert any("127.0.0.1 only" in line for line in up.stdout)
        assert not left.home.exists()
        assert (data_dir / "servers.json").exists()
        up.stdout.close()
        up.stderr.close()
        up.send_signal(signal.SIGHUP)
        assert up.wait(60) == 0
    assert LocalServers(data_dir).env() == {}


def test_env_where_nothing_runs_says_how_to_start(folder: Path) -> None:
    done = custsvc(folder, "env")

    assert (done.returncode, done.stdout) == (3, "")
    assert "fix: custsvc up --detach" in done.stderr


def test_down_where_nothing_runs_says_so_and_leaves_no_folder(folder: Path) -> None:
    done = custsvc(folder, "down")

    assert done.returncode == 0
    assert "nothing runs in" in done.stderr
    assert not (folder / "data").exists()


def test_copies_and_left_out_roles_are_counted() -> None:
    counts = stack._counts(["notify"], ["replicate=3"])

    assert counts == {"serve": 1, "relay": 1, "replicate": 3}


@pytest.mark.parametrize(
    ("without", "copies"),
    [(["nobody"], []), ([], ["replicate"]), ([], ["replicate=0"]), ([], ["nobody=2"]), ([], ["serve=2"])],
)
def test_a_wrong_role_or_number_is_refused(without: list[str], copies: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        stack._counts(without, copies)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql://custsvc:secret@127.0.0.1:5432/custsvc",
            "postgresql://custsvc:***@127.0.0.1:5432/custsvc",
        ),
        ("postgresql://custsvc@127.0.0.1/custsvc", "postgresql://custsvc@127.0.0.1/custsvc"),
        (
            "mongodb://127.0.0.1:27017/custsvc?replicaSet=rs0",
            "mongodb://127.0.0.1:27017/custsvc?replicaSet=rs0",
        ),
        ("mongodb://ann:s3cret@a:1,b:2/x?authSource=admin", "mongodb://ann:***@a:1,b:2/x?authSource=admin"),
        ("127.0.0.1:9092", "127.0.0.1:9092"),
        ("127.0.0.1:9092,[::1]:9092", "127.0.0.1:9092,[::1]:9092"),
        ("custsvc:secret@127.0.0.1:9092,b:9092", "custsvc:***@127.0.0.1:9092,b:9092"),
        ("custsvc:12345@127.0.0.1:9092", "custsvc:***@127.0.0.1:9092"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert redact.masked(url) == shown
