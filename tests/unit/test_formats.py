"""Events as JSON Schema and Avro of a schema registry: we write and read them as Confluent's clients do."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import jsonschema
import orjson
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given
from hypothesis import strategies as st

from custsvc.config import Settings
from custsvc.domain import event_avro
from custsvc.domain.customers import Customer, Fields, Stored
from custsvc.domain.erasure import blanked
from custsvc.domain.events import APP_EVENT_TYPE, new_change, snapshot
from custsvc.errors import BadEvent, ConfigurationError, CustsvcError, NewerSchema, TemporaryError
from custsvc.kafka import formats
from custsvc.kafka.formats import Events, Writing
from custsvc.runtime.extras import NotInstalled
from tests.schema_registry import SchemaRegistry
from tests.values import METADATA

NOON = dt.datetime(2026, 11, 23, 12, 0, 0, 123000, dt.UTC)
FORMATS = ("json-schema", "avro")
# What is there only in the events of merges.
MERGES: dict[str, dict[str, Any]] = {
    "merged": {"from": [{"id": 8, "version": 3}], "took": {"email": 8, "metadata.tier": 8}},
    "merged_into": {"into": {"id": 7, "version": 2}},
    "unmerged": {"undid": 2, "restored": [{"id": 8, "version": 4}], "kept": ["name"]},
    "restored": {"out_of": {"id": 7, "version": 3}},
}
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
FIELDS = st.builds(Fields, TEXT, st.none() | TEXT, st.none() | TEXT, METADATA)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[SchemaRegistry]:
    monkeypatch.setattr(formats, "_schemas", {})
    monkeypatch.setattr(formats, "_LATE", 0.3)
    with SchemaRegistry() as serving:
        yield serving


def settings(registry: SchemaRegistry, event_format: str = "json", **changes: Any) -> Settings:
    return Settings(
        schema_registry_url=registry.url,
        event_format=event_format,  # type: ignore[arg-type]
        topic_updates="updates",
        **changes,
    )


class Record:
    """A record of customer 7, as the client gives it."""

    def __init__(self, value: bytes, content_type: bytes = b"application/json") -> None:
        self._value, self._headers = value, [("content-type", content_type)]

    def key(self) -> bytes:
        return b"7"

    def value(self) -> bytes:
        return self._value

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers


def record(value: bytes, **about: Any) -> Any:
    return Record(value, **about)


def event_of(op: str, before: Fields | None, after: Fields, *, bulk: bool = False) -> bytes:
    """The payload of an event of customer 7."""
    old = Customer(7, before or after, op == "restored", 1, NOON, "me", NOON, "me")
    now = old.changed_to(fields=after, deleted=op in ("deleted", "merged_into"), now=NOON, by="you")
    if op == "snapshot":
        return snapshot(7, 2, now.encode(), NOON, actor="me", bulk=bulk).payload
    stored = Stored(7, 1, old.deleted, old.encode()) if before else None
    merge = MERGES.get(op)
    return new_change(op, stored, now, actor="me", request_id="r1", merge=merge, bulk=bulk).event.payload


EVENT = event_of("updated", Fields("Ada"), Fields("Ada Lovelace", "ada@example.org", None, {"n": 1.5}))
EVENTS = st.builds(
    event_of, st.sampled_from(list(APP_EVENT_TYPE)), st.none() | FIELDS, FIELDS, bulk=st.booleans()
)


def writer(registry: SchemaRegistry, event_format: str) -> Any:
    writing = Writing(settings(registry, event_format))
    writing.begin()
    return writing.encode


@pytest.fixture
def avro(registry: SchemaRegistry) -> Any:
    """Makes Avro of a payload."""
    return writer(registry, "avro")


@pytest.fixture
def json_schema(registry: SchemaRegistry) -> Any:
    """Makes JSON of a payload with the id of its schema before it."""
    return writer(registry, "json-schema")


@pytest.fixture
def client(registry: SchemaRegistry) -> Iterator[SchemaRegistryClient]:
    """Confluent's client."""
    with SchemaRegistryClient({"url": registry.url}) as opened:
        yield opened


ABOUT = SerializationContext("updates", MessageField.VALUE)
# Of Confluent's serdes. The schema is there already.
READS: dict[str, Any] = {"subject.name.strategy": topic_subject_name_strategy}
WRITES: dict[str, Any] = {**READS, "auto.register.schemas": False}


# -- what is written ----------------------------------------------------------------------------------------


@given(payload=EVENTS)
def test_every_event_comes_back_byte_for_byte(
    registry: SchemaRegistry, avro: Any, json_schema: Any, payload: bytes
) -> None:
    events = Events(settings(registry))

    as_json, as_avro = json_schema(payload), avro(payload)

    assert (as_json[:6], as_avro[:6]) == (b"\0\0\0\0\2{", b"\0\0\0\0\1H")
    assert events.read(record(as_json)).value == payload
    assert events.read(record(as_avro)).value == payload


@given(payload=EVENTS)
def test_json_schema_is_what_confluents_serializer_writes_and_validates(
    json_schema: Any, client: SchemaRegistryClient, payload: bytes
) -> None:
    text = formats.schema("json-schema").text
    write = JSONSerializer(text, client, conf=WRITES, json_encode=lambda value: orjson.dumps(value))
    read = JSONDeserializer(None, schema_registry_client=client, conf={**READS, "validate": True})

    assert json_schema(payload) == write(orjson.loads(payload), ABOUT)
    assert read(json_schema(payload), ABOUT) == orjson.loads(payload)


@given(payload=EVENTS)
def test_avro_is_what_confluents_serializer_writes_and_its_deserializer_reads(
    avro: Any, client: SchemaRegistryClient, payload: bytes
) -> None:
    write = AvroSerializer(client, formats.schema("avro").text, conf=WRITES)

    assert avro(payload) == write(event_avro.to_avro(payload), ABOUT)
    read = AvroDeserializer(client, conf=READS)(avro(payload), ABOUT)
    said = orjson.loads(payload)
    assert orjson.loads(read["after_change"]["metadata"]) == said["after_change"]["metadata"]
    assert (read["op"], read["version"], read["event_ts"]) == (said["op"], said["version"], said["event_ts"])


def test_the_schema_is_closed_and_describes_an_erased_customer_too() -> None:
    schema = orjson.loads(formats.schema("json-schema").text)
    ada = Customer(7, Fields("Ada", "a@example.org"), False, 1, NOON, "me", NOON, "me").encode()
    event = orjson.loads(snapshot(7, 1, blanked(ada), NOON, actor="me").payload)

    jsonschema.validate(event, schema)
    with pytest.raises(jsonschema.ValidationError, match="more"):
        jsonschema.validate({**event, "more": 1}, schema)


@pytest.mark.parametrize(
    "strange",
    [
        EVENT.replace(b'"op":', b'"more":1,"op":'),
        EVENT.replace(b'"name":"Ada","email":null', b'"email":null,"name":"Ada"'),
        EVENT.replace(b'"version":2', b'"version":"two"'),
        EVENT.replace(b'"version":2', b'"version":18446744073709551615'),
        b"[1]",
        b"not JSON",
    ],
)
def test_what_another_program_wrote_into_the_database_is_sent_as_it_is(avro: Any, strange: bytes) -> None:
    assert avro(strange) == strange


def test_plain_json_needs_no_registry_and_stays_as_it_is() -> None:
    writing = Writing(Settings())
    writing.begin()

    assert writing.encode is None
    assert writing.content_type == b"application/json"
    assert Events(Settings()).read(record(EVENT)).value is EVENT


# -- the schema's id ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_format", FORMATS)
def test_the_schema_is_registered_once_under_the_topics_name(
    registry: SchemaRegistry, event_format: str
) -> None:
    first, second = writer(registry, event_format)(EVENT), writer(registry, event_format)(EVENT)

    assert first == second
    assert registry.subjects == {"updates-value": [1]}
    assert registry.schemas[1]["schemaType"] == ("JSON" if event_format == "json-schema" else "AVRO")


@pytest.mark.parametrize("event_format", FORMATS)
def test_without_leave_to_register_a_missing_schema_is_an_error_with_the_command(
    registry: SchemaRegistry, event_format: str
) -> None:
    given = settings(registry, event_format, schema_register=False)
    with pytest.raises(ConfigurationError, match="updates-value") as caught:
        Writing(given).begin()
    assert "custsvc topics schema register" in (caught.value.fix or "")

    ours = formats.schema(event_format)
    registry.put("updates-value", ours.text, ours.kind)
    writing = Writing(given)
    writing.begin()

    assert writing.encode is not None
    assert writing.encode(EVENT)[:5] == b"\0\0\0\0\1"


def test_a_schema_that_the_registry_does_not_take_is_a_wrong_setting(registry: SchemaRegistry) -> None:
    registry.refusing.add("updates-value")

    with pytest.raises(ConfigurationError, match="does not take the schema after the earlier ones"):
        Writing(settings(registry, "avro")).begin()


def test_the_registry_is_not_asked_again_once_the_id_is_known(registry: SchemaRegistry) -> None:
    writing = Writing(settings(registry, "avro"))
    writing.begin()
    registry.stop()
    writing.begin()
    registry.start()

    assert registry.asked["POST /subjects/updates-value/versions"] == 1


# -- what is read -------------------------------------------------------------------------------------------


def test_json_is_read_without_a_registry() -> None:
    assert Events(Settings()).read(record(b"\0\0\0\0\x07" + EVENT)).value == EVENT


def test_a_reader_asks_once_for_each_id_and_goes_on_in_an_outage(registry: SchemaRegistry) -> None:
    value, events = writer(registry, "avro")(EVENT), Events(settings(registry))
    events.read(record(value))
    registry.stop()

    assert Events(settings(registry)).read(record(value)).value == EVENT

    registry.start()
    assert registry.asked["GET /schemas/ids/1"] == 1


def test_an_outage_is_no_fault_of_a_record(registry: SchemaRegistry) -> None:
    value, events = writer(registry, "avro")(EVENT), Events(settings(registry))
    registry.stop()
    with pytest.raises(TemporaryError) as away:
        events.read(record(value))
    registry.start()
    registry.failing = True
    with pytest.raises(TemporaryError, match="answers 500"):
        events.read(record(value))
    registry.failing = False

    assert away.value.dependency == "registry"
    assert events.read(record(value)).value == EVENT


def test_a_schema_that_a_node_learns_a_moment_later_is_waited_for(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "_LATE", 20.0)
    value = writer(registry, "avro")(EVENT)
    late = registry.schemas.pop(1)
    monkeypatch.setattr("time.sleep", lambda _: registry.schemas.update({1: late}))

    assert Events(settings(registry)).read(record(value)).value == EVENT


FOREIGN: dict[str, tuple[str, str]] = {
    "another record": ("AVRO", '{"type": "record", "name": "Order", "fields": []}'),
    "no record": ("AVRO", '"string"'),
    "no schema": ("AVRO", "{"),
    "JSON": ("JSON", '{"type": "object"}'),
    "Protobuf": ("PROTOBUF", 'syntax = "proto3";'),
    "fields of other types": (
        "AVRO",
        '{"type": "record", "name": "custsvc.CustomerEvent", "fields": [{"name": "id", "type": "int"}]}',
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_schema_is_a_bad_record(registry: SchemaRegistry, kind: str) -> None:
    number = registry.put("other-value", FOREIGN[kind][1], FOREIGN[kind][0])
    events = Events(settings(registry))

    for _ in range(2):
        with pytest.raises(BadEvent):
            events.read(record(b"\0" + number.to_bytes(4, "big") + b"\2\2"))


def test_an_unknown_schema_is_a_bad_record_and_asked_for_once(registry: SchemaRegistry) -> None:
    events = Events(settings(registry))
    with pytest.raises(BadEvent, match="has no schema 9") as caught:
        events.read(record(b"\0\0\0\0\x09Hx"))
    asked = registry.asked["GET /schemas/ids/9"]
    with pytest.raises(BadEvent):
        events.read(record(b"\0\0\0\0\x09Hx"))

    assert caught.value.reason_class == "unknown-schema"
    assert registry.asked["GET /schemas/ids/9"] == asked


@given(junk=st.binary(max_size=60))
def test_any_bytes_after_an_id_are_an_event_or_a_bad_record(
    registry: SchemaRegistry, avro: Any, junk: bytes
) -> None:
    value = avro(EVENT)
    events = Events(settings(registry))
    for changed in (
        b"\0\0\0\0\1" + junk,
        value[: len(junk) + 1],
        value[:40] + junk + value[40:],
        value + junk,
    ):
        with suppress(BadEvent, NewerSchema):
            events.read(record(changed))


def test_a_later_schema_with_another_member_is_read(
    registry: SchemaRegistry, client: SchemaRegistryClient
) -> None:
    later = event_avro.schema()
    later["fields"].append({"name": "more", "type": "string"})
    number = registry.put("updates-value", orjson.dumps(later).decode())
    datum = event_avro.to_avro(EVENT)
    assert datum is not None

    write = AvroSerializer(client, orjson.dumps(later).decode(), conf=WRITES)
    value = write({**datum, "more": "x"}, ABOUT)

    assert value[:5] == b"\0" + number.to_bytes(4, "big")
    assert Events(settings(registry)).read(record(value)).value == EVENT


def test_without_an_address_our_own_avro_stops_a_reader_and_a_foreign_record_does_not(
    registry: SchemaRegistry,
) -> None:
    value, events = writer(registry, "avro")(EVENT), Events(Settings())

    with pytest.raises(ConfigurationError, match="SCHEMA_REGISTRY_URL is not set"):
        events.read(record(value, content_type=b"application/avro"))
    with pytest.raises(BadEvent):
        events.read(record(value))
    with pytest.raises(BadEvent):
        events.read(record(b"\0\0"))


# -- the extra ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["fastavro", "cachetools"])
def test_a_missing_extra_is_named(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("confluent_kafka.schema_registry", package))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(CustsvcError) as caught:
        writer(registry, "avro")

    assert isinstance(caught.value, NotInstalled)
    assert caught.value.package == package
    assert caught.value.fix == "pip install 'custsvc[registry]'"
