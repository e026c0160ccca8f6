"""Kafka: clients with safe settings, topics made explicitly, and delivery awaited."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.cimpl import NewTopic

from ..config import Settings
from ..errors import ConfigurationError, CustsvcError, TemporaryError
from . import options as kafka_options
from .errors import (
    END_OF_PARTITION,
    failure,
    first_contact,
    is_passing,
    librdkafka,
    mismatch,
    note,
    refusal,
    spoken_to,
)
from .record import Headers

# Seconds for a call that a person waits for, or of a worker that will try again anyway.
TIMEOUT = 5.0

# Seconds without an answer after which we first look at the errors that librdkafka has reported.
_REFUSED_AFTER = 2.0

# Seconds for a request that some brokers cannot answer.
_ASIDE = 3.0
_USUAL_LIMIT = 1_048_588
# Most bytes of one fetch response, as sent over the network. A bigger single record still arrives.
_FETCH = 1_000_000

_DAY_MS = 24 * 3600 * 1000
_TOPIC_CONFIG: Mapping[str, str] = {"min.insync.replicas": "1"}
# The topic keeps every change for a week; compaction removes old versions, and erased data, within two.
_UPDATES_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(7 * _DAY_MS),
    "max.compaction.lag.ms": str(14 * _DAY_MS),
}
# Unreadable records hold personal data: keep them only as long as a repair takes.
_FAILED_CONFIG: Mapping[str, str] = {"cleanup.policy": "delete", "retention.ms": str(14 * _DAY_MS)}

# A partition that is new, or has lost its leader, soon has one again.
_LEADERLESS = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION,
)

# The last millisecond that has a date.
_LAST_MILLIS = 253_402_300_799_999

# librdkafka's PARTITION_UA, which its types lack.
_BY_KEY = -1


class Record(NamedTuple):
    """A record to produce: its key decides the partition, and so the order, unless one is given."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int = _BY_KEY


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Java's clients, and ours, choose for a key: its murmur2 hash (seed 0x9747b28c)."""
    length = len(key)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * 0x5BD1E995 & 0xFFFFFFFF
        k = (k ^ k >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 & 0xFFFFFFFF) ^ k
    if whole != length:
        h = (h ^ int.from_bytes(key[whole:], "little")) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return ((h ^ h >> 15) & 0x7FFFFFFF) % partitions


def _common(settings: Settings) -> dict[str, Any]:
    told = settings.kafka_connection
    servers = told["bootstrap.servers"]
    spoken_to(servers, told)
    return {
        "client.id": "custsvc",
        "socket.keepalive.enable": True,
        # Reconnect to a broker within a second of its return, not within ten.
        "reconnect.backoff.max.ms": 1000,
        # A cluster that briefly reports no brokers, as after a freeze, leaves the client without any. The
        # client asks the address again after this long, not after five minutes.
        "metadata.recovery.rebootstrap.trigger.ms": 10_000,
        "error_cb": partial(note, servers),
        "logger": librdkafka,
        **told,
    }


def check_options(settings: Settings) -> None:
    """Raise ConfigurationError if a Kafka option is wrong. Connects to nothing."""
    trial = settings.replace(kafka=settings.kafka or "unset")
    kafka_options.check(settings, _common(trial), _consumer(trial, "custsvc"), _publisher(trial))


def admin(settings: Settings) -> AdminClient:
    """A client for topics and groups."""
    return kafka_options.make(AdminClient, _common(settings), settings.kafka_options)


def consumer(settings: Settings, group: str, **options: Any) -> Consumer:
    """A consumer that commits nothing by itself; `options` are librdkafka's, with `_` for the dots."""
    return kafka_options.make(Consumer, _consumer(settings, group, **options), settings.kafka_options)


def _consumer(settings: Settings, group: str, **options: Any) -> dict[str, Any]:
    common = _common(settings)
    return {
        # The group replaces a dead worker after this long.
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 2_000,
        "fetch.wait.max.ms": 100,
        # Prefetched records take up most of a role's memory. A whole response of the broker may come on top
        # of the queue, and takes many times its size when unpacked; so fetch small responses often.
        "queued.max.messages.kbytes": 4_096,
        "queued.min.messages": 10_000,
        # It must not be below message.max.bytes: where that is set, librdkafka chooses the value itself.
        **({} if "message.max.bytes" in common else {"fetch.max.bytes": _FETCH}),
        "fetch.queue.backoff.ms": 10,
        # What comes before this may be set by CUSTSVC_KAFKA_OPTIONS__…, what comes after may not.
        **common,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "partition.assignment.strategy": "cooperative-sticky",
        **{name.replace("_", "."): value for name, value in options.items()},
    }


def _note_error(errors: list[KafkaError], error: KafkaError | None, _message: Any) -> None:
    if error is not None:
        errors.append(error)


def _publisher(settings: Settings) -> dict[str, Any]:
    return {
        "compression.type": "lz4",
        "linger.ms": 2,
        "queue.buffering.max.messages": 200_000,
        # What comes before this may be set by CUSTSVC_KAFKA_OPTIONS__…, what comes after may not.
        **_common(settings),
        "enable.idempotence": True,
        "acks": "all",
        # A later record of the same customer must not overtake one that failed.
        "enable.gapless.guarantee": True,
        # Never give up a record: only the caller may, by `give_up`.
        "message.timeout.ms": 0,
        # The partition of a key is the one that Java's clients would choose.
        "partitioner": "murmur2_random",
        # A callback per acknowledgement would cost as much as the rest of sending a record.
        "delivery.report.only.error": True,
    }


class Publisher:
    """Produces records and waits until every one is acknowledged by all in-sync replicas.

    Idempotent, so a retry inside librdkafka neither repeats nor reorders. After any delivery error it makes a
    new producer; the caller sends its batch again.
    """

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka_servers
        self._options = settings.kafka_options
        self._config = _publisher(settings)
        self._start()

    def _start(self) -> None:
        self._errors: list[KafkaError] = []
        config = {**self._config, "on_delivery": partial(_note_error, self._errors)}
        self._producer = kafka_options.make(Producer, config, self._options)

    def limit(self, most: int) -> None:
        """Set the largest record size in bytes: the topic's limit."""
        wanted = {"message.max.bytes": most, "batch.size": min(most, 1_000_000)}
        if any(self._config.get(name) != value for name, value in wanted.items()):
            self._config |= wanted
            self._renew()

    def send(
        self, topic: str, records: Iterable[Record], *, give_up: Callable[[], bool] = lambda: False
    ) -> int:
        """Send all records and wait for all acknowledgements; return how many were sent.

        Raises TemporaryError when Kafka refused one, or `give_up` returned true: then any of them may be on
        the topic, and the caller must send all again.
        """
        sent = 0
        try:
            for record in records:
                self._produce(topic, record, give_up)
                sent += 1
            # The remaining records are in flight, or have an error that is not handled yet.
            while len(self._producer) and not self._errors:
                self._poll(0.05, give_up)
            if self._errors:
                raise failure(self._errors[0], self._servers)
        except KafkaException as exc:
            self._renew()
            raise failure(exc, self._servers) from exc
        except CustsvcError:
            self._renew()
            raise
        return sent

    def _produce(self, topic: str, record: Record, give_up: Callable[[], bool]) -> None:
        key, value, headers, partition = record
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers)
                return
            except BufferError:
                self._poll(0.1, give_up)

    def _poll(self, seconds: float, give_up: Callable[[], bool]) -> None:
        self._producer.poll(seconds)
        if give_up():
            raise TemporaryError("stopped while waiting for Kafka", dependency="kafka")

    def _renew(self) -> None:
        """Drop the records in flight and start with a new producer."""
        self.close()
        self._start()

    def close(self) -> None:
        # Dropping records in flight is a fatal error for a gapless producer. The client raises it in whatever
        # code runs, even in a callback; this producer is discarded anyway.
        with suppress(KafkaException, SystemError):
            self._producer.purge()
            self._producer.flush(1)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def ensure_topics(settings: Settings, *, timeout: float = 30.0) -> list[str]:
    """Make the missing topics; return their names. Several roles may do this at once."""
    client = admin(settings)
    have = _topics(client, settings.kafka_servers, timeout)
    wanted = [
        _new(settings, settings.topic_updates, settings.partitions, _UPDATES_CONFIG),
        _new(settings, settings.topic_notify, min(settings.partitions, 3), {}),
        _new(settings, settings.topic_failed, 1, _FAILED_CONFIG),
        _new(settings, settings.topic_dead, 1, _FAILED_CONFIG),
    ]
    missing = [topic for topic in wanted if topic.topic not in have]
    if not missing:
        return []
    made = []
    for name, future in client.create_topics(missing, request_timeout=timeout).items():
        try:
            future.result()
            made.append(name)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise failure(exc, settings.kafka_servers) from exc
    _wait_for_leaders(client, settings, [topic.topic for topic in missing], timeout)
    return made


def _new(settings: Settings, name: str, partitions: int, config: Mapping[str, str]) -> NewTopic:
    return NewTopic(
        name,
        num_partitions=partitions,
        replication_factor=settings.replication,
        config={**_TOPIC_CONFIG, **config, "min.insync.replicas": str(max(1, settings.replication - 1))},
    )


def _topics(client: AdminClient, servers: str, timeout: float) -> Mapping[str, Any]:
    """The names of the existing topics."""
    return dict(metadata(client, servers, timeout).topics)


def metadata(client: AdminClient, servers: str, timeout: float) -> ClusterMetadata:
    """The existing brokers and topics. A permanent refusal ends it before the timeout.

    Raises TemporaryError or ConfigurationError.
    """
    deadline = time.monotonic() + timeout
    patience = _REFUSED_AFTER
    while time.monotonic() + patience < deadline:
        with suppress(KafkaException):
            return client.list_topics(timeout=patience)
        client.poll(0)
        if (refused := refusal(servers) or mismatch(servers)) is not None:
            raise refused
        patience *= 2
    with first_contact(client, servers):
        return client.list_topics(timeout=max(deadline - time.monotonic(), 1.0))


def topic_configs(client: AdminClient, names: Sequence[str], *, timeout: float) -> dict[str, dict[str, str]]:
    """The configuration of topics. Raises KafkaException."""
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    if not resources:
        return {}
    answers = client.describe_configs(resources, request_timeout=timeout)
    return {
        resource.name: {entry.name: entry.value for entry in future.result().values()}
        for resource, future in answers.items()
    }


def layout(client: AdminClient, topic: str, servers: str) -> tuple[str, int]:
    """A topic's id, empty if the broker does not report it, and its number of partitions.

    Raises TemporaryError if there is no such topic: a broker that has just started may not know it yet.
    """
    try:
        future = client.describe_topics(TopicCollection([topic]), request_timeout=_ASIDE)[topic]
        described = future.result()
        return str(described.topic_id), len(described.partitions)
    except KafkaException as exc:
        if exc.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise _no_topic(topic, servers) from exc
    # An old broker, or the in-memory stand-in. The metadata still has the partitions.
    metadata = _topics(client, servers, TIMEOUT)
    if topic not in metadata or not metadata[topic].partitions:
        raise _no_topic(topic, servers)
    return "", len(metadata[topic].partitions)


def _no_topic(topic: str, servers: str) -> TemporaryError:
    return TemporaryError(
        f"Kafka at {servers} has no topic {topic}", dependency="kafka", fix="custsvc topics create"
    )


def record_limit(client: AdminClient, topic: str) -> int:
    """A topic's record size limit in bytes; the broker's usual limit if it does not report it."""
    try:
        configs = topic_configs(client, [topic], timeout=_ASIDE)
    except KafkaException:
        return _USUAL_LIMIT
    return int(configs.get(topic, {}).get("max.message.bytes") or _USUAL_LIMIT)


def ends_before(message: Any, end: int | None) -> bool:
    """Whether a consumer that got this record or end of partition has everything before offset `end`."""
    if end is None:
        return False
    error = message.error()
    if error is None:
        return bool(message.offset() + 1 >= end)
    return error.code() == END_OF_PARTITION and bool(message.offset() >= end)


def _wait_for_leaders(client: AdminClient, settings: Settings, names: list[str], timeout: float) -> None:
    """Wait until each partition of a new topic has a leader: before that it cannot be used."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        have = _topics(client, settings.kafka_servers, timeout)
        if all(name in have and all(p.leader >= 0 for p in have[name].partitions.values()) for name in names):
            return
        time.sleep(0.1)
    raise TemporaryError(f"the topics {', '.join(names)} got no leader in {timeout:g} s", dependency="kafka")


def partitions(client: Consumer, topic: str, servers: str, *, timeout: float = TIMEOUT) -> list[int]:
    """The partitions of a topic. Raises ConfigurationError if there is no such topic."""
    with first_contact(client, servers):
        found = client.list_topics(topic, timeout=timeout).topics[topic]
    if found.error is not None or not found.partitions:
        raise ConfigurationError(
            f"Kafka at {servers} has no topic {topic}", fix="start a role of custsvc: it makes the topics"
        )
    return sorted(found.partitions)


def record_time(millis: int) -> dt.datetime:
    """The time of a record. Producers may write any number, so it is clamped to the valid range."""
    return dt.datetime.fromtimestamp(min(max(millis, 0), _LAST_MILLIS) / 1000, dt.UTC)


def watermarks(
    client: Consumer, topic: str, parts: Sequence[int], servers: str, *, timeout: float = TIMEOUT
) -> dict[int, tuple[int, int]]:
    """Per partition the offsets of its first record and of its next record."""
    deadline = time.monotonic() + timeout
    found: dict[int, tuple[int, int]] = {}
    while len(found) < len(parts):
        part = parts[len(found)]
        try:
            found[part] = client.get_watermark_offsets(TopicPartition(topic, part), timeout=timeout)
        except KafkaException as exc:
            if exc.args[0].code() not in _LEADERLESS or time.monotonic() > deadline:
                raise failure(exc, servers) from exc
            time.sleep(0.1)
    return found


def committed(client: Consumer, topic: str, parts: Sequence[int], servers: str) -> dict[int, int]:
    """Per partition the offset that the client's group has committed; leaves out partitions without one."""
    try:
        found = client.committed([TopicPartition(topic, part) for part in parts], timeout=TIMEOUT)
    except KafkaException as exc:
        raise failure(exc, servers) from exc
    return {place.partition: place.offset for place in found if place.offset >= 0}


def ends(client: AdminClient, topic: str, parts: Sequence[int], servers: str) -> dict[int, int]:
    """Per partition the offset of its next record, by one request to each broker."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(topic, part): latest for part in parts}
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            answers = client.list_offsets(wanted, request_timeout=TIMEOUT)
            return {asked.partition: int(answer.result().offset) for asked, answer in answers.items()}
        except KafkaException as exc:
            if exc.args[0].code() not in _LEADERLESS or time.monotonic() > deadline:
                raise failure(exc, servers) from exc
            time.sleep(0.1)


__all__ = [
    "END_OF_PARTITION",
    "OFFSET_BEGINNING",
    "AdminClient",
    "Consumer",
    "KafkaError",
    "KafkaException",
    "Message",
    "NewTopic",
    "Producer",
    "Publisher",
    "Record",
    "TopicCollection",
    "TopicPartition",
    "admin",
    "check_options",
    "committed",
    "consumer",
    "ends",
    "ends_before",
    "ensure_topics",
    "failure",
    "first_contact",
    "is_passing",
    "layout",
    "metadata",
    "partition_of",
    "partitions",
    "record_limit",
    "watermarks",
]
