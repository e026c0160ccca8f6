"""The allowed values of a customer, and its one canonical form."""

from __future__ import annotations

import datetime as dt
import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custsvc.domain.canonical import _checked_email, _plain_email, _Refused, canonical_fields, merge_patch
from custsvc.domain.customers import Customer, Fields, format_time, parse_time, utc_now
from custsvc.errors import ValidationError

NOON = dt.datetime(2026, 11, 23, 12, 0, 0, 123000, dt.UTC)


def customer(**changes: object) -> Customer:
    values: dict[str, object] = {
        "id": 7,
        "fields": Fields("Ada", "ada@example.com", None, {"tier": "gold"}),
        "deleted": False,
        "version": 1,
        "created_on": NOON,
        "created_by": "me",
        "updated_on": NOON,
        "updated_by": "me",
    }
    return Customer(**(values | changes))  # type: ignore[arg-type]


def codes(raw: object) -> dict[str, str]:
    with pytest.raises(ValidationError) as refused:
        canonical_fields(raw)
    return {error.field: error.code for error in refused.value.errors}


def test_the_canonical_form_has_a_fixed_order_and_no_spaces() -> None:
    assert customer().encode() == (
        b'{"id":7,"name":"Ada","email":"ada@example.com","phone":null,"metadata":{"tier":"gold"},'
        b'"deleted":false,"version":1,"created_on":"2026-11-23T12:00:00.123Z","created_by":"me",'
        b'"updated_on":"2026-11-23T12:00:00.123Z","updated_by":"me"}'
    )


def test_the_order_of_metadata_keys_does_not_change_the_form() -> None:
    one = customer(fields=Fields("Ada", metadata={"a": 1, "b": 2}))
    two = customer(fields=Fields("Ada", metadata={"b": 2, "a": 1}))

    assert one.encode() == two.encode()


def test_decoding_gives_back_the_same_customer() -> None:
    assert Customer.decode(customer().encode()) == customer()


def test_times_that_are_not_utc_are_refused() -> None:
    with pytest.raises(ValueError, match="UTC"):
        customer(updated_on=NOON.replace(tzinfo=None))


def test_the_time_of_an_update_never_goes_back() -> None:
    changed = customer().changed_to(
        fields=Fields("Ada"), deleted=False, now=NOON - dt.timedelta(hours=1), by="me"
    )

    assert (changed.version, changed.updated_on) == (2, NOON)


def test_now_has_whole_milliseconds() -> None:
    assert utc_now().microsecond % 1000 == 0


@given(st.integers(0, 250_000_000_000_000))
def test_a_time_is_read_back_as_it_was_written(millis: int) -> None:
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=millis)

    assert parse_time(format_time(moment)) == moment


@pytest.mark.parametrize("text", ["", "2026-11-23", "2026-11-23T12:00:00Z", "2026-11-23T12:00:00.123+00:00"])
def test_other_forms_of_a_time_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


def test_text_is_trimmed_and_brought_to_nfc() -> None:
    assert canonical_fields({"name": "  Zoe\u0308 "}).name == "Zo\u00eb"


def test_an_address_is_normalised() -> None:
    assert canonical_fields({"name": "Ada", "email": " Ada@EXAMPLE.com "}).email == "Ada@example.com"


def test_empty_email_and_phone_are_none() -> None:
    assert canonical_fields({"name": "Ada", "email": "", "phone": " "}) == Fields("Ada")


def test_the_servers_own_fields_are_ignored() -> None:
    sent_back = orjson.loads(customer().encode())

    assert canonical_fields(sent_back) == customer().fields


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([], {"": "not_an_object"}),
        ({}, {"name": "required"}),
        ({"name": "  "}, {"name": "required"}),
        ({"name": 7}, {"name": "not_text"}),
        ({"name": {"$gt": ""}}, {"name": "not_text"}),
        ({"name": "x" * 401}, {"name": "too_long"}),
        ({"name": "a\0b"}, {"name": "hidden_character"}),
        ({"name": "a\nb"}, {"name": "hidden_character"}),
        ({"name": "a\u202eb"}, {"name": "hidden_character"}),
        ({"name": "a\ud800b"}, {"name": "bad_character"}),
        ({"name": "a\uffffb"}, {"name": "bad_character"}),
        ({"name": "Ada", "email": "no address"}, {"email": "invalid_email"}),
        ({"name": "Ada", "email": "a@example.com, b@example.com"}, {"email": "invalid_email"}),
        ({"name": "Ada", "email": "a@example.com\r\nBcc: b@example.com"}, {"email": "hidden_character"}),
        ({"name": "Ada", "nmae": "Ada"}, {"nmae": "unknown_field"}),
        ({"name": "Ada", "phone": "x" * 51}, {"phone": "too_long"}),
        ({"name": "Ada", "metadata": []}, {"metadata": "not_an_object"}),
        ({"name": "Ada", "metadata": {"a": {"b": 1}}}, {"metadata.a": "not_flat"}),
        ({"name": "Ada", "metadata": {"a": 2**63}}, {"metadata.a": "out_of_range"}),
        ({"name": "Ada", "metadata": {"a": float("nan")}}, {"metadata.a": "not_finite"}),
        ({"name": "Ada", "metadata": {"$a": 1}}, {"metadata.$a": "bad_key"}),
        ({"name": "Ada", "metadata": {"a.b": 1}}, {"metadata.a.b": "bad_key"}),
        ({"name": "Ada", "metadata": {"": 1}}, {"metadata.": "bad_key"}),
        ({"name": "Ada", "metadata": {f"k{i}": 1 for i in range(51)}}, {"metadata": "too_many_keys"}),
        ({"name": "", "email": "x"}, {"name": "required", "email": "invalid_email"}),
    ],
)
def test_a_value_that_the_databases_cannot_hold_alike_is_refused_by_field(
    raw: object, expected: dict[str, str]
) -> None:
    assert codes(raw) == expected


@settings(max_examples=200)
@given(
    st.fixed_dictionaries(
        {"name": st.text()},
        optional={
            "phone": st.none() | st.text(),
            "metadata": st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.floats()),
        },
    )
)
def test_every_accepted_value_is_canonical(raw: dict[str, object]) -> None:
    try:
        fields = canonical_fields(raw)
    except ValidationError:
        return

    again = orjson.loads(customer(fields=fields).encode())
    assert canonical_fields(again) == fields
    assert "\0" not in fields.name


def test_a_merge_patch_changes_what_it_names_and_null_removes() -> None:
    before = Fields("Ada", "ada@example.com", "+1", {"a": 1, "b": 2})

    after = merge_patch(before, {"email": None, "metadata": {"a": None, "c": 3}})

    assert after == Fields("Ada", None, "+1", {"b": 2, "c": 3})


def test_a_merge_patch_cannot_remove_the_name() -> None:
    with pytest.raises(ValidationError, match="required"):
        merge_patch(Fields("Ada"), {"name": None})


def test_a_merge_patch_of_null_metadata_empties_it() -> None:
    assert merge_patch(Fields("Ada", metadata={"a": 1}), {"metadata": None}) == Fields("Ada")


def test_checking_long_evil_text_takes_no_longer_than_reading_it() -> None:
    """S33."""
    started = time.process_time()
    for evil in ("a" * 100_000, "\u0301" * 100_000, "@" * 100_000, "ﷺ" * 100_000):
        codes({"name": evil, "email": evil})

    assert time.process_time() - started < 1


# By Unicode's name of the property: Default_Ignorable_Code_Point; and what fonts draw as nothing.
UNSEEN = [
    *map(chr, (0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFEFF, 0xFFA0, 0x1D159)),
    *map(
        chr, (*range(0x180B, 0x1810), *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070))
    ),
    *map(chr, (*range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9), *range(0x1D173, 0x1D17B))),
    *map(chr, (*range(0xE0000, 0xE0080), *range(0xE0100, 0xE01F0))),
]
WHITE = [chr(code) for code in range(0x3001) if chr(code).isspace()]
# Characters that an office program, a spreadsheet or a browser puts around a copied value.
AROUND = [
    *WHITE,
    *"\xad\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2069\u2800\u3164\ufeff",
]


@pytest.mark.parametrize("field", ["name", "email", "phone"])
def test_invisible_characters_alone_are_no_value(field: str) -> None:
    for unseen in (*UNSEEN, *WHITE):
        for text in (unseen, unseen * 3, f" {unseen}\t", f"\u200e{unseen}\n"):
            raw = {"name": "Ada", field: text}
            try:
                found = getattr(canonical_fields(raw), field)
            except ValidationError as refused:
                assert refused.errors[0].field == field
            else:
                assert found is None, ascii(text)


@pytest.mark.parametrize(
    ("field", "value"), [("name", "Ada Lovelace"), ("email", "ada@example.com"), ("phone", "+49 30 1234")]
)
def test_spaces_and_marks_around_a_value_are_trimmed(field: str, value: str) -> None:
    raw = {"name": "Ada"}
    for mark in AROUND:
        for text in (mark + value, value + mark, f" {mark}{value}{mark}\n", f"\u202a{mark}{value}\u202c\r\n"):
            assert getattr(canonical_fields({**raw, field: text}), field) == value, ascii(text)


@pytest.mark.parametrize(
    "name",
    ["\U0001f3f4\U000e0067\U000e0062\U000e007f", "❤\ufe0f", "ന\u0d4d\u200d", "می\u200cخواهم", "\u200fשלום"],
)
def test_marks_that_belong_to_what_is_seen_stay(name: str) -> None:
    assert canonical_fields({"name": name}).name == name.lstrip("\u200f")


@pytest.mark.parametrize("text", ["a\nb", "a\u202eb", "a\u200bb", "a\x00", "\x00a", "a\u2028b", "\x1bb\x1b"])
def test_hidden_characters_within_a_value_are_refused(text: str) -> None:
    for field in ("name", "phone"):
        assert set(codes({"name": "Ada", field: text})) == {field}


@pytest.mark.parametrize(
    "email",
    [
        "a@firma.local",
        "a@x.test",
        "a@host.internal",
        "a@b.invalid",
        "a@c.example",
        "a@d.home.arpa",
        "a@e.lan",
    ],
)
def test_an_address_within_a_firm_is_an_address(email: str) -> None:
    assert canonical_fields({"name": "Ada", "email": email}).email == email


@pytest.mark.parametrize(
    "email", ["a@.local", "a@x..local", "a@-x.local", "@firma.local", "a b@firma.local", "a@local"]
)
def test_an_address_of_wrong_syntax_is_invalid_even_within_a_firm(email: str) -> None:
    assert codes({"name": "Ada", "email": email}) == {"email": "invalid_email"}


def test_a_patch_asks_nothing_of_what_it_does_not_name() -> None:
    """Stored by an earlier release, or by another producer."""
    old = Fields("\u200e", "a@b", "\u2800", {"$x": 1, "n": None})

    assert merge_patch(old, {"metadata": {"n": 2}}) == Fields("\u200e", "a@b", "\u2800", {"$x": 1, "n": 2})
    assert merge_patch(old, {"phone": "1"}) == Fields("\u200e", "a@b", "1", {"$x": 1, "n": None})


# Parts of addresses, plain and odd, near each limit.
LOCALS = st.text("aZ9_+-.", min_size=1, max_size=66) | st.text('a.@"( é', max_size=6)
LABELS = st.text("aZ9-", min_size=1, max_size=65) | st.sampled_from(
    ["xn--bcher-kva", "XN--", "bücher", "", "com"]
)
DOMAINS = st.lists(LABELS, min_size=1, max_size=5).map(".".join) | st.sampled_from(["localhost", "[1.2.3.4]"])


@settings(max_examples=2000)
@given(local=LOCALS, domain=DOMAINS)
def test_the_quick_way_to_an_address_is_the_librarys(local: str, domain: str) -> None:
    text = f"{local}@{domain}"[:254]
    try:
        checked = _checked_email(text)
    except _Refused:
        checked = None

    assert _plain_email(text) in (checked, None)
