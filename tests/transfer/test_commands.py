"""`custsvc export` and `custsvc import`, as they are typed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from custsvc.errors import ExitCode
from custsvc.ports.store import Store
from custsvc.transfer.seed import seed_customers
from tests.processes import run_custsvc

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(backend: str, database_url: str, tmp_path: Path) -> Command:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CUSTSVC_")}
    environ |= {f"CUSTSVC_{backend.upper()}_URL": database_url, "CUSTSVC_LOCAL": "never"}

    def run(*arguments: str, given: str = "") -> CompletedProcess[str]:
        return run_custsvc(*arguments, "--backend", backend, env=environ, cwd=tmp_path, stdin=given)

    return run


def test_a_file_goes_out_and_comes_in_again(run: Command, store: Store, tmp_path: Path) -> None:
    seed_customers(store.customers, 30, 1)

    assert run("export", "out.csv").returncode == ExitCode.OK
    piped = run("export", "-")
    again = run("import", "out.csv", "-o", "json")

    assert (tmp_path / "out.csv").read_text().count("\n") == 31
    assert len(piped.stdout.splitlines()) == 30
    assert json.loads(again.stdout)["counts"]["same"] == 30


def test_a_dry_run_shows_the_plan_and_the_errors(run: Command, store: Store) -> None:
    rows = '{"name":"Ann"}\n{"name":"","email":"x"}\n'

    table = run("import", "-", "--dry-run", "-o", "csv", given=rows)
    refused = run("import", "-", given=rows)
    partly = run("import", "-", "--skip-errors", "-o", "ndjson", given=rows)

    assert (table.returncode, refused.returncode) == (ExitCode.CHECK_FAILED, ExitCode.CHECK_FAILED)
    assert "invalid_email" in table.stdout
    assert "error: 1 rows are wrong, so nothing was imported" in refused.stderr
    assert "fix: " in refused.stderr
    assert partly.returncode == ExitCode.PARTLY_DONE
    assert [json.loads(line)["action"] for line in partly.stdout.splitlines()] == ["create", "error"]
    assert store.customers.count() == 1


def test_what_cannot_be_done_is_said(run: Command) -> None:
    assert run("import", "nothing.csv").returncode == ExitCode.USAGE
    assert run("import", "file.xls").returncode == ExitCode.USAGE
    assert run("export", "file.csv", "--deleted", "some").returncode == ExitCode.USAGE
