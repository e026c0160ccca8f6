"""Imports: a dry run shows the plan, and exactly that plan is applied, once, with its events."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from custsvc.domain.customers import Fields
from custsvc.errors import KeyMismatch, ValidationError
from custsvc.ports.store import Store
from custsvc.service.customers import Caller
from custsvc.service.idempotency import Keyed
from custsvc.transfer import plan
from custsvc.transfer.load import ImportRefused, PlanChanged

from .conftest import ME, Transfer


def actions(report: Any) -> dict[str, int]:
    return {action: count for action, count in report.counts.items() if count}


def codes(report: Any) -> list[tuple[int, str, str, str | None]]:
    return [
        (row["row"], error["field"], error["code"], error["value"])
        for row in report.rows()
        for error in row["errors"]
    ]


def test_the_plan_has_the_action_of_each_row_and_changes_nothing(transfer: Transfer) -> None:
    same, changed, gone = (transfer.create(f"C{n}", email=f"c{n}@example.org") for n in range(3))
    transfer.service.delete(gone, ME)
    before = transfer.all()

    report = transfer.load(
        [
            {"name": "New"},
            {"id": same, "name": "C0", "email": "c0@example.org"},
            {"id": changed, "name": "Other"},
            {"id": gone, "name": "C2"},
            {"id": 2**62, "name": "Nobody"},
        ],
        dry_run=True,
    )

    assert actions(report) == {"create": 1, "same": 1, "update": 1, "trashed": 1, "error": 1}
    assert [(r["row"], r["action"], r["id"], r["changed"]) for r in report.rows()] == [
        (1, "create", None, []),
        (3, "update", changed, ["name"]),
        (4, "trashed", gone, ["deleted"]),
        (5, "error", None, []),
    ]
    assert transfer.all() == before


def test_every_wrong_row_is_named_with_its_field_and_value_and_nothing_is_done(transfer: Transfer) -> None:
    one = transfer.create()

    with pytest.raises(ImportRefused) as refused:
        transfer.load(
            b"\n".join(
                [
                    b'{"name":"Good"}',
                    b"no json",
                    b'["a"]',
                    b"\xff\xfe",
                    b'{"name":"","email":"nobody"}',
                    b'{"id":"x","name":"A"}',
                    b'{"id":%d,"name":"A"}' % one,
                    b'{"id":%d,"name":"B"}' % one,
                    b'{"name":"A","age":7}',
                    b'{"name":"A","metadata":{"a.b":1}}',
                ]
            ),
            "ndjson",
        )

    report = refused.value.report
    assert codes(report) == [
        (2, "", "bad_json", "no json"),
        (3, "", "not_an_object", '["a"]'),
        (4, "", "bad_utf8", "\ufffd\ufffd"),
        (5, "name", "required", ""),
        (5, "email", "invalid_email", "nobody"),
        (6, "id", "bad_id", "x"),
        (8, "id", "duplicate_row", str(one)),
        (9, "age", "unknown_field", "7"),
        (10, "metadata.a.b", "bad_key", "1"),
    ]
    assert len(transfer.all()) == 1


def test_the_plan_is_applied_with_events_of_the_caller(transfer: Transfer) -> None:
    one = transfer.create(phone="1", metadata={"a": 1})

    report = transfer.load([{"id": one, "phone": "2"}, {"name": "New", "email": "new@example.org"}])

    assert actions(report) == {"update": 1, "create": 1}
    made = next(row["id"] for row in report.rows() if row["action"] == "create")
    assert transfer.get(one) | {"updated_on": ""} == {
        **transfer.get(one),
        "name": "Ada",
        "phone": "2",
        "metadata": {"a": 1},
        "version": 2,
        "updated_on": "",
    }
    for customer_id, op in ((one, "updated"), (made, "created")):
        event = transfer.events(customer_id)[0]
        assert (event["op"], event["actor"], event["request_id"]) == (op, "me", "r1")
        assert event["after_change"] == transfer.get(customer_id)


def test_rows_are_found_by_email(transfer: Transfer) -> None:
    known = transfer.create(email="ann@example.org")
    twice = [transfer.create(email="two@example.org") for _ in range(2)]
    gone = transfer.create(email="gone@example.org")
    transfer.service.delete(gone, ME)
    again = transfer.create(email="again@example.org")
    transfer.service.delete(again, ME)
    back = transfer.create(email="again@example.org")

    report = transfer.load(
        [
            {"name": "Ann", "email": "ann@EXAMPLE.org"},
            {"name": "New", "email": "new@example.org"},
            {"name": "Nobody's"},
            {"name": "Two", "email": "two@example.org"},
            {"name": "Gone", "email": "gone@example.org"},
            {"name": "Again", "email": "again@example.org"},
            {"name": "Wrong", "email": "wrong"},
        ],
        on="email",
        skip_errors=True,
    )

    assert actions(report) == {"update": 2, "create": 2, "trashed": 1, "error": 2}
    assert [code for _, _, code, _ in codes(report)] == ["ambiguous", "invalid_email"]
    assert (transfer.get(known)["name"], transfer.get(back)["name"]) == ("Ann", "Again")
    assert transfer.get(twice[0])["version"] == 1
    assert transfer.get(gone)["deleted"] is True


def test_deleted_customers_come_back_where_it_is_asked_for(transfer: Transfer) -> None:
    gone = transfer.create("Ada", phone="1")
    transfer.service.delete(gone, ME)

    report = transfer.load([{"id": gone, "phone": "2"}], restore=True)

    assert actions(report) == {"restore": 1}
    assert (transfer.get(gone)["deleted"], transfer.get(gone)["phone"]) == (False, "2")
    event = transfer.events(gone)[0]
    assert (event["op"], event["version"], sorted(event["changed"])) == ("restored", 3, ["deleted", "phone"])


def test_a_plan_that_was_shown_is_applied_or_none(transfer: Transfer) -> None:
    one = transfer.create()
    file = [{"id": one, "name": "Grace"}, {"name": "New"}]
    shown = transfer.load(file, dry_run=True).plan

    transfer.service.replace(one, Fields("Somebody else's"), ME)
    with pytest.raises(PlanChanged):
        transfer.load(file, plan=shown)
    assert len(transfer.all()) == 1

    again = transfer.load(file, dry_run=True).plan
    assert again != shown
    assert actions(transfer.load(file, plan=again)) == {"update": 1, "create": 1}


def test_a_customer_that_changes_between_plan_and_writing_is_left_alone(
    transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [transfer.create(f"C{n}") for n in range(5)]
    meddled: list[int] = []
    save_many = transfer.store.customers.save_many

    def meddling(changes: Any, answer: Any = None) -> None:
        if not meddled:
            meddled.append(ids[2])
            transfer.service.replace(ids[2], Fields("Theirs"), ME)
        save_many(changes, answer)

    monkeypatch.setattr(transfer.store.customers, "save_many", meddling)
    report = transfer.load([{"id": each, "name": "Mine"} for each in ids])

    assert actions(report) == {"update": 4, "conflict": 1}
    assert [transfer.get(each)["name"] for each in ids] == ["Mine", "Mine", "Theirs", "Mine", "Mine"]
    assert codes(report) == [(3, "", "changed_meanwhile", None)]


def test_a_request_that_was_cut_off_goes_on_where_it_was(
    transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "CHUNK", 10)
    file = [{"name": f"C{n}"} for n in range(35)]
    caller = Caller("me", keyed=Keyed("me", "import-1", b"hash"))
    save_many = transfer.store.customers.save_many
    left = [2]

    def dying(changes: Any, answer: Any = None) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        save_many(changes, answer)

    monkeypatch.setattr(transfer.store.customers, "save_many", dying)
    with pytest.raises(KeyboardInterrupt):
        transfer.load(file, caller=caller)
    assert len(transfer.all()) == 20
    monkeypatch.setattr(transfer.store.customers, "save_many", save_many)

    second = transfer.load(file, caller=caller)
    third = transfer.load(file, caller=caller)

    assert (actions(second), second.resumed) == ({"create": 35}, 20)
    assert (actions(third), third.resumed) == ({"create": 35}, 35)
    assert second.plan == third.plan
    assert [customer["name"] for customer in transfer.all()] == [f"C{n}" for n in range(35)]


def test_a_key_is_good_for_one_file_only(transfer: Transfer) -> None:
    transfer.load([{"name": "A"}], caller=Caller("me", keyed=Keyed("me", "k", b"one")))

    with pytest.raises(KeyMismatch):
        transfer.load([{"name": "B"}], caller=Caller("me", keyed=Keyed("me", "k", b"other")))
    transfer.load([{"name": "C"}], caller=Caller("you", keyed=Keyed("you", "k", b"other")))
    assert [customer["name"] for customer in transfer.all()] == ["A", "C"]


def test_columns_of_a_csv_file_are_fields_or_entries_of_the_metadata(transfer: Transfer) -> None:
    one = transfer.create(metadata={"tier": "gold", "city": "Lima"})

    report = transfer.load(
        "id;Name;PHONE;metadata.city;metadata.note\r\n"
        f"{one};;'+49 30 1;;=1+1\r\n"
        ';"Müller; ""Jo""";;Genève;\r\n'.encode(),
        skip_errors=True,
    )

    assert codes(report) == [(2, "name", "required", None)]
    assert transfer.all()[1]["name"] == 'Müller; "Jo"'
    assert transfer.all()[1]["metadata"] == {"city": "Genève"}
    assert transfer.get(one)["version"] == 1

    transfer.load(f"id,phone,metadata.city\n{one},'+49 30 1,\n".encode())
    assert (transfer.get(one)["phone"], transfer.get(one)["metadata"]) == ("+49 30 1", {"tier": "gold"})


def test_a_file_that_is_wrong_as_a_whole_is_refused(transfer: Transfer) -> None:
    for file, code in (
        (b"", "no_heading"),
        (b"na\rme\nAda\n", "no_heading"),
        (b"name,age\nAda,7\n", "unknown_column"),
        (b"name,Name\nAda,7\n", "duplicate_column"),
        (b'name,phone\nAda\n"Unclosed,1\n', "unclosed_quote"),
    ):
        with pytest.raises(ValidationError) as refused:
            transfer.load(file)
        assert refused.value.errors[0].code == code

    report = transfer.load(b'name,phone\nAda\n"Ada"x,1\n', dry_run=True)
    assert [code for _, _, code, _ in codes(report)] == ["wrong_number_of_cells", "bad_csv"]


def test_customers_are_found_by_many_addresses_at_once(store: Store, transfer: Transfer) -> None:
    ids = [
        transfer.create(email=email) for email in ("a@example.org", "b@example.org", "a@example.org", None)
    ]
    transfer.service.delete(ids[2], ME)

    found = store.customers.get_by_emails(["a@example.org", "c@example.org", ""])

    assert [(stored.id, stored.deleted) for stored in found] == [(ids[0], False), (ids[2], True)]
    assert found[0] == store.customers.get(ids[0])
    assert store.customers.get_by_emails([]) == []


def test_a_version_in_a_row_protects_later_changes(transfer: Transfer) -> None:
    stale, fresh, same, gone = (transfer.create(f"C{n}") for n in range(4))
    rows = [{**each, "name": f"Mine {each['id']}"} for each in transfer.all()]
    rows[2]["name"] = "C2"
    transfer.service.replace(stale, Fields("Theirs"), ME)
    transfer.service.delete(gone, ME)
    table = "id,name,Version\n" + "".join(f"{r['id']},{r['name']},{r['version']}\n" for r in rows)

    for file, fmt, first in ((rows, "ndjson", 1), (table.encode(), "csv", 2)):
        planned = transfer.load(file, fmt, dry_run=True, restore=True)
        assert actions(planned) == {"conflict": 2, "update": 1, "same": 1}
        assert codes(planned) == [
            (first, "version", "version_mismatch", "1"),
            (first + 3, "version", "version_mismatch", "1"),
        ]
    done = transfer.load(rows, restore=True)

    assert actions(done) == {"conflict": 2, "update": 1, "same": 1}
    assert [transfer.get(each)["name"] for each in (stale, fresh, same)] == ["Theirs", f"Mine {fresh}", "C2"]
    # Done once more, nothing is overwritten either, and what is so already is no conflict.
    assert actions(transfer.load(rows)) == {"conflict": 1, "same": 2, "trashed": 1}


def test_a_version_is_none_where_it_is_empty_and_an_error_where_it_cannot_be_one(transfer: Transfer) -> None:
    one = transfer.create()
    wrong: list[Any] = ["x", "1.0", "-1", 0, True, 1.5, "9" * 30, [1]]

    report = transfer.load([{"name": "A", "version": each} for each in wrong], skip_errors=True)

    assert [code for _, _, code, _ in codes(report)] == ["bad_version"] * len(wrong)
    for name, value in (("B", None), ("C", "")):
        assert actions(transfer.load([{"id": one, "name": name, "version": value}])) == {"update": 1}
    assert actions(transfer.load([{"name": "New here", "version": 7}])) == {"create": 1}


@pytest.mark.parametrize("fmt", ["csv", "ndjson"])
def test_the_meaning_of_empty_cells_and_metadata_can_be_chosen(fmt: str, transfer: Transfer) -> None:
    def load(**options: Any) -> dict[str, Any]:
        one = transfer.create("A", email="a@example.org", phone="1", metadata={"a": 1, "b": None, "c": 3})
        row: Any = {"id": one, "name": "B", "email": "", "phone": None, "metadata": {"a": 2, "c": None}}
        text = f'id,name,email,phone,metadata\n{one},B,,,"{{""a"":2,""c"":null}}"\n'
        transfer.load(text.encode() if fmt == "csv" else [row], **options)
        return transfer.get(one)

    cleared, kept = load(), load(empty="keep")
    assert (cleared["email"], cleared["phone"]) == (None, None)
    assert (kept["email"], kept["phone"]) == ("a@example.org", "1")
    assert load(metadata="replace")["metadata"] == cleared["metadata"] == {"a": 2, "c": None}
    assert load(metadata="merge")["metadata"] == {"a": 2, "b": None}


def test_a_files_own_fault_is_refused_also_where_wrong_rows_are_left_out(transfer: Transfer) -> None:
    good = b"".join(b"N%d,1\r\n" % n for n in range(1500))

    for file, fmt in (
        (b'name,phone\r\nA,1\r\nB,"12\r\n' + good, "csv"),
        (b'{"name":"A"}\n{"name":"B","pho', "ndjson"),
    ):
        for dry in (True, False):
            with pytest.raises(ValidationError, match=r"line [23]"):
                transfer.load(file, fmt, skip_errors=True, dry_run=dry)
    assert transfer.all() == []


ODD_TEXTS = (
    "\ud800",
    " \udfff ",
    "A\udcffB" * 60,
    "\0",
    "\x1b[2J",
    "\u202e",
    "=1+1",
    "x" * 9999,
    "\U0001f98a" * 150,
)


def odd_rows(text: str) -> bytes:
    """Rows with this text in each place that a row has."""
    good: dict[str, Any] = {"name": "A"}
    rows: list[Any] = [
        text,
        *({**good, field: text} for field in ("name", "email", "phone", "metadata", "id", "version")),
        {**good, "email": f"{text}@example.com"},
        {**good, "email": text, "name": text},
        {**good, text: 1},
        *(
            {**good, "metadata": entry}
            for entry in ({text: 1}, {"k": text}, {"k": [text]}, {"k": {text: text}})
        ),
    ]
    return b"\n".join(json.dumps(row).encode() for row in rows)


@pytest.mark.parametrize("on", ["id", "email"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_any_text_in_any_place_is_reported_in_an_answer(transfer: Transfer, on: str, dry_run: bool) -> None:
    for text in ODD_TEXTS:
        report = transfer.load(odd_rows(text), "ndjson", on=on, skip_errors=True, dry_run=dry_run)

        assert sum(report.counts.values()) == 14
        assert report.wrong
        assert all(len(field) <= 100 for _, field, _, _ in codes(report))
        assert orjson.dumps(report.as_dict())
        with pytest.raises(ImportRefused) as refused:
            transfer.load(odd_rows(text), "ndjson", on=on)
        assert orjson.dumps(refused.value.report.as_dict())


def test_rows_find_their_customer_by_an_address_in_any_case(transfer: Transfer) -> None:
    ids = [transfer.create(name, email=email) for name, email in (("A", "Case@x.org"), ("Z", "zoë@x.org"))]

    report = transfer.load(
        [{"name": "A", "email": "cASE@x.org"}, {"name": "Z", "email": "ZOË@x.org"}], on="email"
    )

    assert actions(report) == {"update": 2}
    # Stored as it was given.
    assert [transfer.get(each)["email"] for each in ids] == ["cASE@x.org", "ZOË@x.org"]
    again = transfer.load(
        [{"name": "A", "email": "case@x.org"}, {"email": "CASE@x.org"}], on="email", dry_run=True
    )
    assert codes(again) == [(2, "email", "duplicate_row", "CASE@x.org")]


@pytest.mark.parametrize("restore", [False, True])
def test_two_of_one_address_are_ambiguous_whether_live_or_deleted(transfer: Transfer, restore: bool) -> None:
    for deleted in (False, True):
        address = f"{deleted}@x.org"
        for email in (address, address.upper()):
            customer_id = transfer.create(email=email)
            if deleted:
                transfer.service.delete(customer_id, ME)

        report = transfer.load([{"name": "B", "email": address}], on="email", restore=restore, dry_run=True)

        assert codes(report) == [(1, "email", "ambiguous", address)]


def test_a_live_customer_is_taken_before_deleted_ones_of_its_address(transfer: Transfer) -> None:
    gone = [transfer.create(email=email) for email in ("a@x.org", "A@x.org")]
    for customer_id in gone:
        transfer.service.delete(customer_id, ME)
    live = transfer.create("Old", email="a@X.org")

    transfer.load([{"name": "New", "email": "A@x.org"}], on="email")

    assert transfer.get(live)["name"] == "New"
