"""`custsvc export` and `custsvc import` on the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import orjson
import pytest

from custsvc.errors import ExitCode
from custsvc.ports.customers import CustomerQuery
from custsvc.ports.store import Store
from custsvc.transfer.seed import seed_customers
from tests.processes import run_custsvc
from tests.sizes import on_one

from .styles import DATA, OBJECTS, PEOPLE, STYLES

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


def test_a_dry_run_names_likely_duplicates(run: Command, store: Store) -> None:
    seed_customers(store.customers, 1, 1)
    (ada,) = json.loads(run("customers", "list", "-o", "json").stdout)
    rows = orjson.dumps({"name": ada["name"], "email": ada["email"]}).decode()

    shown = run("import", "-", "--dry-run", "-o", "csv", given=rows)

    assert f"likely_duplicate,is likely customer {ada['id']}" in shown.stdout
    assert "1 of the 1 rows to create are likely there already" in shown.stderr


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


def test_wrong_files_and_options_are_usage_errors(run: Command) -> None:
    assert run("import", "nothing.csv").returncode == ExitCode.USAGE
    assert run("import", "file.xls").returncode == ExitCode.USAGE
    assert run("export", "file.csv", "--deleted", "some").returncode == ExitCode.USAGE


def people(store: Store) -> list[tuple[Any, ...]]:
    page = store.customers.find(CustomerQuery(200))
    return [(c["name"], c["email"], c["phone"]) for c in orjson.loads(b"[" + page.docs + b"]")]


@on_one("postgres")
def test_files_of_other_programs_are_imported_as_they_come(run: Command, store: Store) -> None:
    first, *others = STYLES

    plan = run("import", str(DATA / first), "--others", "metadata", "--dry-run")
    done = run("import", str(DATA / first), "--others", "metadata", "-o", "json")

    assert (plan.returncode, done.returncode) == (ExitCode.OK, ExitCode.OK), plan.stderr + done.stderr
    assert "First Name as first_name" in plan.stderr
    assert people(store) == PEOPLE
    for style in others:
        again = run("import", str(DATA / style), "--on", "email", "--others", "skip", "-o", "json")
        counts = json.loads(again.stdout)["counts"]
        assert counts["same"] + counts["update"] * (style in OBJECTS) == 3, (style, again.stderr)
    assert people(store) == PEOPLE


def test_an_import_is_undone(run: Command, store: Store) -> None:
    done = run("import", "-", given="name,email\nAnn,a@example.org\nBob,b@example.org\n")
    (listed,) = json.loads(run("imports", "list", "-o", "json").stdout)

    planned = run("imports", "undo", listed["id"], "--dry-run")
    assert len(people(store)) == 2
    undone = run("imports", "undo", listed["id"])

    assert f"custsvc imports undo {listed['id']}" in done.stderr
    assert (planned.returncode, undone.returncode) == (ExitCode.OK, ExitCode.OK), undone.stderr
    assert "2 deleted" in undone.stderr
    assert people(store) == []
    assert run("imports", "undo", "nothing").returncode == ExitCode.NOT_FOUND


@on_one("postgres")
def test_the_field_of_a_column_can_be_given(run: Command, store: Store, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes("Wer|Nummer|x\nZoë|1|2\n".encode("cp850"))
    (tmp_path / "map.json").write_text('{"Wer": "name", "#2": "phone", "x": null}')
    (tmp_path / "map.txt").write_text("Wer=name\n#2=phone\n\n#3=metadata.x\n")
    way = ("import", "odd.txt", "--encoding", "cp850", "--delimiter", "|")

    unknown = run(*way)
    by_json = run(*way, "--map-file", "map.json")
    by_lines = run(*way, "--map-file", "map.txt", "--map", "Nummer=metadata.number")

    assert unknown.returncode == ExitCode.USAGE, unknown.stderr
    assert "--map" in unknown.stderr
    assert by_json.returncode == ExitCode.OK, by_json.stderr
    assert people(store) == [("Zoë", None, "1")]
    assert by_lines.returncode == ExitCode.USAGE
    assert run(*way, "--map", "Wer=age").returncode == ExitCode.USAGE
    assert run("import", "odd.txt", "--delimiter", "||").returncode == ExitCode.USAGE
    assert run("import", "odd.txt", "--encoding", "klingon").returncode == ExitCode.USAGE


@on_one("postgres")
def test_cells_that_a_spreadsheet_has_spoilt_are_called_out(run: Command, store: Store) -> None:
    file = str(DATA / "spoilt.csv")

    plan = run("import", file, "--dry-run", "-o", "csv")
    done = run("import", file)

    assert plan.returncode == ExitCode.OK
    assert "2,create,,Zoë Müller,,phone,spoilt_number," in plan.stdout
    assert done.returncode == ExitCode.PARTLY_DONE
    assert "4 cells are skipped or doubtful" in done.stderr
    assert [phone for _, _, phone in people(store)] == [None, None, None, "+353 1 5550104"]


def bulk_marks(store: Store) -> list[bool]:
    """Whether each customer's newest event is marked."""
    ids = [row.id for row in store.contents.scan(0, 1000)]
    newest = [store.customers.history(customer_id, limit=1)[0] for customer_id in ids]
    return [orjson.loads(payload).get("bulk", False) for payload in newest]


def test_seed_and_import_say_how_many_mails_there_would_be_and_send_none_unless_asked(
    run: Command, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "people.csv").write_text("name,email\nAnn,ann@example.com\nBob,\n")

    seeded = run("seed", "3")
    mailed = run("seed", "2", "--mails")
    plan = run("import", "people.csv", "--dry-run", "-o", "json")
    imported = run("import", "people.csv", "--no-mails")

    assert "The rules would send 3 mails for it (welcome 3)." in seeded.stderr
    assert "None of them is sent; --mails sends them all." in seeded.stderr
    assert "They are sent." in mailed.stderr
    assert json.loads(plan.stdout)["mails_by_rules"] == 1
    assert "None of them is sent.\n" in imported.stderr
    assert bulk_marks(store) == [True] * 3 + [False] * 2 + [True] * 2
