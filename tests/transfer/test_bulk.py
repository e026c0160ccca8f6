"""One change to many customers: at the versions that were seen, once, and back again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from custsvc.domain.customers import Fields
from custsvc.errors import TemporaryError, ValidationError
from custsvc.ports.customers import CustomerFilter
from custsvc.service.customers import Caller
from custsvc.service.idempotency import Keyed
from custsvc.transfer import bulk, plan
from custsvc.transfer.bulk import BulkChange, Preview, TooMany, chosen, matching, packed, rows
from custsvc.transfer.imported import Imports
from custsvc.transfer.load import Report, load
from custsvc.transfer.rows import Reading
from custsvc.transfer.undo import undo

from .conftest import ME, Transfer

ALL = CustomerFilter("include")
GOLD = BulkChange("edit", "metadata.tier", "gold")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "CHUNK", 4)
    monkeypatch.setattr(bulk, "_PAGE", 3)


def listed(transfer: Transfer, where: CustomerFilter = ALL) -> bytes:
    return packed(matching(transfer.store.customers, where), lambda _: None)


def done(
    transfer: Transfer, change: BulkChange, content: bytes, caller: Caller = ME, *, dry_run: bool = False
) -> tuple[Report, Preview]:
    preview = Preview()

    def source() -> Reading:
        return rows(content, change, lambda: None)

    store, options = transfer.store, change.options(dry_run=dry_run)
    imports = Imports(store.shelf)
    report = load(store.customers, source, options, caller, store.answers, seen=preview.add, imports=imports)
    return report, preview


def undone(transfer: Transfer, report: Report) -> dict[str, int]:
    store, imports = transfer.store, Imports(transfer.store.shelf)
    counts = undo(store.customers, store.answers, imports, report.import_id or "", ME).counts
    return {action: count for action, count in counts.items() if count}


def state(customer: dict[str, Any]) -> dict[str, Any]:
    return {name: customer[name] for name in ("name", "email", "phone", "metadata", "deleted")}


def counts(report: Report) -> dict[str, int]:
    return {action: count for action, count in report.counts.items() if count}


@pytest.mark.parametrize("seed", range(3))
def test_each_customer_is_changed_once_or_named_with_the_reason_and_all_come_back(
    transfer: Transfer, seed: int
) -> None:
    rng, kind = random.Random(seed), dict[int, str]()
    full = {f"k{n}": n for n in range(50)}
    made: dict[str, dict[str, Any]] = {"same": {"tier": "gold", "n": 1}, "error": full}
    for name in rng.choices(["update", "same", "error", "trashed", "conflict", "gone"], k=30):
        customer_id = transfer.create(
            name, email=f"{name}@example.org", metadata=made.get(name, {"tier": "tin"})
        )
        kind[customer_id] = name
        if name == "trashed":
            transfer.service.delete(customer_id, ME)
    content = listed(transfer)
    planned, preview = done(transfer, GOLD, content, dry_run=True)
    for customer_id, name in kind.items():
        if name == "conflict":
            transfer.service.update(customer_id, lambda old: replace(old, phone="1"), ME)
        elif name == "gone":
            transfer.service.delete(customer_id, ME)
    before = {each["id"]: each for each in transfer.all()}

    report, _ = done(transfer, GOLD, content)

    expected = {name: list(kind.values()).count(name) for name in kind.values()}
    assert planned.counts["update"] == sum(expected.get(name, 0) for name in ("update", "conflict", "gone"))
    assert [each["before"]["metadata"] for each in preview.examples] == [{"tier": "tin"}] * 5
    assert [each["after"]["metadata"] for each in preview.examples] == [{"tier": "gold"}] * 5
    assert sum(preview.reasons.values()) == expected.get("error", 0)
    expected["trashed"] = expected.get("trashed", 0) + expected.pop("gone", 0)
    assert counts(report) == {name: count for name, count in expected.items() if count}
    for customer_id, name in kind.items():
        now, was = transfer.get(customer_id), before[customer_id]
        if name == "update":
            assert state(now) == {**state(was), "metadata": {"tier": "gold"}}
            event = transfer.events(customer_id)[0]
            assert (event["op"], event["bulk"], event["version"]) == ("updated", True, was["version"] + 1)
        else:
            assert now == was
    assert undone(transfer, report) == {"revert": expected["update"]}
    assert {each["id"]: state(each) for each in transfer.all()} == {i: state(b) for i, b in before.items()}


@pytest.mark.parametrize("do", ["delete", "restore"])
def test_many_are_deleted_or_restored_and_back_again(transfer: Transfer, do: Any) -> None:
    ids = [transfer.create(f"C{n}", metadata={"n": n}) for n in range(9)]
    if do == "restore":
        for each in ids:
            transfer.service.delete(each, ME)
    transfer.service.delete(ids[0], ME) if do == "delete" else transfer.service.restore(ids[0], ME)
    before = [state(each) for each in transfer.all()]
    content = packed(chosen(transfer.store.customers, [*ids, 10**15]), lambda _: None)
    transfer.service.update(ids[1], lambda old: replace(old, phone="1"), ME) if do == "delete" else None

    report, _ = done(transfer, BulkChange(do), content)

    changed = ids[2:] if do == "delete" else ids[1:]
    assert counts(report) == {do: len(changed), "same": 1, **({"conflict": 1} if do == "delete" else {})}
    for each in changed:
        assert transfer.get(each)["deleted"] is (do == "delete")
        assert transfer.events(each)[0]["bulk"] is True
    assert [each.what for each in Imports(transfer.store.shelf).all()] == [do]
    transfer.service.update(ids[3], lambda old: replace(old, phone="9"), ME) if do == "restore" else None
    if do == "restore":
        assert undone(transfer, report) == {"trash": len(changed) - 1, "left": 1}
    else:
        assert undone(transfer, report) == {"restore": len(changed)}
        assert [state(each) for each in transfer.all()][2:] == before[2:]
        assert transfer.events(ids[2])[0]["op"] == "restored"


@pytest.mark.parametrize("then", ["goes on", "is undone"])
def test_a_change_that_died_half_way_goes_on_or_is_undone(
    transfer: Transfer, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    ids = [transfer.create(f"C{n}", phone=str(n)) for n in range(14)]
    content, phone = listed(transfer), BulkChange("edit", "phone", "555")
    caller = Caller("me", None, keyed=Keyed("pages", "bulk-x", b"x"))
    store, save_many = transfer.store.customers, transfer.store.customers.save_many
    saved: list[Sequence[Any]] = []

    def dies(changes: Sequence[Any], answer: Any = None) -> None:
        if len(saved) == 2:
            raise TemporaryError("killed", dependency="postgres")
        saved.append(changes)
        save_many(changes, answer)

    with monkeypatch.context() as patched:
        patched.setattr(store, "save_many", dies)
        with pytest.raises(TemporaryError):
            done(transfer, phone, content, caller)
    assert [transfer.get(each)["version"] for each in ids] == [2] * 8 + [1] * 6

    if then == "goes on":
        report, _ = done(transfer, phone, content, caller)
        assert (counts(report), report.resumed) == ({"update": 14}, 8)
        assert {(each["version"], each["phone"]) for each in transfer.all()} == {(2, "555")}
        assert len(Imports(transfer.store.shelf).all()) == 1
        assert undone(transfer, report) == {"revert": 14}
    else:
        (record,) = Imports(transfer.store.shelf).all()
        report = Report(dry_run=False, import_id=record.id)
        assert undone(transfer, report) == {"revert": 8}
    assert [transfer.get(each)["phone"] for each in ids] == [str(n) for n in range(14)]


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("email", "nobody", "invalid_email"),
        ("phone", "1" * 51, "too_long"),
        ("name", " ", "required"),
        ("metadata.a.b", "x", "bad_key"),
        ("metadata.$x", "x", "bad_key"),
        ("metadata.x", "x" * 501, "too_long"),
        ("metadata.x", 2**70, "out_of_range"),
    ],
)
def test_a_value_that_no_customer_can_have_is_refused_at_once(field: str, value: Any, code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        BulkChange("edit", field, value).check()
    assert [each.code for each in refused.value.errors] == [code]


def test_removing_a_value_changes_the_customers_that_have_it(transfer: Transfer) -> None:
    one, two = transfer.create("One", email="a@b.example", metadata={"x": 1, "y": 2}), transfer.create("Two")

    assert counts(done(transfer, BulkChange("edit", "email"), listed(transfer))[0]) == {
        "update": 1,
        "same": 1,
    }
    assert counts(done(transfer, BulkChange("edit", "metadata.x"), listed(transfer))[0])["update"] == 1
    assert Fields("One", metadata={"y": 2}) == Fields(
        **{name: value for name, value in state(transfer.get(one)).items() if name != "deleted"}
    )
    assert transfer.get(two)["version"] == 1


def test_more_than_the_most_are_refused(transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MOST", 5)
    for number in range(6):
        transfer.create(f"C{number}")
    with pytest.raises(TooMany, match="more than 5 customers"):
        listed(transfer)
