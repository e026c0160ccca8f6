"""The topics: made where they are missing, and as they are on the cluster."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.cimpl import NewPartitions, NewTopic

from ..config import Settings
from ..errors import CustsvcError, TemporaryError, Unusable
from .client import TIMEOUT, admin
from .errors import failure, first_contact, mismatch, refusal

# Seconds without an answer after which we first look at the errors that librdkafka has reported.
_REFUSED_AFTER = 0.25
# What a broker answers if this account may not make a topic, or may not see its configuration.
_FORBIDDEN = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
# What it answers if it wants another topic: by a policy, or for want of brokers.
_OTHERWISE = (
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_CONFIG,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REPLICATION_FACTOR,
)
_MAKE_OR_SHOW = "custsvc topics create; or allow this account what custsvc topics acls prints"
AS_THE_BROKER_SAYS = -1
"""The replication factor that stands for the broker's own."""

# Seconds for a request that some brokers cannot answer.
_ASIDE = 3.0
# Seconds for a request that changes a topic.
_LONG = 30.0
# Why a broker does not delete records for a moment: it has the old policy, or a partition has no leader.
_NOT_YET = (
    KafkaError.POLICY_VIOLATION,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
)
# The most bytes of a record where the broker does not report its limit.
_USUAL_LIMIT = 1_048_588

_DAY_MS = 24 * 3600 * 1000
# The topic keeps every change for a week; compaction removes old versions, and erased data, within two.
_UPDATES_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": str(7 * _DAY_MS),
    "max.compaction.lag.ms": str(14 * _DAY_MS),
}
# Unreadable records hold personal data: keep them only as long as a repair takes.
_FAILED_CONFIG: Mapping[str, str] = {"cleanup.policy": "delete", "retention.ms": str(14 * _DAY_MS)}
# The parts of a topic's configuration to show.
SHOWN = ("cleanup.policy", "retention.ms", "min.insync.replicas", "max.message.bytes")


@dataclass(frozen=True, slots=True)
class Topic:
    """One of our topics. Without partitions it does not exist yet, or is hidden from this account.

    `config` is empty if the account may not see it.
    """

    name: str
    purpose: str
    partitions: int = 0
    replication: int = 0
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """How many brokers there are, and our topics."""

    brokers: int
    topics: tuple[Topic, ...]


def purposes(settings: Settings) -> dict[str, str]:
    """Our topics and what each is for."""
    return {
        settings.topic_updates: "every change of a customer",
        settings.topic_notify: "mails that other services ask for",
        settings.topic_failed: "mails that were given up",
        settings.topic_dead: "records that a copy cannot read",
    }


def describe(settings: Settings, *, timeout: float = TIMEOUT) -> Cluster:
    """Our topics on the cluster. Raises TemporaryError or ConfigurationError if it does not answer."""
    client = admin(settings)
    cluster = metadata(client, settings.kafka_servers, timeout)
    with first_contact(client, settings.kafka_servers):
        found = {name: cluster.topics[name] for name in purposes(settings) if name in cluster.topics}
        configs = {} if is_stand_in(cluster) else topic_configs(client, list(found), timeout=timeout)
    topics = []
    for name, purpose in purposes(settings).items():
        partitions = found[name].partitions if name in found else {}
        replication = min((len(p.replicas) for p in partitions.values()), default=0)
        topics.append(Topic(name, purpose, len(partitions), replication, configs.get(name, {})))
    return Cluster(len(cluster.brokers), tuple(topics))


def ensure_topics(
    settings: Settings, *, needed: Collection[str] | None = None, timeout: float = 30.0
) -> list[str]:
    """Make the missing topics; return their names. Several roles may do this at once.

    An account that may make no topics is refused only for those of `needed`, by default all. Kafka hides
    topics from an account that may not describe them.
    """
    client = admin(settings)
    cluster = metadata(client, settings.kafka_servers, timeout)
    missing = [topic for topic in wanted(settings) if topic.topic not in cluster.topics]
    if not missing:
        return []
    if is_stand_in(cluster):
        return _made_by_asking(client, settings, [topic.topic for topic in missing], timeout)
    made, forbidden = [], []
    for name, future in client.create_topics(missing, request_timeout=timeout).items():
        try:
            future.result()
            made.append(name)
        except KafkaException as exc:
            code = exc.args[0].code()
            if code in _FORBIDDEN:
                forbidden.append(name)
            elif code != KafkaError.TOPIC_ALREADY_EXISTS:
                raise _not_made(name, exc, settings.kafka_servers) from exc
    if lacking := [name for name in forbidden if needed is None or name in needed]:
        raise Unusable(
            f"Kafka at {settings.kafka_servers} shows this account no topic {', '.join(lacking)}, "
            "and it may not make one",
            fix="make the topics by an account that may (custsvc topics create, or docs/kafka.md), "
            "and allow this account what custsvc topics acls prints",
            dependency="kafka",
        )
    _wait_for_leaders(
        client, settings, [topic.topic for topic in missing if topic.topic not in forbidden], timeout
    )
    return made


def is_stand_in(cluster: ClusterMetadata) -> bool:
    """Whether this is librdkafka's broker in memory, which answers no request to a controller."""
    return (cluster.cluster_id or "").startswith("mockCluster")


def _made_by_asking(client: AdminClient, settings: Settings, names: list[str], timeout: float) -> list[str]:
    """Ask the stand-in for topics, which makes them, with partitions as it likes."""
    for name in names:
        with first_contact(client, settings.kafka_servers):
            client.list_topics(name, timeout=timeout)
    _wait_for_leaders(client, settings, names, timeout)
    return names


def wanted(settings: Settings) -> list[NewTopic]:
    """Our topics as we make them."""
    return [
        _new(settings, settings.topic_updates, settings.partitions, _UPDATES_CONFIG),
        _new(settings, settings.topic_notify, min(settings.partitions, 3), {}),
        _new(settings, settings.topic_failed, 1, _FAILED_CONFIG),
        _new(settings, settings.topic_dead, 1, _FAILED_CONFIG),
    ]


def _new(settings: Settings, name: str, partitions: int, config: Mapping[str, str]) -> NewTopic:
    factor = settings.replication
    if factor != AS_THE_BROKER_SAYS:
        config = {**config, "min.insync.replicas": str(max(1, factor - 1))}
    return NewTopic(name, num_partitions=partitions, replication_factor=factor, config=dict(config))


def _not_made(name: str, exc: KafkaException, servers: str) -> CustsvcError:
    """The error about a topic that the broker does not make."""
    error = exc.args[0]
    if error.code() not in _OTHERWISE:
        return failure(exc, servers)
    return Unusable(
        f"Kafka at {servers} does not make the topic {name}: {error.str()}",
        fix="make it as Kafka wants it (docs/kafka.md has its properties), or set CUSTSVC_REPLICATION and "
        "CUSTSVC_PARTITIONS to what Kafka allows",
        dependency="kafka",
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
    # Most of the time stays for the last call: each asks anew.
    while time.monotonic() + 2 * patience < deadline:
        with suppress(KafkaException):
            return client.list_topics(timeout=patience)
        client.poll(0)
        refused = refusal(servers) or (mismatch(servers) if patience > _REFUSED_AFTER else None)
        if refused is not None:
            raise refused
        patience *= 3
    with first_contact(client, servers):
        return client.list_topics(timeout=max(deadline - time.monotonic(), 1.0))


def topic_configs(client: AdminClient, names: Sequence[str], *, timeout: float) -> dict[str, dict[str, str]]:
    """The configuration of topics, but for those that this account may not see. Raises KafkaException."""
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    if not resources:
        return {}
    answers = client.describe_configs(resources, request_timeout=timeout)
    found = {}
    for resource, future in answers.items():
        try:
            found[resource.name] = {entry.name: entry.value for entry in future.result().values()}
        except KafkaException as exc:
            if exc.args[0].code() not in _FORBIDDEN:
                raise
    return found


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
    known = _topics(client, servers, TIMEOUT)
    if topic not in known or not known[topic].partitions:
        raise _no_topic(topic, servers)
    return "", len(known[topic].partitions)


def add_partitions(client: AdminClient, topic: str, to: int, servers: str) -> None:
    """Add partitions to a topic until it has `to` of them. It is not an error if it has them already."""
    try:
        (answer,) = client.create_partitions(
            [NewPartitions(topic, to)], request_timeout=_LONG, operation_timeout=_LONG
        ).values()
        answer.result()
    except KafkaException as exc:
        if exc.args[0].code() != KafkaError.INVALID_PARTITIONS:
            raise failure(exc, servers) from exc


def delete_before(client: AdminClient, topic: str, offsets: Mapping[int, int], servers: str) -> None:
    """Delete the records of a compacted topic before these offsets.

    Kafka deletes records of a topic only while its cleanup policy allows deletion. So that is allowed for the
    moment, with a retention without end. If the process dies meanwhile, nothing more is deleted, and the next
    call puts the policy back. Raises ConfigurationError if the account may not do this.
    """
    wanted = [TopicPartition(topic, part, offset) for part, offset in offsets.items() if offset]
    try:
        config = topic_configs(client, [topic], timeout=_LONG).get(topic)
        if config is None:
            raise Unusable(
                f"this account may not see the configuration of the topic {topic}",
                fix="allow it what custsvc topics acls 'topics grow' prints",
                dependency="kafka",
            )
        with _deletion_allowed(client, topic, config):
            if wanted:
                _delete(client, wanted)
    except KafkaException as exc:
        raise failure(exc, servers) from exc


@contextmanager
def _deletion_allowed(client: AdminClient, topic: str, config: Mapping[str, str]) -> Iterator[None]:
    policy = config.get("cleanup.policy", "")
    if "delete" not in policy:
        allowed = {"cleanup.policy": "compact,delete", "retention.ms": "-1", "retention.bytes": "-1"}
        _alter(client, topic, allowed)
    elif config.get("retention.ms") != "-1":
        # Somebody else's choice.
        yield
        return
    try:
        yield
    finally:
        _alter(client, topic, {"cleanup.policy": "compact", "retention.ms": None, "retention.bytes": None})


def _delete(client: AdminClient, before: list[TopicPartition]) -> None:
    """Delete the records before these places; a broker may not know yet that it is allowed, or who leads."""
    deadline = time.monotonic() + _LONG
    while True:
        try:
            for answer in client.delete_records(before, request_timeout=_LONG).values():
                answer.result()
            return
        except KafkaException as exc:
            if exc.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        with suppress(KafkaException):
            client.list_topics(before[0].topic, timeout=TIMEOUT)


def _alter(client: AdminClient, topic: str, values: Mapping[str, str | None]) -> None:
    """Set values of a topic's configuration; None takes back what was set for this topic."""
    entries = [
        ConfigEntry(
            name,
            value or "",
            incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
        )
        for name, value in values.items()
    ]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    (answer,) = client.incremental_alter_configs([resource], request_timeout=_LONG).values()
    answer.result()


class NoTopic(Unusable):
    """The cluster has no such topic, or hides it from this account."""


def _no_topic(topic: str, servers: str) -> TemporaryError:
    return TemporaryError(
        f"Kafka at {servers} has no topic {topic}, or hides it", dependency="kafka", fix=_MAKE_OR_SHOW
    )


def record_limit(client: AdminClient, topic: str) -> int:
    """A topic's record size limit in bytes; the broker's usual limit if it does not report it."""
    try:
        configs = topic_configs(client, [topic], timeout=_ASIDE)
    except KafkaException:
        return _USUAL_LIMIT
    return int(configs.get(topic, {}).get("max.message.bytes") or _USUAL_LIMIT)


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
    """The partitions of a topic. Raises NoTopic if there is no such topic."""
    with first_contact(client, servers):
        found = client.list_topics(topic, timeout=timeout).topics.get(topic)
    if found is None or found.error is not None or not found.partitions:
        raise NoTopic(
            f"Kafka at {servers} has no topic {topic}, or hides it from this account",
            fix=_MAKE_OR_SHOW,
            dependency="kafka",
        )
    return sorted(found.partitions)
