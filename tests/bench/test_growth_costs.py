"""The costs at two sizes are measured of work that really is done, at sizes too small to compare them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from custsvc.config import Settings
from custsvc.domain.received import decode
from custsvc.errors import ConfigurationError, CustsvcError
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store

if TYPE_CHECKING:
    from ..conftest import Servers

_SIZES = (30, 60)


@pytest.fixture
def sides(
    backend: str, new_database: Callable[[], str], servers: Servers, benchmark: Any
) -> Iterator[list[Any]]:
    """A database of each size."""
    kept = Settings.load({"backend": backend, "kafka": servers.url("kafka"), "partitions": 2}, environ={})
    with ExitStack() as stack:
        yield [
            stack.enter_context(benchmark("grown").filled(settings, size, os.getpid(), lambda _: None))
            for size in _SIZES
            for settings in [kept.replace(**{f"{backend}_url": new_database()})]
        ]


@pytest.fixture
def run(sides: list[Any], benchmark: Any) -> Any:
    options = argparse.Namespace(events=40, only="", seconds=0.0, rounds=1)
    return benchmark("growth").Run(sides, os.getpid(), options)


def versions(store: Store) -> list[int]:
    return [row.version for row in store.contents.scan(0, 1000)]


def test_a_database_is_filled_once_and_its_events_are_sent(
    sides: list[Any], benchmark: Any, tmp_path: Path
) -> None:
    grown = benchmark("grown")
    for side, size in zip(sides, _SIZES, strict=True):
        assert side.store.customers.count(CustomerFilter("include")) == size + grown.RARE
        assert side.seeding[-1]["customers"] == size
        assert side.store.outbox.depth().waiting == grown.RARE

        with grown.filled(side.settings, size, os.getpid(), lambda _: None) as again:
            assert again.seeding == []
            assert again.store.customers.count(CustomerFilter("include")) == size + grown.RARE

    found = grown.sizes(sides[0].store, sides[0].settings.url(sides[0].store.name))
    assert all(part > 0 for parts in found.values() for part in parts.values())
    sides[1].size += grown.RARE + 1
    with (
        pytest.raises(ConfigurationError, match="an earlier run was interrupted"),
        grown.filled(sides[1].settings, sides[1].size, os.getpid(), lambda _: None),
    ):
        pass


def test_the_database_itself_makes_copies_with_ids_addresses_and_events_of_their_own(
    backend: str, database_url: str, benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = benchmark("grown")
    monkeypatch.setattr(grown, "SEEDED", 20)
    settings = Settings.load({"backend": backend, f"{backend}_url": database_url}, environ={})

    with grown.filled(settings, 50, os.getpid(), lambda _: None) as side:
        store = side.store
        rows = store.contents.scan(0, 50)
        events = [decode(store.customers.history(row.id, limit=1)[0], b"%d" % row.id) for row in rows]

        assert [row.id for row in rows] == [*range(1, 51)] == [event.after["id"] for event in events]
        assert [event.doc() for event in events] == [row.doc for row in rows]
        assert len({event.id for event in events}) == len({event.after["email"] for event in events}) == 50
        assert events[47].after["name"] == events[27].after["name"] == events[7].after["name"]
        for column in ("name", "email", "phone"):
            assert store.contents.columns([48])[48][column] == events[47].after[column]
        assert store.outbox.depth().waiting == grown.RARE
        assert store.customers.new_id() > 50


def test_all_work_is_measured_on_both_sizes(run: Any, sides: list[Any], benchmark: Any, backend: str) -> None:
    growth = benchmark("growth")

    run.requests(0)
    # One role is as good as two here, and its start is most of the time of this test.
    run._options.only = "" if backend == "postgres" else "apply"
    run.events(1)
    run._options.only = ""
    run.walks(0)

    rows = {row["measure"]: row for row in run.rows()}
    names = [work.name for work in (*benchmark("costs").REQUESTS, *benchmark("costs").WALKS)]
    applied = [f"apply, {kind}" for kind in ("new", "changed", "hot")]
    assert {*rows} == {*names, *applied, *(("change in bulk", "relay") if backend == "postgres" else ())}
    for row in rows.values():
        assert {*row["sizes"]} == {*map(str, _SIZES)}
        assert all(cost["ms"] > 0 for cost in row["sizes"].values())
    assert "60 customers" in growth._chart(run.rows(), "postgres")
    assert growth._table(run.rows(), "postgres").row_count == len(rows)
    for side in sides:
        assert side.store.outbox.depth().waiting == 0
        assert max(versions(side.store)) > 2


def test_a_search_that_does_not_find_what_it_should_is_no_measure(sides: list[Any], benchmark: Any) -> None:
    costs, grown = benchmark("costs"), benchmark("grown")
    with pytest.raises(CustsvcError, match="should meet one customer"):
        costs._found(sides[0], CustomerFilter(email="nobody@example.com"), one=True)

    assert costs._search_rare(sides[0]) == 1
    assert grown.rare(7) == "zyzzyva00007"
