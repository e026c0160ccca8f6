"""Exports: every customer of a filter once, byte for byte, in constant memory; CSV that is no formula."""

from __future__ import annotations

import csv
import io
import tracemalloc
from typing import Any

import orjson
import pytest

from custsvc.domain.customers import Fields
from custsvc.errors import TemporaryError
from custsvc.ports.customers import CustomerFilter
from custsvc.ports.store import Store
from custsvc.transfer import export, sheet
from custsvc.transfer.rows import read
from custsvc.transfer.seed import seed_customers

from .conftest import ME, Transfer

# Names that a spreadsheet would run as a formula, and names that look alike.
EVIL = [
    "=1+1",
    "+49 30 1234",
    "-2",
    "@SUM(A1)",
    "'=1",
    "''+1",
    "'quoted'",
    "a=b",
    'with "quotes", and commas',
    '"},{"id":7',
    "'",
    "semi;colon",
    "Ünï çødé 🎉",
]


def test_every_format_holds_every_customer_once_in_order(transfer: Transfer) -> None:
    ids = [transfer.create(f"C{n}", metadata={"n": n}) for n in range(450)]
    transfer.service.delete(ids[7], ME)
    live = [each for each in ids if each != ids[7]]

    array = orjson.loads(transfer.export("json"))
    lines = [orjson.loads(line) for line in transfer.export("ndjson").splitlines()]
    table = list(csv.DictReader(io.StringIO(transfer.export("csv").decode(), newline="")))

    assert [each["id"] for each in array] == live
    assert lines == array
    assert [int(each["id"]) for each in table] == live
    assert transfer.export("ndjson").splitlines()[0] == transfer.store.customers.get(ids[0]).doc  # type: ignore[union-attr]
    assert len(transfer.all()) == 450


def test_an_export_of_nothing_is_an_empty_file_of_its_format(transfer: Transfer) -> None:
    assert orjson.loads(transfer.export("json")) == []
    assert transfer.export("ndjson") == b""
    assert transfer.export("csv").decode().strip() == ",".join(sheet.COLUMNS)


def test_filters_sort_and_fields_are_those_of_the_list(transfer: Transfer) -> None:
    for name in ("Berta", "Anna", "Bruno"):
        transfer.create(name)
    where = CustomerFilter(name_prefix="B")

    assert transfer.export("csv", where, sort="name", descending=True, fields=["name"]) == (
        b"name\r\nBruno\r\nBerta\r\n"
    )
    assert transfer.export("ndjson", where, fields=["name"]) == b'{"name":"Berta"}\n{"name":"Bruno"}\n'
    assert transfer.export("json", where, fields=["name"]) == b'[{"name":"Berta"},{"name":"Bruno"}]\n'


def test_no_cell_is_a_formula_and_an_import_gives_back_every_value(transfer: Transfer) -> None:
    """S17."""
    for text in EVIL:
        transfer.create(text, phone=text[:40], metadata={"text": text, "lines": "=a\r\nb\t\n"})
    before = transfer.all()

    # Without the version, so that it may overwrite what was changed since.
    editable = ("id", "name", "email", "phone", "metadata")
    exported = transfer.export("csv", fields=editable)
    table = list(csv.reader(io.StringIO(exported.decode(), newline="")))
    for each in before:
        transfer.service.replace(each["id"], Fields("Changed"), ME)
    report = transfer.load(exported)

    assert not any(cell[:1] and cell[0] in "=+-@\t\r" for row in table for cell in row)
    assert report.counts["update"] == len(EVIL)
    assert [[each[name] for name in editable] for each in transfer.all()] == [
        [each[name] for name in editable] for each in before
    ]


def test_ndjson_comes_back_too(transfer: Transfer) -> None:
    for text in EVIL:
        transfer.create(text, metadata={"text": text})

    report = transfer.load(transfer.export("ndjson"), "ndjson")

    assert report.counts["same"] == len(EVIL)
    assert sum(report.counts.values()) == len(EVIL)


def test_csv_for_a_spreadsheet_has_its_mark_delimiter_and_columns(transfer: Transfer) -> None:
    transfer.create("Zoë; =1", metadata={"city": "Köln", "n": 3, "flag": True, "a,b": "x"})
    fields = ["name", "metadata.city", "metadata.n", "metadata.flag", "metadata.a,b", "metadata.none"]

    file = transfer.export("csv", fields=fields, dialect=sheet.Dialect(";", mark=True))
    report = transfer.load(file)

    heading, row = csv.reader(io.StringIO(file.decode("utf-8-sig"), newline=""), delimiter=";")
    assert file.startswith(b"\xef\xbb\xbf")
    assert heading == fields
    assert row == ["Zoë; '=1", "Köln", "3", "true", "x", ""]
    assert report.counts["create"] == 1
    assert transfer.all()[1]["metadata"] == {"city": "Köln", "n": "3", "flag": "true", "a,b": "x"}


def test_vcards_come_back_as_the_same_people(transfer: Transfer) -> None:
    for text in (*EVIL, "two\nlines", "x" * 200, "\u4e00" * 100):
        name = text.replace("\n", " ")
        transfer.create(
            name, email="a@example.org", phone="+49 30 1", metadata={"company": text, "city": text}
        )
    people = transfer.all()

    file = transfer.export("vcard")
    again = list(read(io.BytesIO(file), "vcard"))

    assert max(len(line) for line in file.split(b"\r\n")) <= 75
    assert [row.raw for row in again] == [
        {
            **{name: each[name].strip() for name in ("name", "email", "phone")},
            "metadata.company": each["metadata"]["company"].strip(),
            "metadata.city": each["metadata"]["city"],
        }
        for each in people
    ]


def test_a_short_outage_does_not_end_an_export(transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(250):
        transfer.create(f"C{n}")
    monkeypatch.setattr("custsvc.transfer.export.time.sleep", lambda _: None)
    find, calls = transfer.store.customers.find, []

    def failing(query: Any) -> Any:
        calls.append(query)
        if len(calls) in (1, 3, 4):
            raise TemporaryError(dependency="postgres")
        return find(query)

    monkeypatch.setattr(transfer.store.customers, "find", failing)

    assert len(orjson.loads(transfer.export("json"))) == 250
    assert len(calls) == 5


def test_an_export_needs_no_more_memory_for_more_customers(store: Store) -> None:
    seed_customers(store.customers, 6000, 1)
    for fmt in export.FORMATS:
        peaks = []
        for sort in ("id", "name"):
            tracemalloc.start()
            size = sum(map(len, export.export(store.customers, fmt, sort=sort)))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert size > 600_000
        assert max(peaks) < 3_000_000, fmt
