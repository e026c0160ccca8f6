"""Makes the clients of Kafka with settings that lose nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from ..config import Settings
from . import msk
from . import options as kafka_options
from .errors import librdkafka, note, note_options

# Seconds for a call that a person waits for, or of a worker that will try again anyway.
TIMEOUT = 5.0

# Most bytes of one fetch response, as sent over the network. A bigger single record still arrives.
_FETCH = 1_000_000


def _common(settings: Settings) -> dict[str, Any]:
    properties = settings.kafka_connection
    servers = properties["bootstrap.servers"]
    note_options(servers, properties)
    return {
        "client.id": "custsvc",
        "socket.keepalive.enable": True,
        # Reconnect to a broker within a second of its return, not within ten.
        "reconnect.backoff.max.ms": 1000,
        # A cluster that briefly reports no brokers, as after a freeze, leaves the client without any. The
        # client asks the address again after this long, not after five minutes.
        "metadata.recovery.rebootstrap.trigger.ms": 10_000,
        # Notice added partitions within this time, not within five minutes.
        "topic.metadata.refresh.interval.ms": 10_000,
        "error_cb": partial(note, servers),
        "logger": librdkafka,
        **properties,
        **msk.sign_in(settings, servers),
    }


def check_options(settings: Settings) -> None:
    """Raise ConfigurationError if a Kafka option is wrong. Connects to nothing."""
    # Without the sign-in at AWS, which connects.
    trial = settings.replace(kafka=settings.kafka or "unset", kafka_aws_region="")
    kafka_options.check(settings, _common(trial), _consumer(trial, "check"), publisher_config(trial))


def admin(settings: Settings) -> AdminClient:
    """A client for topics and groups."""
    return kafka_options.make(AdminClient, _common(settings), settings.kafka_options)


def consumer(settings: Settings, group: str, **options: Any) -> Consumer:
    """A consumer that commits nothing by itself. Its group is this one of the installation: `notify`.

    `options` are librdkafka's, with `_` for the dots.
    """
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
        "group.id": settings.group_prefix + group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "partition.assignment.strategy": "cooperative-sticky",
        **{name.replace("_", "."): value for name, value in options.items()},
    }


def publisher_config(settings: Settings) -> dict[str, Any]:
    """librdkafka's properties for a producer that loses, repeats and reorders nothing."""
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
        # The publisher asks for the reports that it needs.
        "delivery.report.only.error": False,
    }


# The types of confluent_kafka that other rooms name; they do not import the driver itself.
__all__ = [
    "TIMEOUT",
    "AdminClient",
    "Consumer",
    "KafkaException",
    "Producer",
    "admin",
    "check_options",
    "consumer",
    "publisher_config",
]
