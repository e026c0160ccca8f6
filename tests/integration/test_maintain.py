"""Old history goes by command and beside the relay that leads; the archive files are checked and erased."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.errors import ExitCode
from custsvc.kafka.publisher import Publisher
from custsvc.ports.store import Store
from custsvc.relay.relay import Relay
from custsvc.retention import daily
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from tests.background import in_background
from tests.processes import run_custsvc
from tests.waiting import until

Command = Callable[..., CompletedProcess[str]]
ME = Caller("test")


@pytest.fixture
def run(backend: str, database_url: str, tmp_path: Path) -> Command:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CUSTSVC_")}
    environ |= {f"CUSTSVC_{backend.upper()}_URL": database_url, "CUSTSVC_LOCAL": "never"}
    environ |= {"CUSTSVC_BACKEND": backend}
    return lambda *arguments: run_custsvc(*arguments, env=environ, cwd=tmp_path)


@pytest.fixture
def old(store: Store) -> list[int]:
    """Two customers with five versions each, the last one three weeks old."""
    store.claim_role("source")
    past = CustomerService(store.customers, clock=lambda: dt.datetime.now(dt.UTC) - dt.timedelta(days=21))
    ids = [past.create(Fields("Ada"), ME).id for _ in range(2)]
    for number in range(4):
        for each in ids:
            past.replace(each, Fields(f"Ada {number}"), ME)
    return ids


def publish(store: Store) -> None:
    with store.outbox.lead():
        store.outbox.done(store.outbox.read(100))


def versions(store: Store, customer_id: int) -> list[int]:
    return [json.loads(each)["version"] for each in store.customers.history(customer_id, limit=99)]


def test_commands_show_archive_verify_and_erase(
    run: Command, store: Store, old: list[int], tmp_path: Path
) -> None:
    publish(store)
    archived = ("--archive", "archive", "--keep", "8d", "-o", "json")

    planned = json.loads(run("maintain", *archived, "--dry-run").stdout)
    assert (planned["dropped"], versions(store, old[0])) == (8, [5, 4, 3, 2, 1])
    done = json.loads(run("maintain", *archived).stdout)
    assert (done["dropped"], [versions(store, each) for each in old]) == (8, [[5], [5]])
    assert json.loads(run("maintain", *archived).stdout)["dropped"] == 0
    (name,) = done["files"]
    assert "8 events" in run("archive", "verify", name).stderr

    service = CustomerService(store.customers)
    service.erase(old[1], ME)
    # A customer that is written to again stays erased up to then.
    service.replace(old[1], Fields("Somebody else"), ME)
    assert json.loads(run("archive", "erase", name, "--erased", "-o", "json").stdout)["events"] == 4
    assert run("archive", "verify", name).returncode == ExitCode.OK
    (tmp_path / name).write_bytes(b"cut off")
    wrong = run("archive", "verify", name)
    assert wrong.returncode == ExitCode.CHECK_FAILED
    assert "is not what it was" in wrong.stderr
    assert run("maintain", "--keep", "3d").returncode == ExitCode.USAGE
    assert "kept for ever" in run("maintain").stderr


def test_the_relay_that_leads_trims_once_a_day(
    store: Store, settings: Settings, old: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daily, "_FIRST", 0.05)
    monkeypatch.setattr(daily, "_EVERY", 0.05)
    settings = settings.replace(history_keep="8d", history_archive=str(tmp_path))
    stop = Stop()
    with Publisher(settings) as publisher:
        relay = Relay(settings, store, publisher, stop, beside=daily.daily(settings, store))
        with in_background(relay.run, stop):
            until("the history is trimmed", lambda: [versions(store, each) for each in old] == [[5], [5]])

    assert [path.suffix for path in sorted(tmp_path.glob("*"))] == [".gz", ".sha256"]
