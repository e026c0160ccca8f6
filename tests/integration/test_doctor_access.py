"""Doctor on connections and disks, by the databases' own figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from custsvc.config import Settings
from custsvc.doctor import access as doctor_access
from custsvc.doctor import checks as doctor
from custsvc.domain.customers import Fields
from custsvc.ports.store import Growth, Link, Store
from custsvc.service.customers import Caller, CustomerService
from tests.databases import address


def write(store: Store, changes: int) -> None:
    service, me = CustomerService(store.customers), Caller("test")
    one = service.create(Fields("Ada"), me)
    for turn in range(changes - 1):
        service.replace(one.id, Fields(f"Ada {turn}"), me)


def test_the_size_and_growth_of_the_history_are_measured(store: Store, settings: Settings) -> None:
    empty = store.growth()
    write(store, 30)
    with store.outbox.lead():
        store.outbox.done(store.outbox.read(1000))

    found = store.growth()

    assert (empty.changes, empty.per_day, empty.age) == (0, None, None)
    assert found.changes >= 29
    assert found.bytes > 0
    assert found.per_day is not None
    assert found.per_day > 29
    assert found.age is not None
    assert 0 <= found.age < 3600
    (finding,) = doctor_access.growth(store, None)
    assert "bytes a change" in finding.detail


@pytest.mark.parametrize(
    ("growth", "keep", "level", "detail"),
    [
        (Growth(0, 0, None, None), None, "ok", "takes 0 bytes"),
        (Growth(2 << 30, 1 << 20, 1000.0, None), None, "ok", "2.0 GiB, 2,048 bytes a change"),
        (Growth(1 << 20, 1 << 10, 1024.0, 100 << 20), None, "ok", "full in 100 days"),
        (Growth(1 << 20, 1 << 10, 1024.0, 10 << 20), None, "warning", "full in 10 days"),
        (Growth(1 << 20, 1 << 10, 1024.0, 0), None, "warning", "full in 0 days"),
        (Growth(1 << 20, 0, None, 1 << 20), None, "ok", "takes 1.0 MiB"),
        (Growth(1 << 20, 1 << 10, 1e7, 0, 86_000.0), None, "ok", "it is not a day old"),
        (Growth(1 << 20, 1 << 10, 1e7, 10 << 20, 86_000.0), 8, "ok", "it is not a day old"),
        (Growth(1 << 20, 1 << 10, 1024.0, 10 << 20, 90_000.0), None, "warning", "full in 10 days"),
        (Growth(1 << 20, 1 << 10, 1024.0, 10 << 20), 8, "ok", "kept for 8 days, it levels off near 8.0 MiB"),
        (Growth(1 << 20, 1 << 10, 1024.0, 10 << 20), 90, "warning", "levels off near 90.0 MiB"),
    ],
)
def test_a_disk_that_is_full_within_a_month_is_a_warning(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    growth: Growth,
    keep: int | None,
    level: str,
    detail: str,
) -> None:
    monkeypatch.setattr(store, "growth", lambda: growth)

    (found,) = doctor_access.growth(store, keep)

    assert (found.level, detail in found.detail, bool(found.fix)) == (level, True, level == "warning")


def test_a_link_on_this_machine_is_no_matter_and_one_in_clear_text_to_another_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = store.link()
    assert not link.encrypted
    assert list(doctor_access.link(store)) == []

    monkeypatch.setattr(store, "link", lambda: Link(("198.51.100.1", *link.hosts), False))
    (found,) = doctor_access.link(store)
    assert (found.level, "198.51.100.1" in found.detail) == ("warning", True)
    assert ("tls=true" if store.name == "mongo" else "sslmode") in (found.fix or "")

    monkeypatch.setattr(store, "link", lambda: Link(("198.51.100.1",), True))
    assert list(doctor_access.link(store)) == []


def test_everything_is_looked_at_at_once(
    store: Store, backend: str, database_url: str, settings: Settings, all_databases: Callable[[str], Any]
) -> None:
    mine = settings.replace(**address(backend, database_url))

    levels = {found.check: found.level for found in doctor.addresses(mine)}

    assert {"serve", "relay", "notify", "commands", "migrate"} == {
        check.rpartition(" of ")[2] for check in levels if check.startswith(f"{backend} rights of ")
    }
    assert levels["kafka rights"] == "ok"
    assert levels[f"{backend} growth"] == "ok"
    assert "failed" not in levels.values()
