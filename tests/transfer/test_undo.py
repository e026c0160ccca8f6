"""Undo of an import: each customer as it was before, but for those that somebody changed since."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from custsvc.domain.customers import Fields
from custsvc.errors import Conflict, NotFound
from custsvc.service.customers import Caller
from custsvc.service.idempotency import Keyed
from custsvc.transfer import plan
from custsvc.transfer.imported import Imports
from custsvc.transfer.undo import Undone, undo

from .conftest import ME, Transfer

AGAIN = Caller("me", "r2")


def undone(transfer: Transfer, report: Any, **options: Any) -> Undone:
    store = transfer.store
    return undo(store.customers, store.answers, Imports(store.shelf), report.import_id, AGAIN, **options)


@contextmanager
def cut_off_after(chunks: int, transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The block stores this many chunks, and is then interrupted as by Ctrl-C."""
    save_many, left = transfer.store.customers.save_many, [chunks]

    def dying(changes: Any, answer: Any = None) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        save_many(changes, answer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(transfer.store.customers, "save_many", dying)
        yield


def counts(report: Undone) -> dict[str, int]:
    return {action: count for action, count in report.counts.items() if count}


def shown(customer: dict[str, Any]) -> dict[str, Any]:
    return {name: customer[name] for name in ("name", "email", "phone", "metadata", "deleted")}


def test_the_changes_of_an_import_are_undone_with_an_event_each(transfer: Transfer) -> None:
    changed = transfer.create("Ada", phone="1", metadata={"a": 1})
    gone = transfer.create("Gone", phone="2")
    transfer.service.delete(gone, ME)
    before = {each: shown(transfer.get(each)) for each in (changed, gone)}
    report = transfer.load(
        [{"id": changed, "phone": "9", "metadata": {}}, {"id": gone, "phone": "9"}, {"name": "New"}],
        restore=True,
    )
    made = next(row["id"] for row in report.rows() if row["action"] == "create")

    planned = undone(transfer, report, dry_run=True)
    assert transfer.get(made)["version"] == 1
    done = undone(transfer, report)

    assert counts(planned) == counts(done) == {"revert": 1, "trash": 1, "delete": 1}
    assert {each: shown(transfer.get(each)) for each in before} == before
    assert transfer.get(made)["deleted"] is True
    for customer_id, op in ((changed, "updated"), (gone, "deleted"), (made, "deleted")):
        event = transfer.events(customer_id)[0]
        assert (event["op"], event["request_id"]) == (op, "r2")
        assert event["after_change"] == transfer.get(customer_id)
    with pytest.raises(Conflict):
        undone(transfer, report)


def test_customers_that_were_changed_since_are_left_alone_and_named(transfer: Transfer) -> None:
    ids = [transfer.create(f"C{n}") for n in range(3)]
    report = transfer.load([*({"id": each, "name": "Mine"} for each in ids), {"name": "New"}])
    made = next(row["id"] for row in report.rows() if row["action"] == "create")
    transfer.service.replace(ids[1], Fields("Theirs"), ME)
    transfer.service.delete(made, ME)

    done = undone(transfer, report)

    assert counts(done) == {"revert": 2, "left": 2}
    assert sorted(each["id"] for each in done.left) == sorted([ids[1], made])
    assert [transfer.get(each)["name"] for each in ids] == ["C0", "Theirs", "C2"]


def test_an_import_that_was_cut_off_is_undone_as_far_as_it_came(
    transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 10)
    known = [transfer.create(f"K{n}") for n in range(30)]
    file = [{"id": each, "name": "Mine"} for each in known]
    caller = Caller("me", "r1", keyed=Keyed("me", "import-1", b"hash"))
    with cut_off_after(2, transfer, monkeypatch):
        transfer.load(file, caller=caller)
    # Somebody else brings a customer, whose row was not stored, to the version that the import meant for it.
    transfer.service.replace(known[25], Fields("Theirs"), Caller("you", "r9"))
    (record,) = Imports(transfer.store.shelf).all()
    store = transfer.store
    report = undo(store.customers, store.answers, Imports(store.shelf), record.id, AGAIN)

    assert counts(report) == {"revert": 20}
    assert [transfer.get(each)["name"] for each in known[:25]] == [f"K{n}" for n in range(25)]
    assert transfer.get(known[25])["name"] == "Theirs"


def test_an_undo_that_was_cut_off_goes_on_where_it_was(
    transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 10)
    report = transfer.load([{"name": f"N{n}"} for n in range(30)])
    with cut_off_after(1, transfer, monkeypatch):
        undone(transfer, report)
    again = undone(transfer, report)

    assert counts(again) == {"delete": 30}
    assert all(each["deleted"] and each["version"] == 2 for each in transfer.all())


def test_a_record_is_kept_for_a_week(transfer: Transfer) -> None:
    report = transfer.load([{"name": "A"}])
    imports = Imports(transfer.store.shelf)
    (record,) = imports.all()
    assert record.counts["create"] == 1

    eight_days_ago = replace(record, at=record.at - 8 * 86400)
    imports.undone(eight_days_ago, {})

    assert imports.all() == []
    with pytest.raises(NotFound):
        undone(transfer, report)
