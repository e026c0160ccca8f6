"""The file of wrong rows: what import reads in it is what it read in the file that they come from."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.errors import ValidationError
from custsvc.transfer.headings import WRONG, Columns
from custsvc.transfer.rows import read
from custsvc.transfer.shape import Shape, shape_of
from custsvc.transfer.wrong import wrong_rows

DATA = Path(__file__).parents[1] / "data"
HEADING = ["name", "email", "metadata", "metadata.note", "metadata.Nr"]
SIGNS = "aé0 '\"=+-@,;|\t\n"
CELLS = st.one_of(
    st.text(SIGNS, max_size=6), st.sampled_from(['="0044"', "4.42079E+11", "'=1", "''+1", "#N/A"])
)
OBJECTS = st.dictionaries(st.text(SIGNS, max_size=3), st.text(SIGNS, max_size=6), max_size=2).map(json.dumps)
ROWS = st.lists(
    st.tuples(CELLS, CELLS, OBJECTS | st.sampled_from(["", "{", "x", "[1]"]), CELLS, CELLS),
    min_size=1,
    max_size=8,
)


def rows_of(content: bytes, shape: Shape | None = None) -> list[Any]:
    """The rows as import reads them: fields, error and warnings, and the line at which each begins."""
    shape = shape or shape_of(io.BytesIO(content), name="x.csv")
    return list(read(io.BytesIO(content), shape, Columns(others="metadata")))


def given_back(content: bytes, shape: Shape, wrong: dict[int, str], fields: list[str] = HEADING) -> bytes:
    return b"".join(wrong_rows(io.BytesIO(content), shape, fields, wrong))


@given(ROWS, st.sampled_from(",;\t|"), st.sets(st.integers(0, 7)))
def test_a_row_that_is_given_back_is_read_as_before(
    rows: list[tuple[str, ...]], sign: str, chosen: set[int]
) -> None:
    out = io.StringIO()
    # A last cell that is not empty: a line of nothing else is no row.
    csv.writer(out, delimiter=sign).writerows([HEADING, *[(*row[:4], row[4] + "x") for row in rows]])
    content, shape = out.getvalue().encode(), Shape("csv", delimiter=sign)
    try:
        before = rows_of(content, shape)
    except ValueError:
        return  # one that swallows its neighbours: an error of the whole file
    wanted = [row for place, row in enumerate(before) if place in chosen]

    again = rows_of(given_back(content, shape, {row.number: "=wrong" for row in wanted}))

    assert [(row.raw, row.error, row.warnings) for row in again] == [
        (row.raw, row.error, row.warnings) for row in wanted
    ]


def test_each_row_says_what_is_wrong_and_no_cell_runs_in_a_spreadsheet() -> None:
    content = b'name;email\nAnn;=cmd()\nBob;"b" x;y\nEve;1;2;3\n'

    back = given_back(content, Shape("csv", delimiter=";"), {2: "=bad", 3: "not CSV", 4: "cells"})

    assert back.startswith(b"\xef\xbb\xbf")
    assert list(csv.reader(io.StringIO(back.decode("utf-8-sig")), delimiter=";")) == [
        [WRONG, "name", "email"],
        ["'=bad", "Ann", "'=cmd()"],
        ["not CSV", "Bob", '"b" x', "y"],
        ["cells", "Eve", "1", "2", "3"],
    ]


@pytest.mark.parametrize("name", ["workbook.xlsx", "excel_french.txt", "outlook.csv", "google.csv"])
def test_rows_of_any_table_come_back_with_all_their_cells(name: str) -> None:
    content = (DATA / name).read_bytes()
    shape = shape_of(io.BytesIO(content), name=name)
    before = rows_of(content, shape)
    fields = read(io.BytesIO(content), shape, Columns(others="metadata"))
    next(fields)

    back = given_back(content, shape, {row.number: "x" for row in before}, fields.look.fields)

    assert [row.raw for row in rows_of(back)] == [row.raw for row in before]


LINES = st.sampled_from(
    [
        *(
            "FN:Ann",
            "EMAIL:ann@example.org",
            "EMAIL:nobody",
            "NOTE:a\\, b",
            " goes on",
            "TEL;TYPE=CELL:1 2",
            "no property",
        ),
        *(
            "N;ENCODING=QUOTED-PRINTABLE:Jos=",
            "=C3=A9",
            "X-CUSTSVC-WRONG:old",
            "VERSION:2.1",
            "UID:1",
            "NOTE:\udcff",
        ),
        *("BEGIN:VCARD", "end:vcard", "", "AGENT:"),
    ]
)


@given(
    st.lists(st.lists(LINES, max_size=6), max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.sets(st.integers(0, 7)),
)
def test_a_card_that_is_given_back_is_read_as_before(
    cards: list[list[str]], end: str, chosen: set[int]
) -> None:
    lines = [line for card in cards for line in ("BEGIN:VCARD", *card, "END:VCARD")]
    content, shape = end.join(lines).encode("utf-8", "surrogateescape"), Shape("vcard")
    try:
        before = rows_of(content, shape)
    except ValidationError:
        return  # a card within a card that does not end: an error of the whole file
    wanted = [row for place, row in enumerate(before) if place in chosen]

    once = given_back(content, shape, {row.number: "E-mail,\nis; wrong" for row in wanted})
    again = rows_of(once, shape)

    assert [(row.raw, row.error) for row in again] == [(row.raw, row.error) for row in wanted]
    assert given_back(once, shape, {row.number: "E-mail,\nis; wrong" for row in again}) == once


def test_a_card_says_what_is_wrong_with_it() -> None:
    content = (DATA / "contacts.vcf").read_bytes()

    back = given_back(content, Shape("vcard"), {1: "E-mail is taken", 25: "no"}).decode()

    assert back.count("BEGIN:VCARD") == back.count("END:VCARD") == 2
    assert "BEGIN:VCARD\r\nVERSION:3.0\r\nX-CUSTSVC-WRONG:E-mail is taken\r\nPRODID" in back
    assert "PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQSkZJRgABAQ\r\n AAAQABAAD" in back


def test_objects_come_back_one_on_each_line_as_they_were() -> None:
    array = b'[{"name": "Ann",\n "n": 1e400},\n 7, {"name": "Bob"}]'

    back = given_back(array, Shape("json"), {1: "x", 3: "x"})

    assert [re.sub(rb"\s+", b" ", line) for line in back.splitlines()] == [
        b'{"name": "Ann", "n": 1e400}',
        b"7",
        b'{"name": "Bob"}',
    ]
