"""Files of other programs: whatever encoding, delimiter and headings, the people in them come out."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custsvc.errors import ValidationError
from custsvc.transfer import headings
from custsvc.transfer.encodings import CANDIDATES, encoding_of
from custsvc.transfer.headings import Columns, fields_of, fold, guessed
from custsvc.transfer.rows import Format, look, read
from custsvc.transfer.shape import Asked, Shape, shape_of
from tests.transfer.styles import DATA, PEOPLE, STYLES

WORDS = {field: words.split() for field, words in headings._WORDS.items()}
WESTERN = (
    *("Zoë Müller", "José García López", "Jürgen Groß", "François Lefèvre", "Søren Ångström", "Ñandú Peña"),
    *("Élodie Hébert", "João Gonçalves", "Weiß & Söhne", "Ann O'Brien"),
)
# Names that a list in each of these encodings has.
NAMES: dict[str, tuple[str, ...]] = {
    "cp1252": WESTERN,
    "cp850": WESTERN,
    "mac_roman": WESTERN,
    "cp1250": (
        "Łukasz Wiśniewski",
        "Jiří Dvořák",
        "Žaneta Šťastná",
        "Grzegorz Brzęczyszczykiewicz",
        "Kőrösi Csaba",
    ),
    "iso8859_2": ("Łukasz Wiśniewski", "Grażyna Śliwińska", "Kőrösi Csaba", "Błażej Gołąb"),
    "cp1254": ("Ayşe Yılmaz", "Gökhan Öztürk", "İbrahim Çelik", "Elif Şahin"),
    "cp1251": ("Иван Петров", "Ольга Смирнова", "Сергей Иванов", "Наталья Кузнецова"),
    "koi8_r": ("Иван Петров", "Ольга Смирнова", "Сергей Иванов", "Наталья Кузнецова"),
    "cp1253": ("Γιώργος Παπαδόπουλος", "Ελένη Νικολάου", "Κώστας Αλεξίου"),
    "cp932": ("山田太郎", "佐藤花子", "鈴木一郎", "たかはし めい"),
    "gb18030": ("王小明", "李娜", "张伟", "刘洋"),
    "big5": ("陳大文", "林美玲", "黃志明"),
    "cp949": ("김철수", "이영희", "박지성", "최민수"),
}
MARKED = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be")


def rows_of(
    file: bytes, name: str = "", columns: Columns | None = None, **asked: Any
) -> list[dict[str, Any]]:
    source = io.BytesIO(file)
    reading = read(source, shape_of(source, Asked.of(**asked), name), columns or Columns(others="metadata"))
    rows = list(reading)
    assert [row.error for row in rows if row.error] == []
    return [row.raw for row in rows]


def table(rows: list[list[str]], delimiter: str, quoting: Any = csv.QUOTE_MINIMAL, end: str = "\r\n") -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows(rows)
    return out.getvalue()


@settings(max_examples=40)
@given(st.data())
def test_people_come_out_of_any_dialect_encoding_and_headings(data: st.DataObject) -> None:
    draw = data.draw
    encoding = draw(st.sampled_from((*MARKED, "cp1252", "cp850", "mac_roman")))
    people = draw(st.lists(st.sampled_from(WESTERN), min_size=1, max_size=8))
    # Names by which an encoding is recognised.
    people += ["Zoë Müller", "José Peña"]
    name = draw(st.sampled_from([w for w in WORDS["name"] if w not in ("nom", "nombre")]))
    heads = [name, draw(st.sampled_from(WORDS["email"])), draw(st.sampled_from(WORDS["phone"]))]
    order = draw(st.permutations(range(3)))
    rows = [[person, f"a{n}@example.com", f"+49 30 {n}"] for n, person in enumerate(people)]
    text = table(
        [[row[place] for place in order] for row in [heads, *rows]],
        draw(st.sampled_from(",;\t|")),
        draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))),
        draw(st.sampled_from(("\r\n", "\n", "\r"))),
    )

    found = rows_of(text.encode(encoding), "people.csv")

    assert [[row["name"], row["email"], row["phone"]] for row in found] == rows


@pytest.mark.parametrize("encoding", NAMES)
def test_the_encoding_is_recognised_by_the_names_in_a_file(encoding: str) -> None:
    lines = ["name,email"]
    for n in range(40):
        names = (*NAMES[encoding], "Peter Smith")
        lines.append(f"{names[n % len(names)]},a{n}@example.com")
    file = "\r\n".join(lines).encode(encoding)

    found = encoding_of(io.BytesIO(file))

    assert found in CANDIDATES
    assert file.decode(found) == file.decode(encoding)


def test_a_file_of_utf8_with_a_broken_row_is_utf8_and_the_row_is_named() -> None:
    file = "name\nZoë\nJürgen\nM".encode() + b"\xfc" + b"ller\n"
    source = io.BytesIO(file)

    shape = shape_of(source)
    rows = list(read(source, shape))

    assert shape.encoding == "utf-8"
    assert [row.error.code if row.error else row.raw["name"] for row in rows] == ["Zoë", "Jürgen", "bad_utf8"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "idna"])
def test_a_file_that_is_not_of_the_encoding_at_all_is_refused(encoding: str) -> None:
    with pytest.raises(ValidationError, match=r"is not|is no encoding"):
        rows_of("name\nZoë\n".encode(), encoding=encoding)


def test_bytes_outside_the_given_encoding_are_an_error_of_their_row() -> None:
    for encoding, text in (("cp1252", b"name\nA\n\x81\nB\n"), ("shift_jis", b"name\nA\n\xfd\xfd\nB\n")):
        source = io.BytesIO(text)
        rows = list(read(source, shape_of(source, Asked.of(encoding=encoding))))

        assert [row.error.code if row.error else "" for row in rows] == ["", "bad_utf8", ""]
        assert "UTF-8" in (rows[1].error.message if rows[1].error else "")


@given(st.binary(max_size=300), st.sampled_from(("", "-", "a.csv", "a.json", "a.vcf", "a.txt", "a.xlsx")))
def test_no_content_is_too_odd_to_be_read_or_refused(content: bytes, name: str) -> None:
    source = io.BytesIO(content)
    try:
        list(read(source, shape_of(source, None, name), Columns(others="metadata")))
    except ValidationError as exc:
        assert exc.errors[0].message


def test_the_format_is_that_of_the_content_whatever_the_name() -> None:
    expected: tuple[tuple[bytes, str, Format], ...] = (
        (b'[{"name":"A"}]', "a.txt", "json"),
        (b'\xef\xbb\xbf {"name":"A"}\n', "a.json", "ndjson"),
        (b"name,email\n", "-", "csv"),
        (b"no json\n", "-", "ndjson"),
        (b'{"name":"A"}\n', "-", "ndjson"),
        ("name\n".encode("utf-16"), "a.txt", "csv"),
        ('[{"name":"A"}]'.encode("utf-16"), "a.json", "json"),
        (b"{name\nA\n", "a.csv", "csv"),
        (b"PK\x03\x04 and so on", "a.csv", "xlsx"),
        (b"begin:vcard\r\n", "a.txt", "vcard"),
    )
    for content, name, fmt in expected:
        assert shape_of(io.BytesIO(content), None, name).fmt == fmt, (content, name)
        assert shape_of(io.BytesIO(content), Asked.of("ndjson"), name).fmt == "ndjson"
    with pytest.raises(ValidationError, match=r"\.xls"):
        shape_of(io.BytesIO(b"\xd0\xcf\x11\xe0\xa1\xb1"), None, "a.csv")


@pytest.mark.parametrize("style", STYLES)
def test_each_style_gives_the_same_people(style: str) -> None:
    source = io.BytesIO((DATA / style).read_bytes())
    encoding, metadata = STYLES[style]

    reading = read(source, shape_of(source, None, style), Columns(others="metadata"))
    rows = list(reading)

    assert [(r.raw["name"], r.raw["email"], r.raw["phone"]) for r in rows] == PEOPLE
    assert reading.look.as_dict()["encoding"] == encoding
    whole = {f"metadata.{key}": value for key, value in (rows[0].raw.get("metadata") or {}).items()}
    assert {f"metadata.{k}": v for k, v in metadata.items()}.items() <= {**whole, **rows[0].raw}.items()


# -- columns -----------------------------------------------------------------------------------------------


def test_every_word_of_the_table_is_one_that_folding_gives() -> None:
    words = [word for each in WORDS.values() for word in each]

    assert [word for word in words if fold(word) != word] == []
    assert len(words) == len(set(words)) + len(set(WORDS["name"]) & set(WORDS["last_name"]))


@pytest.mark.parametrize(
    ("heads", "fields"),
    [
        ("Vorname;Nachname;E-Mail", "first_name last_name email"),
        ("Name;Vorname;Tel.", "last_name first_name phone"),
        ("Nom;Prénom;Courriel", "last_name first_name email"),
        ("Nombre;Apellidos;Correo electrónico", "first_name last_name email"),
        ("Nom;Adresse e-mail;Téléphone", "name email phone"),
        ("Nombre;Teléfono", "name phone"),
        ("Name;First name;Last name", "name first_name last_name"),
        ("Given Name;Additional Name;Family Name", "first_name middle_name last_name"),
        ("E-mail 1 - Value;Phone 1 - Value;Phone 1 - Label", "email phone -"),
        ("name;Full name;email;Mail", "name - email -"),
        ("id;Version;METADATA;metadata.Größe;Deleted", "id version metadata metadata.Größe deleted"),
    ],
)
def test_headings_are_known_by_their_words_and_by_what_stands_beside_them(heads: str, fields: str) -> None:
    found = guessed(heads.split(";"))

    assert [field or "-" for field in found] == fields.split()


def test_of_two_columns_for_a_field_the_fuller_one_has_it() -> None:
    heads = ["Phone", "Mobile Phone", "E-mail Address", "E-mail"]
    sample = [["", "1", "a@x.org", ""], ["2", "3", "b@x.org", "c@x.org"]]

    assert guessed(heads) == ["phone", None, None, "email"] or guessed(heads)[0] == "phone"
    assert guessed(["Home Phone", "Mobile Phone"], [["", "1"], ["2", "3"]]) == [None, "phone"]
    assert guessed(["Home Phone", "Mobile Phone"]) == [None, "phone"]
    assert guessed(heads, sample)[0] == "phone"  # our own name comes first


def test_a_column_is_mapped_by_its_heading_or_place_and_unmapped_ones_as_chosen() -> None:
    heads = ["Name", "Ref.", "Ref.", "Phone Number", ""]

    def fields(others: str, *pairs: str) -> list[str]:
        return fields_of(heads, Columns.of(pairs, others))

    assert fields("skip") == ["name", "", "", "phone", ""]
    assert fields("metadata", "#2=metadata.ref") == [
        *("name", "metadata.ref", "metadata.Ref_", "phone", "metadata.column 5"),
    ]
    assert fields("skip", "phone number=metadata.tel", "#3=phone") == [
        "name",
        "",
        "phone",
        "metadata.tel",
        "",
    ]
    assert fields("skip", "Name=", "#4=name") == ["", "", "", "name", ""]
    for pairs, code in (
        (("Ref.=phone",), "unknown_column"),
        (("#6=phone",), "unknown_column"),
        (("Other=phone",), "unknown_column"),
        (("#2=name",), "duplicate_column"),
    ):
        with pytest.raises(ValidationError) as refused:
            fields("skip", *pairs)
        assert refused.value.errors[0].code == code
    with pytest.raises(ValidationError, match="--others"):
        fields_of(heads)


def test_a_mapping_that_cannot_be_meant_is_refused() -> None:
    for pairs in (["phone"], ["=phone"], ["A=age"], ["A=deleted"], ["A=phone", "A=name"], ["A=metadata."]):
        with pytest.raises(ValidationError):
            Columns.of(pairs)
    assert Columns.of(["a = b=phone"]).fields == {"a = b": "phone"}


def test_the_members_of_objects_can_be_mapped_too() -> None:
    people = [{"vorname": "Ann", "nachname": "Lee", "tel": "1", "x": None}, {"name": "Bob", "tel": "2"}]
    columns = Columns.of(["vorname=first_name", "nachname=last_name", "tel=phone", "x="])
    expected = [{"name": "Ann Lee", "phone": "1"}, {"name": "Bob", "phone": "2"}]

    assert rows_of(json.dumps(people).encode(), columns=columns) == expected
    assert rows_of(b"\n".join(json.dumps(each).encode() for each in people), columns=columns) == expected
    source = io.BytesIO(b'{"phone":"1","tel":"2"}')
    (row,) = read(source, "ndjson", columns)
    assert row.error is not None
    assert row.error.code == "duplicate_key"


# -- spoilt cells ------------------------------------------------------------------------------------------


def test_cells_that_a_spreadsheet_has_spoilt_are_skipped_and_reported() -> None:
    source = io.BytesIO((DATA / "spoilt.csv").read_bytes())

    reading = read(source, shape_of(source))
    rows = list(reading)

    assert [[(each.field, each.code, each.value) for each in row.warnings] for row in rows] == [
        [("phone", "spoilt_number", "4.42079E+11")],
        [("phone", "spreadsheet_error", "#NAME?"), ("metadata.number", "spoilt_number", "4,42079E+11")],
        [("phone", "spoilt_number", "353155501030000000")],
        [],
    ]
    assert ["phone" in row.raw for row in rows] == [False, False, False, True]
    assert [row.raw["metadata.number"] for row in rows] == ["0044", "4,42079E+11", "0046", "0047"]
    assert reading.lines.unwrapped == 1


@given(st.integers(0, 10**20), st.sampled_from(("{:.5E}", "{:.2E}", "{:E}")))
def test_a_number_that_was_shortened_is_never_a_phone(number: int, form: str) -> None:
    (row,) = read(io.BytesIO(f"name,phone\nA,{form.format(number)}\n".encode()), "csv")

    assert "phone" not in row.raw
    assert row.warnings[0].code == "spoilt_number"


@given(st.text("0123456789 +-/()", min_size=1, max_size=15).filter(str.strip))
def test_a_phone_that_people_write_is_taken_as_it_is(phone: str) -> None:
    (row,) = read(io.BytesIO(f'name,phone\nA,"{phone}"\n'.encode()), "csv")

    assert row.warnings == ()
    assert row.raw["phone"] == phone


# -- JSON arrays -------------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    1,
    None,
    True,
    "",
    '"',
    "\\",
    '\\"',
    "]",
    "},{",
    ",",
    [],
    {},
    [[{"a": "]"}]],
    {"b": {"c": ["}"]}},
    "ü\n",
)
OBJECTS = st.dictionaries(st.sampled_from(("a", '"', "\\", "[", "}")), st.sampled_from(VALUES), max_size=4)


@given(st.lists(OBJECTS), st.sampled_from((None, 1)))
def test_an_array_is_taken_apart_as_a_parser_would(people: list[dict[str, Any]], indent: int | None) -> None:
    text = json.dumps(people, indent=indent) + "\n"

    reading = read(io.BytesIO(text.encode()), "json")
    rows = list(reading)

    assert [row.raw for row in rows] == people
    assert reading.lines.as_dict()["all"] == text.count("\n")


@pytest.mark.parametrize("block", [1, 3, 64])
def test_where_the_blocks_of_an_array_end_does_not_count(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("custsvc.transfer.arrays._BLOCK", block)
    people = [{"a": '\\"]}', "b": {"c": ["]", {}]}}, {}, {"ü": "\\\\"}] * 2

    assert [row.raw for row in read(io.BytesIO(json.dumps(people).encode()), "json")] == people


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{}", "not_an_array"),
        ("", "not_an_array"),
        ('[{"a":1}', "cut_off"),
        ('[{"a":1},', "cut_off"),
        ("[", "cut_off"),
        ('[{"a":"1}]', "cut_off"),
        ('[{"a":1},]', "bad_json"),
        ('[{"a":1}] x', "bad_json"),
    ],
)
def test_an_array_that_is_wrong_as_a_whole_is_refused(text: str, code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        list(read(io.BytesIO(text.encode()), "json"))
    assert refused.value.errors[0].code == code


def test_an_element_that_is_wrong_is_its_rows_error() -> None:
    rows = list(read(io.BytesIO(b'[{"name":"A"},\n7,\n{"a":1,"a":2}, {"b": nope}]'), "json"))

    assert [(row.number, row.error.code if row.error else None) for row in rows] == [
        (1, None),
        (2, "not_an_object"),
        (3, "duplicate_key"),
        (3, "bad_json"),
    ]


def test_a_look_shows_the_heading_and_the_first_rows() -> None:
    found = look(io.BytesIO(b"a;b\n1;2\n\n3;4\n"), Shape("csv"))

    assert (found.heading, found.sample) == (["a", "b"], [["1", "2"], ["3", "4"]])
