"""The port History and the trimming over it: what is dropped, what stays, and what a crash leaves."""

from __future__ import annotations

import datetime as dt
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from custsvc.domain.customers import Fields, Stored
from custsvc.domain.events import Change, CustomerEvent, new_change
from custsvc.errors import CheckFailed, TemporaryError
from custsvc.ports.facts import Fact
from custsvc.ports.history import Old
from custsvc.ports.store import Store
from custsvc.relay.loss import new_loss, remember
from custsvc.relay.parked import Parking
from custsvc.retention import archive, trim
from custsvc.retention.trim import Report, Trim
from custsvc.runtime.loop import Stop
from custsvc.service.customers import Caller, CustomerService
from custsvc.service.merging import Merge
from custsvc.service.trimmed import trimmed

from .conftest import NOW

if TYPE_CHECKING:
    from .conftest import Customers

Drain = Callable[..., list[CustomerEvent]]
TOPIC = "t"
DROPPED_AT_ONCE = trim._DROP  # of a process; the tests here have other numbers
MINUTE = dt.timedelta(minutes=1)


class Past:
    """Customers whose changes are a minute apart, from `NOW` on, and all events that there ever were."""

    def __init__(self, store: Store, customers: Customers) -> None:
        self.store, self._customers = store, customers
        self.events: dict[tuple[int, int], bytes] = {}
        self.at = NOW

    def add(self) -> Stored:
        return self._save(self._customers.new())

    def change(self, before: Stored) -> Stored:
        self.at += MINUTE
        fields = Fields(f"Name {before.version + 1}")
        after = before.customer().changed_to(fields=fields, deleted=False, now=self.at, by="test")
        return self._save(new_change("updated", before, after, actor="test"))

    def _save(self, change: Change) -> Stored:
        stored = self.store.customers.save(change)
        self.events[stored.id, stored.version] = change.event.payload
        return stored

    def kept(self) -> dict[tuple[int, int], bytes]:
        ids = {customer_id for customer_id, _ in self.events}
        payloads = [each for i in ids for each in self.store.customers.history(i, limit=1000)]
        return {
            (event["customer_id"], event["version"]): each
            for each in payloads
            for event in [orjson.loads(each)]
        }

    def trim(self, before: dt.datetime | None = None, folder: Path | None = None, **more: Any) -> Report:
        """Trim what was replaced before that time; default: all that was replaced."""
        seconds = (self.store.clock() - before.timestamp()) if before else 0.0
        return Trim(self.store, TOPIC, seconds / 86400, folder, Stop()).run(**more)


@pytest.fixture
def past(store: Store, customers: Customers, monkeypatch: pytest.MonkeyPatch) -> Past:
    # So that a few events are several pages, files and deletions.
    monkeypatch.setattr(trim, "_PAGE", 7)
    monkeypatch.setattr(trim, "_DROP", 3)
    monkeypatch.setattr(trim, "_FILE", 10)
    return Past(store, customers)


def publish(store: Store, drain: Drain) -> None:
    with store.outbox.lead():
        drain(store.outbox, 1000)


@pytest.mark.parametrize("seed", range(3))
def test_only_replaced_states_go_and_each_is_in_an_archive_with_its_bytes(
    seed: int, store: Store, past: Past, drain: Drain, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    current = [past.add() for _ in range(6)]
    for _ in range(40):
        one = rng.randrange(6)
        current[one] = past.change(current[one])
    publish(store, drain)
    limit = NOW + MINUTE * (rng.randrange(10, 40) + 0.5)
    then = {each.id: store.customers.event_at(each.id, limit) for each in current}

    planned = past.trim(limit, dry_run=True)
    assert past.kept() == past.events
    done = past.trim(limit, tmp_path)

    kept, archived = past.kept(), [old for each in done.files for old in archive.read(each.path)]
    assert {(old.customer_id, old.version): old.payload for old in archived} | kept == past.events
    assert len(archived) == done.outdated == planned.outdated == len(past.events) - len(kept) > 0
    assert [archive.verify(each.path) for each in done.files] == done.files
    for each in current:
        # The state at the limit, and every one since, is there; nothing older is.
        assert store.customers.event_at(each.id, limit) == then[each.id]
        versions = sorted(version for customer_id, version in kept if customer_id == each.id)
        assert versions == list(range(orjson.loads(then[each.id] or b"")["version"], each.version + 1))
    assert trimmed(store.facts).begins <= limit.isoformat()
    assert past.trim(limit, tmp_path).passed == 0


def test_events_that_are_not_on_kafka_stay_in_the_history(store: Store, past: Past, drain: Drain) -> None:
    one = past.add()
    for _ in range(5):
        one = past.change(one)
    assert past.trim().passed == 0
    with store.outbox.lead():
        batch = store.outbox.read(3)
        store.outbox.done(batch)

    past.trim()

    kept = {version for _, version in past.kept()}
    assert kept >= {3, 4, 5, 6}
    with store.outbox.lead():
        assert [each.version for each in drain(store.outbox, 10)] == [4, 5, 6]


def test_parked_customers_and_a_topic_that_lost_its_end_keep_their_history(
    store: Store, past: Past, drain: Drain
) -> None:
    one, other = past.add(), past.add()
    other = past.change(past.change(other))
    past.change(past.change(one))
    publish(store, drain)
    parking = Parking(store.facts)
    with store.outbox.lead():
        parking.keep_back([CustomerEvent("x", one.id, 2, "updated", b"x" * 2000)], 1000)
    remember(store.facts, TOPIC, new_loss([0]))

    with pytest.raises(TemporaryError, match="lost its end"):
        past.trim()
    store.facts.drop(Fact.TOPIC_LOSS + TOPIC)
    past.trim()

    assert sorted(past.kept()) == [(one.id, 1), (one.id, 2), (one.id, 3), (other.id, 3)]


def test_a_merge_can_be_undone_and_an_erasure_reaches_its_parts_after_its_history_went(
    store: Store, past: Past, drain: Drain
) -> None:
    service, caller = CustomerService(store.customers, store.answers), Caller("test")
    one, other, third = past.add(), past.add(), past.add()
    service.merge(one.id, Merge({other.id: None}, {}), caller)
    service.merge(one.id, Merge({third.id: None}, {}), caller)
    for name in ("a", "b"):
        service.update(one.id, lambda fields, name=name: replace(fields, phone=name), caller)
    publish(store, drain)

    past.trim()

    assert len(store.customers.history(one.id, limit=9)) == 3
    service.unmerge(one.id, caller)
    assert not service.get(third.id).deleted
    service.erase(one.id, caller)
    assert orjson.loads(store.customers.history(other.id, limit=1)[0])["op"] == "erased"
    publish(store, drain)
    past.trim()
    assert [orjson.loads(each)["op"] for each in store.customers.history(one.id, limit=9)] == [
        "erased",
        "unmerged",
        "merged",
        "merged",
    ]


def test_an_event_that_changes_while_it_is_archived_is_not_dropped(
    store: Store, past: Past, drain: Drain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = past.add()
    past.change(one)
    publish(store, drain)
    stored = store.history.stored
    monkeypatch.setattr(
        store.history, "stored", lambda keys: {key: value + b" " for key, value in stored(keys).items()}
    )

    with pytest.raises(TemporaryError, match="changed while it was archived"):
        past.trim(folder=tmp_path)

    assert past.kept() == past.events
    assert list(tmp_path.iterdir()) == []
    assert store.history.drop([Old(one.id, 1, b"{}")]) == 0


@pytest.mark.parametrize("archived", [True, False])
def test_a_trim_rests_after_each_look_into_the_history_so_that_writers_notice_little(
    store: Store, past: Past, drain: Drain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, archived: bool
) -> None:
    one = past.add()
    for _ in range(30):
        one = past.change(one)
    publish(store, drain)
    done: list[str] = []

    class Resting(Stop):
        def wait(self, seconds: float) -> bool:
            done.append("rest")
            return False

    def noted(name: str) -> Callable[..., Any]:
        was = getattr(store.history, name)

        def call(*args: Any, **more: Any) -> Any:
            done.append(name)
            return was(*args, **more)

        return call

    for name in ("outdated", "stored", "drop"):
        monkeypatch.setattr(store.history, name, noted(name))
    Trim(store, TOPIC, 0.0, tmp_path if archived else None, Resting()).run()

    assert set(done[::2]) == {"outdated", "drop"} | ({"stored"} if archived else set())
    assert set(done[1::2]) == {"rest"}


@pytest.mark.parametrize("point", ["maintain.archived", "maintain.dropping"])
def test_a_run_that_dies_loses_nothing_and_the_next_one_ends_the_work(
    point: str, store: Store, past: Past, drain: Drain, backend: str, database_url: str, tmp_path: Path
) -> None:
    one = past.add()
    for _ in range(300):
        one = past.change(one)
    publish(store, drain)
    code = (
        "from pathlib import Path; from custsvc.config import Settings\n"
        "from custsvc.stores import open_store; from custsvc.runtime.loop import Stop\n"
        "from custsvc.retention.trim import Trim\n"
        f"with open_store(Settings.load(), {backend!r}) as store:\n"
        f"    Trim(store, {TOPIC!r}, 0.0, Path({str(tmp_path)!r}), Stop()).run()"
    )
    url = {f"CUSTSVC_{backend.upper()}_URL": database_url}

    died = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **url, "CUSTSVC_CRASH_AT": point}, check=False
    )

    assert died.returncode == 137
    assert len(past.kept()) == (301 if point == "maintain.archived" else 301 - DROPPED_AT_ONCE)
    past.trim(folder=tmp_path)
    kept = past.kept()
    assert set(kept) == {(one.id, 301)}
    archived = [old for path in tmp_path.glob("*.gz") for old in archive.read(path)]
    assert {(old.customer_id, old.version): old.payload for old in archived} | kept == past.events


def test_a_file_that_was_changed_or_cut_off_is_not_verified_and_an_erased_one_is(
    store: Store, past: Past, drain: Drain, tmp_path: Path
) -> None:
    one, other = past.add(), past.add()
    for each in (one, other):
        past.change(past.change(each))
    publish(store, drain)
    (found,) = past.trim(folder=tmp_path).files
    assert found.path.stat().st_mode & 0o777 == 0o600

    assert archive.erase(found.path, {one.id: 1}) == 1
    assert archive.erase(found.path, {one.id: 9}) == 1
    assert archive.erase(found.path, {one.id: 9}) == 0
    assert archive.verify(found.path).events == 4
    names = {
        (old.customer_id, orjson.loads(old.payload)["after_change"]["name"])
        for old in archive.read(found.path)
    }
    assert names == {(one.id, "(erased)"), (other.id, "Ada"), (other.id, "Name 2")}
    assert len(list(tmp_path.iterdir())) == 2

    data = found.path.read_bytes()
    for wrong in (data[:-9], data[:40] + bytes([data[40] ^ 0xFF]) + data[41:], b"", b"no gzip"):
        found.path.write_bytes(wrong)
        with pytest.raises(CheckFailed):
            archive.verify(found.path)
        if wrong:
            with pytest.raises(CheckFailed):
                list(archive.read(found.path))


def test_two_runs_at_once_give_their_files_two_names(tmp_path: Path) -> None:
    """Both have chosen a name before either file has it."""
    one, other = (archive._free_name(tmp_path, "history-a-b") for _ in range(2))

    assert one != other
    assert {path.name for path in (one, other)} == {"history-a-b.ndjson.gz", "history-a-b-2.ndjson.gz"}
