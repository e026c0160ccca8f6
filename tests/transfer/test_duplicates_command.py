"""`custsvc duplicates`, as it is typed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from custsvc.domain.customers import Fields
from custsvc.errors import ExitCode
from custsvc.ports.store import Store
from custsvc.service.changes import Caller
from custsvc.service.customers import CustomerService
from tests.processes import run_custsvc

ME = Caller("test")


@pytest.fixture
def run(backend: str, database_url: str, tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CUSTSVC_")}
    environ |= {f"CUSTSVC_{backend.upper()}_URL": database_url, "CUSTSVC_LOCAL": "never"}
    return lambda *words, **more: run_custsvc(*words, "--backend", backend, env=environ | more, cwd=tmp_path)


def test_pairs_are_shown_with_their_reasons_and_in_files(
    run: Callable[..., CompletedProcess[str]], store: Store
) -> None:
    customers = CustomerService(store.customers)
    a, b, c = (customers.create(Fields(f"Ada {n} Lovelace", "ada@example.org"), ME).id for n in "XYZ")

    table = run("duplicates")
    some = run("duplicates", "--limit", "1", "-o", "json")
    lines = run("duplicates", str(a), "-o", "ndjson")

    assert (table.returncode, table.stdout.count("same email")) == (ExitCode.OK, 3)
    (first,) = json.loads(some.stdout)
    assert (first["id"], first["duplicate"]) == (a, b)
    assert first["reasons"][0] == "same email"
    assert "There are more than 1" in some.stderr
    assert [json.loads(line)["duplicate"] for line in lines.stdout.splitlines()] == [b, c]
    assert run("duplicates", "999").returncode == ExitCode.NOT_FOUND
    assert "No duplicates" in run("duplicates", "--min-score", "1").stderr


def test_a_pair_is_dismissed_and_taken_back(run: Callable[..., CompletedProcess[str]], store: Store) -> None:
    customers = CustomerService(store.customers)
    a, b, c = (customers.create(Fields("Ada Lovelace", "ada@example.org"), ME).id for _ in range(3))

    def shown(which: str) -> list[tuple[int, int]]:
        found = json.loads(run("duplicates", "--dismissed", which, "-o", "json").stdout)
        return [(each["id"], each["duplicate"]) for each in found]

    done = run("duplicates", str(a), "--dismiss", str(b), "--dismiss", str(c))

    assert done.returncode == ExitCode.OK, done.stderr
    assert (shown("exclude"), shown("only")) == ([(b, c)], [(a, b), (a, c)])
    run("duplicates", str(b), "--undismiss", str(a))
    assert shown("exclude") == [(a, b), (b, c)]
    assert run("duplicates", "--dismiss", str(b)).returncode == ExitCode.USAGE
    assert run("duplicates", str(a), "--dismiss", str(a)).returncode == ExitCode.USAGE
    assert run("duplicates", str(a), "--dismiss", "999").returncode == ExitCode.NOT_FOUND


def test_a_copy_gets_no_indexes_by_being_looked_at(
    run: Callable[..., CompletedProcess[str]],
    opened: Callable[[str], Store],
    empty_database: str,
    backend: str,
) -> None:
    copy = opened(empty_database)
    copy.migrate(lists=False)
    copy.claim_role("copy")
    here = {f"CUSTSVC_{backend.upper()}_URL": empty_database}

    refused = run("duplicates", **here)

    assert refused.returncode == ExitCode.CONFIGURATION
    assert "custsvc serve --read-only" in refused.stderr
    assert copy.has_lists() is False
    copy.index_lists()
    assert copy.has_lists() is True
    shown = run("duplicates", **here)
    assert shown.returncode == ExitCode.OK
    assert "This is a copy" in shown.stderr
