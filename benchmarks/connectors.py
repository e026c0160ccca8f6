"""The connectors that people would use instead, each with its defaults and with the best settings we know.

Sources send what custsvc's relay sends: the customer's id as key, the event's JSON as value, and headers.
Sinks read custsvc's topic and write its `after_change`, by its id, to a table or collection `peer_customer`.
"""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

from custsvc.config import Settings

COPY = "peer_customer"
# What the JDBC sink can write: it has no column type for `metadata`, an object of any depth.
COPY_TABLE = f"""
    CREATE TABLE {COPY} (
        id bigint PRIMARY KEY,
        version bigint NOT NULL,
        deleted boolean NOT NULL,
        name text NOT NULL,
        email text,
        phone text,
        created_on text NOT NULL,
        created_by text NOT NULL,
        updated_on text NOT NULL,
        updated_by text NOT NULL
    )
"""
_COLUMNS = {
    "id": "int64",
    "version": "int64",
    "deleted": "boolean",
    **dict.fromkeys(("name", "created_on", "created_by", "updated_on", "updated_by"), "string"),
}
_MONGO_SINK = "com.mongodb.kafka.connect.sink"
_OPTIONAL = ("email", "phone")

DEFAULTS, TUNED = "defaults", "tuned"
KINDS = (DEFAULTS, TUNED)

_PRODUCER = {"producer.override.compression.type": "lz4", "producer.override.linger.ms": "5"}
_CONSUMER = {"consumer.override.max.poll.records": "5000", "tasks.max": "2"}

# https://debezium.io/documentation/reference/stable/connectors/postgresql.html, …/connectors/jdbc.html,
# https://www.mongodb.com/docs/kafka-connector/current/
_BEST = {
    "debezium-postgres": {
        "poll.interval.ms": "10",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
        **_PRODUCER,
    },
    "mongodb-source": {
        "poll.max.batch.size": "8192",
        "poll.await.time.ms": "10",
        "batch.size": "8192",
        **_PRODUCER,
    },
    "debezium-jdbc": {
        "batch.size": "5000",
        "use.reduction.buffer": "true",
        "dialect.postgres.unnest.insert.enabled": "true",
        **_CONSUMER,
    },
    "mongodb-sink": {"bulk.write.ordered": "false", "max.batch.size": "5000", **_CONSUMER},
}


def debezium_postgres(settings: Settings, kind: str, slot: str, publication: str) -> dict[str, str]:
    """Debezium reads `customer_event` from the write-ahead log; its outbox event router makes the records."""
    url = urlsplit(settings.url("postgres"))
    return {
        "name": "debezium-postgres",
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": str(url.hostname),
        "database.port": str(url.port),
        "database.user": unquote(url.username or ""),
        "database.password": unquote(url.password or ""),
        "database.dbname": url.path[1:],
        "topic.prefix": "peer",
        "plugin.name": "pgoutput",
        "slot.name": slot,
        "publication.name": publication,
        "publication.autocreate.mode": "disabled",
        # The slot is older than the rows: all of them wait in the log, as after an outage.
        "snapshot.mode": "no_data",
        "table.include.list": "public.customer_event",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.table.field.event.id": "id",
        "transforms.outbox.table.field.event.key": "customer_id",
        "transforms.outbox.table.field.event.payload": "payload",
        "transforms.outbox.table.fields.additional.placement": "op:header:ce_type,created:header:ce_time",
        "transforms.outbox.route.by.field": "op",
        "transforms.outbox.route.topic.replacement": settings.topic_updates,
        **_tuned("debezium-postgres", kind),
    }


def mongodb_source(settings: Settings, kind: str, since: str) -> dict[str, str]:
    """The change stream of `customer_event`, from the time `since` (ISO 8601) on."""
    url = urlsplit(settings.url("mongo"))
    key = _record("event", _id=_record("id", customer_id="long"))
    value = _record("event", payload="string")
    return {
        "name": "mongodb-source",
        "connector.class": "com.mongodb.kafka.connect.MongoSourceConnector",
        "tasks.max": "1",
        "connection.uri": settings.url("mongo"),
        "database": url.path[1:],
        "collection": "customer_event",
        "startup.mode": "timestamp",
        "startup.mode.timestamp.start.at.operation.time": since,
        "pipeline": '[{"$match": {"operationType": "insert"}}]',
        "publish.full.document.only": "true",
        "output.format.key": "schema",
        "output.schema.key": json.dumps(_record("change", fullDocument=key)),
        "output.format.value": "schema",
        "output.schema.value": json.dumps(value),
        "topic.namespace.map": json.dumps({"*": settings.topic_updates}),
        "transforms": "key,value",
        "transforms.key.type": "org.apache.kafka.connect.transforms.ExtractField$Key",
        "transforms.key.field": "fullDocument._id.customer_id",
        "transforms.key.field.syntax.version": "V2",
        "transforms.value.type": "org.apache.kafka.connect.transforms.ExtractField$Value",
        "transforms.value.field": "payload",
        **_tuned("mongodb-source", kind),
    }


def debezium_jdbc(settings: Settings, kind: str) -> dict[str, str]:
    """The customer after each change, written over what the table has of it."""
    url = urlsplit(settings.url("postgres"))
    return {
        "name": "debezium-jdbc",
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": settings.topic_updates,
        "connection.url": f"jdbc:postgresql://{url.hostname}:{url.port}{url.path}",
        "connection.username": unquote(url.username or ""),
        "connection.password": unquote(url.password or ""),
        "insert.mode": "upsert",
        "primary.key.mode": "record_value",
        "primary.key.fields": "id",
        "schema.evolution": "none",
        "collection.name.format": COPY,
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
        "value.converter.schema.content": json.dumps(_event_schema()),
        "transforms": "after",
        "transforms.after.type": "org.apache.kafka.connect.transforms.ExtractField$Value",
        "transforms.after.field": "after_change",
        **_tuned("debezium-jdbc", kind),
    }


def mongodb_sink(settings: Settings, kind: str) -> dict[str, str]:
    """The customer after each change, which replaces the document with its id."""
    url = urlsplit(settings.url("mongo"))
    return {
        "name": "mongodb-sink",
        "connector.class": "com.mongodb.kafka.connect.MongoSinkConnector",
        "tasks.max": "1",
        "topics": settings.topic_updates,
        "connection.uri": settings.url("mongo"),
        "database": url.path[1:],
        "collection": COPY,
        "document.id.strategy": f"{_MONGO_SINK}.processor.id.strategy.ProvidedInValueStrategy",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "transforms": "after,id",
        "transforms.after.type": "org.apache.kafka.connect.transforms.ExtractField$Value",
        "transforms.after.field": "after_change",
        "transforms.id.type": "org.apache.kafka.connect.transforms.ReplaceField$Value",
        "transforms.id.renames": "id:_id",
        **_tuned("mongodb-sink", kind),
    }


def _tuned(name: str, kind: str) -> dict[str, str]:
    return _BEST[name] if kind == TUNED else {}


def _record(name: str, **fields: object) -> dict[str, object]:
    """An Avro record."""
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": each, "type": kind} for each, kind in fields.items()],
    }


def _event_schema() -> dict[str, object]:
    """The members of an event that the JDBC sink writes, as Connect's JSON converter wants to know them."""
    fields = [{"field": name, "type": kind, "optional": False} for name, kind in _COLUMNS.items()]
    fields += [{"field": name, "type": "string", "optional": True} for name in _OPTIONAL]
    after = {"field": "after_change", "type": "struct", "optional": False, "fields": fields}
    return {"type": "struct", "optional": False, "fields": [after]}
