"""Excel workbooks and vCards: every value as it was stored, and nothing that harms their readers."""

from __future__ import annotations

import datetime as dt
import io
import sys
import zipfile
from typing import Any

import openpyxl
import pytest

from custsvc.errors import ValidationError
from custsvc.transfer import workbook
from custsvc.transfer.headings import Columns
from custsvc.transfer.rows import Reading, look, read
from custsvc.transfer.shape import Asked, Shape, shape_of
from tests.transfer.styles import DATA

WORKBOOK = (DATA / "workbook.xlsx").read_bytes()
SKIP = Columns(others="skip")


def reading(content: bytes, columns: Columns | None = None, **asked: Any) -> Reading:
    source = io.BytesIO(content)
    return read(source, shape_of(source, Asked.of(**asked)), columns or Columns(others="metadata"))


def refusal(content: bytes, **asked: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        list(reading(content, **asked))
    return refused.value.errors[0].code


def book(rows: list[list[Any]], title: str = "A") -> bytes:
    made, out = openpyxl.Workbook(), io.BytesIO()
    made.active.title = title
    for row in rows:
        made.active.append(row)
    made.save(out)
    return out.getvalue()


def repacked(content: bytes, **parts: bytes) -> bytes:
    """A workbook with some of its parts replaced, or with more parts, named by their paths."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            key = name.rpartition("/")[2].partition(".")[0]
            new.writestr(name, parts.get(key, old.read(name)))
        for name, part in parts.items():
            if "." in name:
                new.writestr(name, part)
    return out.getvalue()


def test_every_row_of_a_sheet_is_counted_and_named_by_its_number() -> None:
    content = book([[], ["name", "phone"], ["A", "1"], [], ["B"], ["C", "3", None, "stray"], [None, " "]])

    found = reading(content)
    rows = list(found)

    assert [(row.number, row.error.code if row.error else row.raw) for row in rows] == [
        (3, {"name": "A", "phone": "1"}),
        (5, {"name": "B", "phone": None}),
        (6, "wrong_number_of_cells"),
        (7, {"name": None, "phone": " "}),
    ]
    assert found.lines.as_dict() == {"all": 7, "heading": 1, "empty": 2, "rows": 4}


def test_the_first_sheet_with_something_in_it_is_read_or_the_one_that_is_named() -> None:
    assert look(io.BytesIO(WORKBOOK), Shape("xlsx")).heading[:2] == ["Vorname", "Nachname"]
    assert look(io.BytesIO(WORKBOOK), Shape("xlsx", sheet="Numbers")).heading == ["name", "phone"]
    assert refusal(WORKBOOK, sheet="Nobody") == "unknown_sheet"
    assert refusal(book([])) == "no_heading"
    assert refusal(WORKBOOK, sheet="Notes") == "no_heading"


def test_numbers_keep_the_digits_that_excel_stored_and_lost_digits_are_called_out() -> None:
    rows = list(reading(WORKBOOK, sheet="Numbers"))

    assert rows[0].raw == {"name": "As a number", "phone": "442079460000"}
    assert [[warning.code for warning in row.warnings] for row in rows] == [
        [],
        ["spoilt_number"],
        ["spoilt_number"],
        [],
    ]
    # The formula was never calculated, so it has no value.
    assert rows[3].raw == {"name": "An error", "phone": None}


VALUES = (
    *("a", " b", "ü\u4e00", "two\nlines", "0044", "'=1", "1,5"),
    *(0, -7, 44, 10**15 - 1, -(10**15) + 1, 442079460000.0, 1.5, 0.1 + 0.2, True, False),
    *(dt.date(2026, 3, 1), dt.datetime(2026, 3, 1, 12, 30, 5), dt.time(9, 30)),  # noqa: DTZ001 - Excel knows no zones
)
TEXTS = (
    *("a", " b", "ü\u4e00", "two\nlines", "0044", "=1", "1,5"),
    *("0", "-7", "44", "999999999999999", "-999999999999999", "442079460000", "1.5", "0.3", "true", "false"),
    *("2026-03-01", "2026-03-01 12:30:05", "09:30:00"),
)


def test_the_cells_of_a_sheet_are_read_as_text() -> None:
    rows: list[list[Any]] = [["name", "metadata.a"], *(["N", value] for value in VALUES)]

    assert [row.raw["metadata.a"] for row in reading(book(rows))] == list(TEXTS)


def test_a_file_that_is_no_workbook_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")

    assert refusal(out.getvalue()) == "bad_workbook"
    assert refusal(WORKBOOK[: len(WORKBOOK) // 2]) == "bad_workbook"
    assert refusal(b"PK\x03\x04" + b"x" * 100) == "bad_workbook"
    for part in ("workbook", "sheet2", "styles"):
        assert refusal(repacked(WORKBOOK, **{part: b"<broken"})) == "bad_workbook", part


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "UNPACKED_MAX", 1_000_000)
    assert refusal(repacked(WORKBOOK, styles=b" " * 2_000_000)) == "too_large"
    monkeypatch.setattr(workbook, "TEXTS_MAX", 100)
    assert refusal(repacked(WORKBOOK, **{"xl/sharedStrings.xml": b" " * 200})) == "too_large"


def test_entities_of_xml_are_refused() -> None:
    laughs = b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
    for part, body in (
        ("workbook", b'<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"/>'),
        ("sheet2", b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"/>'),
    ):
        assert refusal(repacked(WORKBOOK, **{part: laughs + body})) == "bad_workbook", part


def test_a_cell_far_out_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    cell = '<c r="{0}{1}" t="inlineStr"><is><t>{2}</t></is></c>'
    rows = "".join(
        f'<row r="{n}">{cell.format("A", n, "name" if n == 1 else n)}{cell.format("XFD", n, "far")}</row>'
        for n in range(1, 200)
    )
    sheet = f'<worksheet xmlns="{name}"><sheetData>{rows}</sheetData></worksheet>'

    found = list(reading(repacked(book([["name"]]), sheet1=sheet.encode())))

    assert len(found) == 198
    assert found[0].raw == {"name": "2"}


def test_without_the_extra_a_workbook_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)

    with pytest.raises(ValidationError, match=r"custsvc\[xlsx\]"):
        list(reading(WORKBOOK))


# -- vCards ------------------------------------------------------------------------------------------------


def card(*lines: str, version: str = "4.0") -> bytes:
    return "\r\n".join(["BEGIN:VCARD", f"VERSION:{version}", *lines, "END:VCARD", ""]).encode()


def test_a_card_without_a_name_is_named_by_its_parts_or_company() -> None:
    for lines, name in (
        (("N:Lee;Ann;M.;Dr.;",), "Ann M. Lee"),
        (("FN: ", "N:Lee;Ann"), "Ann Lee"),
        (("N:;;;;", "ORG:Lee \\; Sons;Sales"), "Lee ; Sons;Sales"),
        (("EMAIL:a@example.com",), None),
    ):
        (row,) = reading(card(*lines))
        assert row.raw.get("name") == name, lines


def test_unknown_properties_go_into_the_metadata_and_skipped_ones_are_named() -> None:
    content = card("FN:A", "TEL:1", "TEL:2", "TITLE:Chief", "X-THING:1", "NOTE:a\\nb", "ADR:;;S\\; 1;C;;;")

    found = reading(content)
    (row,) = found
    columns = {each["column"]: each["field"] for each in found.look.as_dict()["columns"]}

    assert row.raw == {
        "name": "A",
        "phone": "1",
        "metadata.phone 2": "2",
        "metadata.title": "Chief",
        "metadata.note": "a\nb",
        "metadata.street": "S; 1",
        "metadata.city": "C",
    }
    assert columns | {"FN": "name", "TEL": "phone", "X-THING": None, "TITLE": "metadata.title"} == columns
    (row,) = reading(content, SKIP)
    assert row.raw == {"name": "A", "phone": "1"}
    (row,) = reading(content, Columns.of(["phone=metadata.tel", "metadata.phone 2=phone"]))
    assert (row.raw["phone"], row.raw["metadata.tel"]) == ("2", "1")


@pytest.mark.parametrize("encoding", ["ENCODING=BASE64", "BASE64", "ENCODING=b"])
def test_a_photo_whose_lines_are_not_folded_is_left_out(encoding: str) -> None:
    photo = f"PHOTO;TYPE=JPEG;{encoding}:/9j/4AAQSkZJRg\r\nABAQAAAQABAAD+\r\n/wcARCA==\r\n\r\n"
    card = f"BEGIN:VCARD\r\nVERSION:2.1\r\nFN:Ada\r\n{photo}EMAIL;PREF:Ada <ada@example.org>\r\nEND:VCARD\r\n"

    (row,) = read(io.BytesIO(card.encode()), "vcard")

    assert (row.error, row.raw) == (None, {"name": "Ada", "email": "ada@example.org"})


def test_a_broken_card_is_its_rows_error_and_a_file_that_ends_within_one_the_files() -> None:
    content = (
        card("FN:A")
        + b"\r\nstray\r\n"
        + card("no property")
        + card("FN:B\xff".encode("latin-1").decode("latin-1"))
    )

    found = reading(content, encoding="utf-8")
    rows = list(found)

    assert [(row.number, row.error.code if row.error else row.raw["name"]) for row in rows] == [
        (1, "A"),
        (6, "bad_vcard"),
        (7, "bad_vcard"),
        (11, "B\xff"),
    ]
    assert found.lines.as_dict() == {"all": 14, "heading": 0, "empty": 1, "rows": 13}
    assert refusal(card("FN:A") + b"BEGIN:VCARD\r\nFN:B\r\n") == "cut_off"
    (row,) = reading(b"BEGIN:VCARD\r\nFN:M\xfcller\r\nEND:VCARD\r\n", encoding="utf-8")
    assert row.error is not None
    assert row.error.code == "bad_utf8"
    (row,) = reading(b"BEGIN:VCARD\r\nFN:M\xfcller\r\nEND:VCARD\r\n")
    assert row.raw["name"] == "Müller"
