"""Events as bytes on Kafka, and the decoding of untrusted records."""

from __future__ import annotations

import datetime as dt
import random
import re
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custsvc.domain.customers import Customer, Fields, Stored
from custsvc.domain.events import Change, headers, new_change, new_event_id, request_id_of, stored_event
from custsvc.domain.received import decode, stated_time
from custsvc.errors import BadEvent, NewerSchema
from custsvc.kafka.record import record_time
from tests.sizes import sizes

NOON = dt.datetime(2026, 11, 23, 12, 0, 0, 123000, dt.UTC)


def created(fields: Fields | None = None) -> Change:
    ada = Customer(7, fields or Fields("Ada", "ada@example.com"), False, 1, NOON, "me", NOON, "me")
    return new_change("created", None, ada, actor="me", request_id="r1")


def changed(before: Change, op: str = "updated", **changes: object) -> Change:
    stored = Stored(7, before.after.version, before.after.deleted, before.doc)
    values: dict[str, object] = {"fields": before.after.fields, "deleted": False, "now": NOON, "by": "you"}
    after = before.after.changed_to(**(values | changes))  # type: ignore[arg-type]
    return new_change(op, stored, after, actor="you")


def payload(**changes: object) -> bytes:
    return orjson.dumps(orjson.loads(created().event.payload) | changes)


def nested(depth: int) -> bytes:
    """An event whose metadata holds lists in lists: more than can be written again, but not than is read."""
    lists = b"[" * depth + b"]" * depth
    return created().event.payload.replace(b'"metadata":{}', b'"metadata":{"k":%b}' % lists)


def test_the_value_is_one_object_with_the_originals_fields_and_ours() -> None:
    event = orjson.loads(created().event.payload)

    assert event | {"id": ""} == {
        "id": "",
        "event_ts": "2026-11-23T12:00:00.123Z",
        "app_event_type": 100,
        "op": "created",
        "customer_id": 7,
        "version": 1,
        "changed": ["name", "email"],
        "actor": "me",
        "request_id": "r1",
        "schema": 1,
        "before_change": None,
        "after_change": orjson.loads(created().doc),
    }


def test_a_change_has_the_full_customer_before_and_after() -> None:
    first = created()
    second = changed(first, fields=Fields("Ada Lovelace", "ada@example.com"))

    event = orjson.loads(second.event.payload)

    assert event["before_change"] == orjson.loads(first.doc)
    assert event["after_change"] == orjson.loads(second.doc)
    assert (event["app_event_type"], event["changed"], event["version"]) == (200, ["name"], 2)


def test_a_deleted_event_shows_the_customer_as_deleted() -> None:
    event = orjson.loads(changed(created(), "deleted", deleted=True).event.payload)

    assert (event["app_event_type"], event["changed"]) == (300, ["deleted"])
    assert event["after_change"]["deleted"] is True


def test_headers_are_cloudevents_in_binary_mode() -> None:
    event = created().event

    assert headers(event, b"urn:x") == {
        "ce_specversion": b"1.0",
        "ce_id": event.id.encode(),
        "ce_type": b"custsvc.customer.created.v1",
        "ce_source": b"urn:x",
        "ce_subject": b"7",
        "ce_time": b"2026-11-23T12:00:00.123Z",
        "content-type": b"application/json",
    }


@pytest.mark.parametrize("order", [("event_ts", "id"), ("id", "op", "event_ts"), ("op", "event_ts", "id")])
def test_headers_are_the_same_whatever_the_order_of_the_members_of_a_stored_event(
    order: tuple[str, ...],
) -> None:
    event = created().event
    members = orjson.loads(event.payload)
    turned = orjson.dumps({name: members[name] for name in order} | members)

    read = stored_event(event.customer_id, event.version, event.op, turned)

    assert read.id == event.id
    assert read.time == event.time
    assert headers(read, b"urn:x") == headers(event, b"urn:x")


@pytest.mark.parametrize(
    "payload",
    [
        *("", "{}", "[]", "null", "x" * 100, '{"id":7,"event_ts":7}', '{"id":"x","event_ts":"yesterday"}'),
        '{"id":"' + "x" * 36 + '","event_ts":"' + "é" * 30 + '"}',
        '{"id":"' + "é" * 36 + '","event_ts":"',
    ],
)
@pytest.mark.parametrize("op", ["created", "of a newer custsvc"])
def test_what_another_program_wrote_into_the_outbox_goes_out_as_it_is(payload: str, op: str) -> None:
    event = stored_event(7, 1, op, payload.encode())

    assert event.time is None
    assert event.payload == payload.encode()
    made = headers(event, b"urn:x")
    assert made["ce_subject"] == b"7"
    assert made["ce_type"] == f"custsvc.customer.{op}.v1".encode()
    assert request_id_of(event.payload) is None


def test_event_ids_are_uuids_of_version_7_and_sort_by_time() -> None:
    ids = [new_event_id() for _ in range(50)]

    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids
    )
    assert len(set(ids)) == 50
    assert ids[0][:13] <= ids[-1][:13]


def test_an_event_is_read_back_with_the_documents_very_bytes() -> None:
    change = changed(
        created(), fields=Fields("Zoë", metadata={"after_change": "x", "q": ',"after_change":{'})
    )

    event = decode(change.event.payload, b"7")

    assert event.doc() == change.doc
    assert (event.customer_id, event.version, event.op) == (7, 2, "updated")


def test_a_foreign_producers_layout_is_brought_to_the_canonical_form() -> None:
    change = created()
    foreign = orjson.dumps(
        dict(reversed(orjson.loads(change.event.payload).items())), option=orjson.OPT_INDENT_2
    )

    assert decode(foreign, b"7").doc() == change.doc


def test_a_record_that_hides_another_customer_inside_is_not_fooled() -> None:
    change = created()
    hidden = payload(zzz={"q": 1, "after_change": {"id": 8}})

    assert decode(hidden, b"7").doc() == change.doc


WRONG_FIELDS: list[dict[str, Any]] = [
    {"id": 8},
    {"name": None},
    {"name": "a\0b"},
    {"deleted": 0},
    {"metadata": []},
    {"created_on": "yesterday"},
    {"updated_on": "2026-13-23T12:00:00.123Z"},
    {"updated_on": "2026-W48-1T20:40:00.123Z"},
    {"created_on": "2026-11-23T20.40.00.123Z"},
    {"name": "n" * 401},
    {"email": "a" * 243 + "@example.com"},
    {"phone": "0" * 51},
    {"metadata": {f"k{n}": n for n in range(51)}},
]


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (b"", b"7", "bad-json"),
        (b"{", b"7", "bad-json"),
        (b"[]", b"7", "bad-json"),
        (b"null", b"7", "bad-json"),
        (b'{"a":"\xff"}', b"7", "bad-utf8"),
        (b"[" * 100_000, b"7", "bad-json"),
        (payload(), None, "bad-key"),
        (payload(), b"8", "bad-key"),
        (payload(customer_id="7"), b"7", "bad-field"),
        (payload(customer_id=True), b"7", "bad-field"),
        (payload(customer_id=-1), b"-1", "bad-field"),
        (payload(version=0), b"7", "bad-field"),
        (payload(version=2), b"7", "bad-field"),
        (payload(op="renamed"), b"7", "bad-field"),
        (payload(op=["created"]), b"7", "bad-field"),
        (payload(after_change=None), b"7", "bad-field"),
        (payload(after_change={}), b"7", "bad-field"),
        (payload(before_change=[]), b"7", "bad-field"),
        (payload(changed="name"), b"7", "bad-field"),
        (payload(actor=7), b"7", "bad-field"),
        (payload(schema="1"), b"7", "bad-schema"),
        (payload(schema=0), b"7", "bad-schema"),
        *(
            (payload(after_change=orjson.loads(created().doc) | wrong), b"7", "bad-field")
            for wrong in WRONG_FIELDS
        ),
        (nested(500), b"7", "too-deep"),
    ],
)
def test_an_unreadable_record_is_refused_with_a_reason(value: bytes, key: bytes | None, reason: str) -> None:
    with pytest.raises(BadEvent) as refused:
        decode(value, key)

    assert refused.value.reason_class == reason


def test_an_event_of_a_newer_schema_is_no_bad_event() -> None:
    with pytest.raises(NewerSchema, match="schema 3"):
        decode(payload(schema=3), b"7")


@pytest.mark.parametrize(
    "said", [{"name": 7}, {"name": []}, {"email": {"$ne": None}}, {"metadata": "none"}, {"phone": 1.5}]
)
def test_a_before_that_is_not_a_customer_is_read_as_none(said: dict[str, Any]) -> None:
    before = orjson.loads(created().doc)

    event = decode(payload(before_change=before | said), b"7")

    assert event.before is None
    assert decode(payload(before_change=before), b"7").before == before
    deep = (
        orjson.dumps(before)
        .decode()
        .replace('"metadata":{', '"metadata":{"a":' + "[" * 300 + "]" * 300 + ",")
    )
    value = payload().decode().replace('"before_change":null', f'"before_change":{deep.replace(",}", "}")}')
    assert decode(value.encode(), b"7").before is None
    # A foreign producer may leave out what did not change.
    assert decode(payload(before_change={"name": "Ada"}), b"7").before == {"name": "Ada"}


@given(st.binary())
def test_no_bytes_at_all_make_reading_crash(value: bytes) -> None:
    """S27."""
    with pytest.raises(BadEvent):
        decode(value, b"7")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(orjson.loads(created().event.payload))), JSON)
def test_a_field_of_any_type_is_read_or_refused_and_never_crashes(name: str, value: object) -> None:
    """S27."""
    raw = orjson.loads(created().event.payload)
    try:
        raw[name] = value
        record = orjson.dumps(raw)
    except TypeError:
        return

    with suppress(BadEvent, NewerSchema):
        decode(record, b"7")


def damaged(record: bytes, rng: random.Random) -> bytes:
    """The record with some bytes changed, lost, doubled, or another part of it in their place."""
    for _ in range(rng.randint(1, 3)):
        at, end = sorted(rng.randrange(len(record) + 1) for _ in range(2))
        end = min(end, at + rng.choice((1, 1, 2, 8, 200)))
        other = rng.randrange(len(record) + 1)
        piece = rng.choice(
            (b"", rng.randbytes(end - at), record[at:end] * 2, record[other : other + end - at], b"9" * 400)
        )
        record = record[:at] + piece + record[end:]
    return record


@sizes("records", 3_000, 1_000_000)
def test_a_damaged_record_is_read_or_refused_and_never_crashes(records: int) -> None:
    """S27."""
    rng = random.Random(records)
    first = created()
    whole = [first.event.payload, changed(first).event.payload]
    refused = 0

    for _ in range(records):
        try:
            decode(damaged(rng.choice(whole), rng), b"7")
        except (BadEvent, NewerSchema):
            refused += 1
    assert refused > records / 2


@pytest.mark.parametrize(
    ("event_ts", "seconds"),
    [
        ("2026-11-23T20:40:00.123Z", 1795466400.123),
        ("2026-11-24T02:10:00.123+05:30", 1795466400.123),
        ("2026-11-23T20:40:00.123", 1795466400.123),
        ("9999-12-31T23:59:59.999-14:00", 253402351199.999),
        ("0001-01-01T00:00:00+14:00", -62135647200.0),
        *((text, None) for text in ("", "yesterday", "-2026-11-23", "10000-01-01", "\0", "9" * 400)),
    ],
)
def test_a_stated_time_is_read_in_any_zone_and_an_invalid_one_is_none(
    event_ts: str, seconds: float | None
) -> None:
    assert stated_time(event_ts) == seconds


@pytest.mark.parametrize("millis", [-(2**63), -1, 0, 1_795_466_400_123, 253_402_300_800_000, 2**63 - 1])
def test_a_record_with_any_timestamp_has_a_date(millis: int) -> None:
    assert 1970 <= record_time(millis).year <= 9999
