"""`custsvc up`, `env` and `down` as a user runs them: the real roles on real servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from custsvc import redact
from custsvc.cli import stack
from custsvc.local import LocalServers, ports, process, runs
from custsvc.local.process import Identity

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def custsvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CUSTSVC_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "custsvc", *arguments, "--data-dir", str(folder / "data")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=env,
        timeout=300,
    )


def get(url: str) -> Any:
    with _DIRECT.open(url, timeout=60) as response:
        return json.load(response)


def answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def up(shared_folder: Path) -> Iterator[tuple[Path, str]]:
    port = ports.choose()
    done = custsvc(
        shared_folder, "up", "--detach", "--port", str(port), "--seed", "25", "--copies", "relay=2"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"http://localhost:{port}" in done.stdout
    assert "system of record: postgres" in done.stdout
    assert ":***@127.0.0.1" in done.stdout
    assert "Warning" not in done.stderr
    yield shared_folder, f"http://localhost:{port}"
    custsvc(shared_folder, "down")


def test_up_serves_and_seeds_once(up: tuple[Path, str]) -> None:
    _, url = up

    assert process.wait_until(lambda: get(f"{url}/api/customers/?limit=1")["count"] == 25, 120, every_s=0.2)
    state = runs.status(up[0] / "data")
    assert {part.name for part in state.parts if part.kind == "role"} >= {
        "serve",
        "relay",
        "relay-2",
        "replicate",
    }
    assert all(part.running for part in state.parts if part.name != "seed")


def test_env_prints_the_variables_that_another_command_needs(up: tuple[Path, str]) -> None:
    folder, url = up

    as_shell = custsvc(folder, "env").stdout
    as_json = json.loads(custsvc(folder, "env", "-o", "json").stdout)

    shell = subprocess.run(
        ["sh", "-c", as_shell + 'printf %s "$CUSTSVC_MONGO_URL"'], capture_output=True, text=True, check=True
    )
    assert shell.stdout == as_json["CUSTSVC_MONGO_URL"]
    assert as_json["CUSTSVC_API_URL"] == url
    assert set(as_json) == {
        "CUSTSVC_POSTGRES_URL",
        "CUSTSVC_MONGO_URL",
        "CUSTSVC_KAFKA",
        "CUSTSVC_SMTP_URL",
        "CUSTSVC_API_URL",
        "CUSTSVC_BACKEND",
    }
    assert as_json["CUSTSVC_BACKEND"] == "postgres"


def test_the_api_comes_back_after_a_kill_9_of_its_process(up: tuple[Path, str]) -> None:
    folder, url = up
    run = runs.Run(folder / "data")
    killed = run.roles()["serve"]

    os.kill(killed.pid, signal.SIGKILL)

    def is_back() -> bool:
        serve = run.roles().get("serve")
        return serve is not None and serve != killed and answers(f"{url}/readyz")

    assert process.wait_until(is_back, 120, every_s=0.1)


def test_a_second_up_over_the_same_folder_is_an_error_with_the_fix(up: tuple[Path, str]) -> None:
    done = custsvc(up[0], "up", "--port", str(ports.choose()))

    assert done.returncode == 3
    assert "already runs" in done.stderr
    assert "fix: custsvc down" in done.stderr
    assert runs.status(up[0] / "data").ready


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
