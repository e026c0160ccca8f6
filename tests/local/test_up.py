"""`custsvc up`, `env` and `down` as a user runs them: the real roles on real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from custsvc.local import ports, process, runs

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
