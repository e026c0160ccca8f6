"""Real files: every line is counted, and errors of the file are not errors of a row."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.domain.customers import Fields
from custsvc.errors import ValidationError
from custsvc.transfer import sheet
from custsvc.transfer.headings import Columns, fields_of
from custsvc.transfer.lines import LINE_MAX
from custsvc.transfer.meaning import Meaning
from custsvc.transfer.rows import SAMPLE, Format, look, read
from custsvc.transfer.shape import EMPTY, Shape, shape_of

HEAD = b"name,phone\r\n"
GOOD = b"".join(b"N%d,%d\r\n" % (n, n) for n in range(20_000))


def read_all(file: bytes, fmt: Format = "csv", **options: Any) -> tuple[list[Any], dict[str, int]]:
    """The rows, as their fields or the code of their error, and where the lines went."""
    reading = read(io.BytesIO(file), fmt, **options)
    rows = [(row.number, row.error.code if row.error else row.raw) for row in reading]
    return rows, reading.lines.as_dict()


def refusal(file: bytes, fmt: Format = "csv", **options: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as refused:
        read_all(file, fmt, **options)
    return refused.value.errors[0].code, refused.value.errors[0].message


@pytest.mark.parametrize("good", [b"", GOOD, b'"M\xc3\xbcller, Jo",5\r\n' * 3, b'"two\r\nlines",5\r\n' * 3])
@pytest.mark.parametrize("quote", [b'B,"12', b'"B,12', b'B,"', b'B," 1""2'])
def test_a_quote_that_is_not_closed_is_the_files_error_and_named_with_its_line(
    quote: bytes, good: bytes
) -> None:
    code, message = refusal(HEAD + b"A,1\r\n" + quote + b"\r\n" + good)

    assert code == "unclosed_quote"
    assert "line 3 " in message


def test_a_quote_that_swallows_rows_and_finds_another_is_the_files_error_too() -> None:
    assert "line 2 " in refusal(HEAD + b'B,"12\r\nC,"13",x\r\nD,4\r\n')[1]
    assert "line 3 " in refusal(HEAD + b'A,1\r\nB,"1\r\nC,2\r\nD",3,4,5\r\n')[1]


@pytest.mark.parametrize("columns", [None, ["name", "phone", ""], ["phone", "", "name"]])
def test_rows_that_quotes_took_in_are_seen_also_where_the_rest_is_a_table(columns: list[str] | None) -> None:
    head = b"name,phone,created_by\nA,1,x\n"

    for swallowed in (
        b'B,"2,y\nC,3,z\nD,4",w\n',
        b'B,"2,y\nC,3",z\n',
        b'"B,2,y\nC",3,z\n',
        b'B,2,"y\nC,3,z"\n',
    ):
        assert "line 3 " in refusal(head + swallowed + b"E,5,v\n", columns=columns)[1]
    honest = b'name,phone,created_by\n"B\nGmbH, Berlin",2,y\nE,5,v\n'
    rows, lines = read_all(honest, columns=columns)
    assert [row[0] for row in rows] == [2, 4]
    assert lines["rows"] == 3


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_ends_a_row(end: bytes) -> None:
    file = end.join([b"name,phone", b"A,1", b"", b" , ", b'"B\rb\nb\r\nb",2', b"C,3"])

    rows, lines = read_all(file)

    assert [row[1]["name"] for row in rows] == ["A", "B\rb\nb\r\nb", "C"]
    assert [row[0] for row in rows] == [2, 5, 9]
    assert lines == {"all": 9, "heading": 1, "empty": 2, "rows": 6}


def test_line_ends_may_be_mixed() -> None:
    rows, lines = read_all(b"name,phone\nA,1\r\nB,2\rC,3\n\r\nD,4\r\r\nE,5")

    assert [row[1]["name"] for row in rows] == ["A", "B", "C", "D", "E"]
    assert lines["all"] == lines["heading"] + lines["empty"] + lines["rows"] == 8


@given(
    st.lists(
        st.sampled_from(
            (
                b"A,1",
                b"",
                b",",
                b"A",
                b"A,1,2",
                b'"A\nB",1',
                b'"A""B",1',
                b"A\0,1",
                b"\xe9,1",
                b"=A,'=1",
                b'A"B,1',
            )
        ),
        max_size=12,
    ),
    st.sampled_from((b"\n", b"\r\n")),
    st.booleans(),
    st.sampled_from((b"", b"\xef\xbb\xbf")),
)
def test_every_line_of_a_table_is_counted_once(
    parts: list[bytes], end: bytes, closed: bool, mark: bytes
) -> None:
    file = mark + end.join([b"name,phone", *parts]) + (end if closed else b"")

    rows, lines = read_all(file)

    assert lines["all"] == len(file.splitlines())
    assert lines["all"] == lines["heading"] + lines["empty"] + lines["rows"]
    assert len(rows) == sum(part not in (b"", b",") for part in parts)


def test_cells_that_are_too_many_or_too_few_are_the_rows_error() -> None:
    rows, _ = read_all(HEAD + b"A\r\nB,1,2\r\nC,3\r\n")

    assert rows == [
        (2, "wrong_number_of_cells"),
        (3, "wrong_number_of_cells"),
        (4, {"name": "C", "phone": "3"}),
    ]


@pytest.mark.parametrize("sign", [b",", b";", b"\t"])
@given(beside=st.integers(0, 5), below=st.lists(st.integers(0, 8), min_size=1, max_size=5))
def test_empty_columns_that_a_spreadsheet_writes_at_the_end_are_left_out(
    sign: bytes, beside: int, below: list[int]
) -> None:
    parts = [sign.join([b"name", b"phone"]) + sign * beside]
    parts += [sign.join([b"A", b"%d" % number]) + sign * more for number, more in enumerate(below)]

    rows, _ = read_all(b"\r\n".join(parts))

    assert rows == [(n + 2, {"name": "A", "phone": str(n)}) for n in range(len(below))]


def test_a_cell_in_a_column_without_a_heading_is_never_lost() -> None:
    rows, head = b"A,1,\n" * SAMPLE, b"name,phone,\n"

    assert read_all(head + rows + b"B,2,x\n")[0][-1] == (SAMPLE + 2, "wrong_number_of_cells")
    assert refusal(head + b"B,2,x\n" + rows)[0] == "unknown_column"
    mapped = Columns.of(["#3=email"])
    assert read_all(head + rows + b"B,2,x\n", columns=mapped)[0][-1][1]["email"] == "x"


def test_a_quote_within_a_line_is_that_rows_affair() -> None:
    rows, lines = read_all(HEAD + b'5" pipe,1\r\n"5"x" pipe,2\r\n"5"" pipe",3\r\n')

    assert rows == [
        (2, {"name": '5" pipe', "phone": "1"}),
        (3, "bad_csv"),
        (4, {"name": '5" pipe', "phone": "3"}),
    ]
    assert lines["rows"] == 3


def test_a_cell_that_is_very_long_is_the_rows_error_and_a_line_that_is_the_files() -> None:
    long = b"x" * 140_000
    rows, _ = read_all(HEAD + long + b",1\r\nA,1\r\n")
    assert rows[0] == (2, "bad_csv")
    assert rows[1] == (3, {"name": "A", "phone": "1"})

    assert refusal(HEAD + b"A,1\r\n" + b"x" * LINE_MAX + b",1\r\n") == (
        "too_long",
        "line 3 is longer than 1,000,000 bytes",
    )
    assert refusal(b'{"name":"A"}\n' + b"x" * (LINE_MAX + 9) + b"\n", "ndjson")[0] == "too_long"


@pytest.mark.parametrize(
    "text", ["name,phone\r\nA,1\r\n".encode("utf-16"), "name,phone\r\nA,1\r\n".encode("utf-16-le")]
)
@pytest.mark.parametrize("fmt", ["csv", "ndjson"])
def test_another_encoding_of_the_whole_file_is_an_error(text: bytes, fmt: Format) -> None:
    assert refusal(text, fmt)[0] == "bad_utf8"


def test_a_heading_or_a_row_that_is_not_utf8_is_named() -> None:
    assert refusal("näme,phone\n".encode("latin-1"))[0] == "bad_utf8"
    rows, _ = read_all("name,phone\nMüller,1\nA,1\n".encode("latin-1"))
    assert rows == [(2, "bad_utf8"), (3, {"name": "A", "phone": "1"})]


def test_the_heading_may_have_a_mark_quotes_line_breaks_and_a_line_that_names_the_delimiter() -> None:
    for file in (
        b'\xef\xbb\xbf"name","phone"\nA,1\n',
        b'"name";phone\nA;1\n',
        b"sep=;\r\nname;phone\r\nA;1\r\n",
        b"name\tphone\rA\t1\r",
    ):
        rows, lines = read_all(file)
        assert [row[1] for row in rows] == [{"name": "A", "phone": "1"}], file
        assert lines["all"] == len(file.splitlines())
    wrapped = look(io.BytesIO(b'"First\nname","a; b",phone\n'), Shape("csv"))
    assert wrapped.heading == ["First\nname", "a; b", "phone"]
    assert refusal(b'"name,phone\nA,1\n')[0] == "no_heading"
    for nothing in (b"", b"\r\n", b"\xef\xbb\xbf", b"  \n;;\n\n", b"sep=;\n\n"):
        assert refusal(nothing)[0] == "no_heading"


@pytest.mark.parametrize(
    "above",
    [
        *(b"\n\n", b";;;\r\n \t\r\n", b"\xef\xbb\xbf\r\n\r\n", b"\nsep=;\n"),
        *(sign.encode() + b"\n" for sign in EMPTY if sign not in "\r\n"),
    ],
)
def test_empty_rows_above_the_heading_are_empty_and_rows_keep_their_numbers(above: bytes) -> None:
    file = io.BytesIO(above + b"name;e-mail;phone\nAda;;1\n\nBob;;2\n")

    shape = shape_of(file)
    reading = read(file, shape)
    rows = list(reading)

    assert shape.fmt == "csv"
    first, lines = above.count(b"\n") + 2, reading.lines.as_dict()
    assert [(row.number, row.raw["name"]) for row in rows] == [(first, "Ada"), (first + 2, "Bob")]
    assert lines["all"] == lines["heading"] + lines["empty"] + lines["rows"] == first + 2


@pytest.mark.parametrize("fmt", ["csv", "ndjson"])
def test_the_mark_at_the_end_of_a_text_is_no_row(fmt: Format) -> None:
    line = b"name\r\nAda\r\n" if fmt == "csv" else b'{"name":"Ada"}\r\n'
    for file in (line + b"\x1a", line.rstrip() + b"\x1a"):
        assert [row.raw for row in read(io.BytesIO(file), fmt)] == [{"name": "Ada"}]


@pytest.mark.parametrize(
    ("cell", "address"),
    [
        ("Ada Lovelace <ada@example.org>", "ada@example.org"),
        ('"""Lovelace, Ada"" <ada@example.org> "', "ada@example.org"),
        ("<ada@example.org>", "ada@example.org"),
        ("MailTo:ada@example.org", "ada@example.org"),
        ("Ada <mailto:ada@example.org>", "ada@example.org"),
        ("ada@example.org <", "ada@example.org <"),
        ("a <b@example.org> <c@example.org>", "a <b@example.org> <c@example.org>"),
    ],
)
def test_an_address_is_taken_out_of_its_name_or_link(cell: str, address: str) -> None:
    file = f"name,email\nAda,{cell}\n".encode()

    (row,) = read(io.BytesIO(file), "csv", Columns())

    assert (row.error, row.raw["email"]) == (None, address)


# -- NDJSON ------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from(
            (
                b'{"name":"A"}',
                b"",
                b"  ",
                b"[1]",
                b"1",
                b"null",
                b"{",
                b"}",
                b'{"a":1,"a":2}',
                b"\xff",
                b"NaN",
            )
        ),
        max_size=12,
    ),
    st.sampled_from((b"\n", b"\r\n", b"\r")),
    st.sampled_from((b"", b"\xef\xbb\xbf")),
)
def test_every_line_of_ndjson_is_counted_once(parts: list[bytes], end: bytes, mark: bytes) -> None:
    file = mark + b"".join(part + end for part in parts)

    rows, lines = read_all(file, "ndjson")

    assert lines["all"] == len(file.splitlines())
    assert lines["all"] == lines["empty"] + lines["rows"]
    assert len(rows) == sum(bool(part.strip()) for part in parts)


WHOLE = '{"name":"Ann","email":null,"metadata":{"a":"x}","ü":[]}}'.encode()


@pytest.mark.parametrize("size", range(1, len(WHOLE)))
def test_a_file_that_ends_in_the_middle_of_an_object_is_cut_off(size: int) -> None:
    code, message = refusal(b'{"name":"A"}\n' + WHOLE[:size], "ndjson")

    assert (code, "line 2" in message) == ("cut_off", True)


def test_a_last_line_that_is_only_wrong_is_the_rows_error() -> None:
    for last in (b"no json", b'{"name":}', b'["a"]', b'{"name":"A"} x}'):
        rows, _ = read_all(b'{"name":"A"}\n' + last, "ndjson")
        assert isinstance(rows[1][1], str), last
    assert read_all(b'{"name":"A"}', "ndjson")[0] == [(1, {"name": "A"})]


# -- columns -----------------------------------------------------------------------------------------------


def test_columns_with_the_same_heading_are_distinguished_by_their_place() -> None:
    heads = ["name", "Phone", "Phone", ""]

    assert fields_of(heads, ["name", "phone", "", ""]) == ["name", "phone", "", ""]
    assert fields_of(heads, ["name", "", "phone", "metadata.x"]) == ["name", "", "phone", "metadata.x"]
    rows, _ = read_all(b"name,Phone,Phone\nA,1,2\n", columns=["name", "phone", ""])
    assert rows == [(2, {"name": "A", "phone": "1"})]
    for chosen, code in (
        (["name", "phone", "phone", ""], "duplicate_column"),
        (["name", "what", "", ""], "unknown_column"),
        (["name"], "other_columns"),
        (None, "duplicate_column"),
    ):
        with pytest.raises(ValidationError) as refused:
            fields_of(heads, chosen)
        assert refused.value.errors[0].code == code
    with pytest.raises(ValidationError, match="column 4"):
        fields_of(heads, None)


# -- what a row means --------------------------------------------------------------------------------------


def test_null_entries_stay_unless_the_row_names_them() -> None:
    old = Fields("A", None, "1", {"a": None, "b": 1, "c": 2})
    row = {"metadata.b": None, "metadata.d": "x", "phone": None}

    assert Meaning().fields(row, old).metadata == {"a": None, "c": 2, "d": "x"}
    assert Meaning().fields(row, old).phone is None
    kept = Meaning(empty="keep").fields(row, old)
    assert (kept.metadata, kept.phone) == ({"a": None, "b": 1, "c": 2, "d": "x"}, "1")
    whole = {"name": "B", "metadata": {"b": None, "e": None, "f": 1}}
    assert Meaning().fields(whole, old).metadata == {"b": None, "e": None, "f": 1}
    assert Meaning().fields(whole, None).metadata == {"b": None, "e": None, "f": 1}
    merging = Meaning(metadata="merge")
    assert merging.fields(whole, old).metadata == {"a": None, "c": 2, "f": 1}
    assert merging.fields(whole, None).metadata == {"f": 1}
    both = {**whole, "metadata.f": None, "metadata.g": 2}
    assert Meaning().fields(both, old).metadata == {"b": None, "e": None, "g": 2}
    assert merging.fields(both, old).metadata == {"a": None, "c": 2, "g": 2}
    assert merging.fields({"metadata": None}, old).metadata == {}
    assert merging.fields({"name": "C"}, old).metadata == old.metadata


# -- cells that no spreadsheet runs ------------------------------------------------------------------------

SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
SPLITS = ";\t\r\n"
cells = st.text(SIGNS + SPLITS + "'\" \u00a0a1,", max_size=12) | st.text(max_size=12)


@given(cells)
def test_a_guarded_cell_is_read_back_and_begins_no_formula_even_if_it_is_split(text: str) -> None:
    cell = sheet.guarded(text)

    assert sheet.unguarded(cell) == text
    for part in _split(cell):
        assert part.lstrip(' "\u00a0')[:1] not in tuple(SIGNS)
    assert cell[:1] not in ("\t", "\r", "\n")


@given(st.dictionaries(cells.filter(bool), cells, max_size=4))
def test_metadata_begins_no_formula_where_it_may_be_split(metadata: dict[str, str]) -> None:
    cell = sheet._cell("metadata", metadata)

    assert (json.loads(cell) if cell else {}) == metadata
    for part in _split(cell):
        assert part.lstrip(' "\u00a0')[:1] not in tuple(SIGNS)


def _split(cell: str) -> list[str]:
    for sign in SPLITS:
        cell = cell.replace(sign, "\n")
    return cell.split("\n")
