"""Consumer groups as the brokers know them: which read a topic, how far, and who has which partition."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from ..errors import CustsvcError, Unusable
from .client import TIMEOUT
from .errors import failure


def readers(client: AdminClient, topic: str, servers: str) -> list[str]:
    """The groups that have committed offsets of this topic, or have members that read it.

    Only those that the account may describe. Raises TemporaryError or ConfigurationError.
    """
    try:
        listed = client.list_consumer_groups(request_timeout=TIMEOUT).result()
    except KafkaException as exc:
        raise failure(exc, servers) from exc
    names = [each.group_id for each in listed.valid]
    return [
        name
        for name in sorted(names)
        if committed(client, name, topic, servers) or assigned(client, name, topic, servers)
    ]


def committed(client: AdminClient, group: str, topic: str, servers: str) -> dict[int, int]:
    """Per partition of the topic the offset that the group has committed."""
    asked = [ConsumerGroupTopicPartitions(group)]
    try:
        (answer,) = client.list_consumer_group_offsets(asked, request_timeout=TIMEOUT).values()
        places: Sequence[TopicPartition] = answer.result().topic_partitions
    except KafkaException as exc:
        if _is_gone(exc):
            return {}
        raise _failure(exc, group, servers) from exc
    return {each.partition: each.offset for each in places if each.topic == topic and each.offset >= 0}


def assigned(client: AdminClient, group: str, topic: str, servers: str) -> set[int] | None:
    """The partitions of the topic that the group's members have; None if no member reads it.

    Empty while the group is shared out again.
    """
    try:
        (answer,) = client.describe_consumer_groups([group], request_timeout=TIMEOUT).values()
        described = answer.result()
    except KafkaException as exc:
        if _is_gone(exc):
            return None
        raise _failure(exc, group, servers) from exc
    if not described.members:
        return None
    if described.state != ConsumerGroupState.STABLE:
        return set()
    places = [each for member in described.members for each in member.assignment.topic_partitions]
    mine = {each.partition for each in places if each.topic == topic}
    return mine or None


def _is_gone(exc: KafkaException) -> bool:
    """Whether there is no such group any more."""
    return bool(exc.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND)


def _failure(exc: KafkaException, group: str, servers: str) -> CustsvcError:
    if exc.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
        return Unusable(
            f"the account may not describe the consumer group {group} of Kafka at {servers}",
            fix="allow it the last line of custsvc topics acls 'topics grow'",
            dependency="kafka",
        )
    return failure(exc, servers)
