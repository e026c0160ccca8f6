"""What an event costs in each format of the topic: microseconds of processor time to write and to read.

Beside them Confluent's own serializer and deserializer of Avro with the same values. All take turns, round by
round; a figure is the median of the rounds. Needs no server: the registry is a small one in this process.

    python benchmarks/formats.py
"""

from __future__ import annotations

import datetime as dt
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from custsvc.config import Settings
from custsvc.domain import event_avro
from custsvc.domain.customers import Customer, Fields, Stored
from custsvc.domain.events import new_change
from custsvc.domain.received import decode
from custsvc.kafka import formats
from custsvc.kafka.formats import Events, Writing
from tests.schema_registry import SchemaRegistry

ROUNDS: Final = 15
TIMES: Final = 3000


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def payload() -> bytes:
    """An update of a customer, of about 750 bytes."""
    noon = dt.datetime(2026, 11, 23, 12, 0, 0, 0, dt.UTC)
    fields = Fields("Ada Lovelace", "ada@example.org", "+44 20 7946 0000", {"tier": "gold", "visits": 12})
    ada = Customer(7, fields, False, 1, noon, "me", noon, "me")
    after = ada.changed_to(fields=replace(fields, name="Ada King"), deleted=False, now=noon, by="me")
    return new_change("updated", Stored(7, 1, False, ada.encode()), after, actor="me").event.payload


class Record:
    """A record of customer 7."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def key(self) -> bytes:
        return b"7"

    def value(self) -> bytes:
        return self._value


def works(registry: SchemaRegistry, client: SchemaRegistryClient) -> dict[str, Callable[[], object]]:
    event, works = payload(), dict[str, Callable[[], object]]()
    works["json read"] = lambda: decode(event, b"7")
    for name in ("json", "json-schema", "avro"):
        settings = Settings(schema_registry_url=registry.url, event_format=name, topic_updates="updates")  # type: ignore[arg-type]
        writing, events = Writing(settings), Events(settings)
        writing.begin()
        encode = writing.encode
        if encode is not None:
            works[f"{name} write"] = lambda encode=encode: encode(event)  # type: ignore[misc]
        record: Any = Record(encode(event) if encode else event)
        say(f"{name}: {len(record.value())} bytes")
        works[f"{name} read"] = lambda events=events, record=record: events.read(record)  # type: ignore[misc]
    return works | confluents(client, event)


def confluents(client: SchemaRegistryClient, event: bytes) -> dict[str, Callable[[], object]]:
    about = SerializationContext("updates", MessageField.VALUE)
    conf: dict[str, Any] = {"subject.name.strategy": topic_subject_name_strategy}
    write = AvroSerializer(client, formats.schema("avro").text, conf=conf)
    read = AvroDeserializer(client, formats.schema("avro").text, conf=conf)
    value = write(event_avro.to_avro(event), about)
    return {
        "avro write, Confluent's serializer": lambda: write(event_avro.to_avro(event), about),
        "avro read, Confluent's deserializer": lambda: decode(event_avro.from_avro(read(value, about)), b"7"),
    }


def main() -> None:
    with SchemaRegistry() as registry, SchemaRegistryClient({"url": registry.url}) as client:
        todo = works(registry, client)
        found: dict[str, list[float]] = {name: [] for name in todo}
        for _ in range(ROUNDS):
            for name, work in todo.items():
                began = time.process_time()
                for _ in range(TIMES):
                    work()
                found[name].append((time.process_time() - began) / TIMES * 1e6)
    for name, times in found.items():
        say(f"{name:40} {statistics.median(times):6.2f} µs ({min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
