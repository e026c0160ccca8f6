"""Against a real schema registry: what the suite does with its own small one holds with Apicurio too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from custsvc.config import Settings
from custsvc.domain import event_avro
from custsvc.errors import BadEvent, ConfigurationError
from custsvc.kafka import formats
from custsvc.kafka.formats import Events, Writing
from custsvc.kafka.publisher import Record
from custsvc.kafka.registry import Incompatible, Registry, Schema
from custsvc.ports.store import Store
from tests.apicurio import apicurio
from tests.integration.conftest import Topic, Workers
from tests.integration.test_registry import change, published
from tests.unit.test_formats import READS
from tests.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with apicurio(tmp_path_factory.mktemp("apicurio")) as address:
        yield address


@pytest.mark.parametrize("event_format", ["json-schema", "avro"])
def test_the_whole_way_and_confluents_deserializers(
    store: Store,
    opened: Callable[[str], Store],
    new_database: Callable[[], str],
    settings: Settings,
    workers: Workers,
    topic: Topic,
    url: str,
    event_format: str,
) -> None:
    copy = opened(new_database())
    given = settings.replace(schema_registry_url=url, event_format=event_format)
    mine = workers.with_settings(given)
    with mine.running_relay(store):
        change(store, "real")
        published(store)
        mine.copy(copy.replica, copy.name)
        until("the copy is equal", lambda: copy.contents.scan(0, 100) == store.contents.scan(0, 100))

    about = SerializationContext(settings.topic_updates, MessageField.VALUE)
    with SchemaRegistryClient({"url": url}) as client:
        read = {
            "avro": AvroDeserializer(client, conf=READS),
            "json-schema": JSONDeserializer(
                None, schema_registry_client=client, conf={**READS, "validate": True}
            ),
        }[event_format]
        for record in topic.records(settings.topic_updates):
            event = orjson.loads(Events(given).read(record).value)
            assert read(record.value(), about)["version"] == event["version"]
    assert topic.records(settings.topic_dead) == []


def test_the_registrys_rule_is_asked_and_kept(settings: Settings, url: str) -> None:
    given = settings.replace(schema_registry_url=url, event_format="avro", schema_register=False)
    registry, subject = Registry(given), formats.subject(given)
    with pytest.raises(ConfigurationError, match=subject):
        Writing(given).begin()

    ours = formats.schema("avro")
    number = registry.register(subject, ours)
    registry.require(subject, "BACKWARD")
    later = event_avro.schema()
    later["fields"].append({"name": "more", "type": ["null", "string"], "default": None})
    broken = event_avro.schema()
    broken["fields"].append({"name": "more", "type": "string"})

    assert registry.id_of(subject, ours) == registry.register(subject, ours) == number
    assert registry.schema(number) is not None
    assert registry.schema(number + 1000) is None
    assert registry.is_compatible(subject, Schema("AVRO", orjson.dumps(later).decode()))
    assert not registry.is_compatible(subject, Schema("AVRO", orjson.dumps(broken).decode()))
    with pytest.raises(Incompatible):
        registry.register(subject, Schema("AVRO", orjson.dumps(broken).decode()))


def test_a_member_that_is_added_later_is_compatible_as_json_schema(settings: Settings, url: str) -> None:
    given = settings.replace(schema_registry_url=url)
    registry, subject, ours = Registry(given), formats.subject(given), formats.schema("json-schema")
    registry.register(subject, ours)
    registry.require(subject, "BACKWARD")
    later = orjson.loads(ours.text)
    later["properties"]["more"] = {"type": "string"}

    assert registry.is_compatible(subject, Schema("JSON", orjson.dumps(later).decode()))


def test_an_unknown_id_is_a_bad_record(
    settings: Settings, url: str, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "_LATE", 0.5)
    topic.produce(settings.topic_updates, Record(b"7", b"\0\0\1\xe2\x40Hx", []))
    (record,) = topic.records(settings.topic_updates)

    with pytest.raises(BadEvent, match="has no schema 123456"):
        Events(settings.replace(schema_registry_url=url)).read(record)
