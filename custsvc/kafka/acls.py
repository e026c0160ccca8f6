"""Kafka permissions: those that each role needs, those the account lacks, and the commands to grant them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from ..config import Settings
from ..ports.rights import RoleName
from .client import TIMEOUT, admin

# By the setting that names the topic. A role that reads or writes a topic also describes it.
_TOPICS: Final[Mapping[RoleName, Mapping[str, str]]] = {
    "serve": {"topic_updates": "Read", "topic_dead": "Read"},
    "relay": {"topic_updates": "Read Write DescribeConfigs"},
    "notify": {"topic_updates": "Read", "topic_notify": "Read", "topic_failed": "Write"},
    "replicate": {"topic_updates": "Read", "topic_dead": "Write"},
    "commands": {
        "topic_updates": "Read Write DescribeConfigs",
        "topic_notify": "Read DescribeConfigs",
        "topic_failed": "Read DescribeConfigs",
        "topic_dead": "Read Write DescribeConfigs",
    },
}


def needed(settings: Settings, role: RoleName) -> dict[str, list[str]]:
    """The operations that a role needs on each existing topic."""
    return {
        str(getattr(settings, setting)): [*operations.split(), "Describe"]
        for setting, operations in _TOPICS.get(role, {}).items()
    }


def lacking(settings: Settings, *, timeout: float = TIMEOUT) -> dict[RoleName, list[str]] | None:
    """The operations that each role needs and the account lacks: `Write on topic X`.

    None if the broker does not report permissions. Leaves out missing and hidden topics.
    """
    names = {name for role in _TOPICS for name in needed(settings, role)}
    client = admin(settings)
    asked = client.describe_topics(
        TopicCollection(sorted(names)), include_authorized_operations=True, request_timeout=timeout
    )
    allowed: dict[str, set[str]] = {}
    for name, future in asked.items():
        try:
            operations = future.result().authorized_operations
        except KafkaException as exc:
            if exc.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                allowed[name] = set()
            continue
        if operations is not None:
            allowed[name] = {_word(each.name) for each in operations}
    if not allowed:
        return None
    return {
        role: [
            f"{operation} on topic {topic}"
            for topic, operations in needed(settings, role).items()
            if topic in allowed
            for operation in operations
            if not {operation, "All"} & allowed[topic]
        ]
        for role in _TOPICS
    }


def _word(name: str) -> str:
    """`DESCRIBE_CONFIGS` as Kafka's tools write it."""
    return "".join(part.capitalize() for part in name.split("_"))


def commands(settings: Settings, role: RoleName, account: str) -> list[str]:
    """The commands that grant an account exactly what a role needs on existing topics."""
    start = f"kafka-acls.sh --bootstrap-server BROKER --add --allow-principal User:{account}"
    found = [
        f"{start} {' '.join(f'--operation {each}' for each in operations)} --topic {topic}"
        for topic, operations in needed(settings, role).items()
    ]
    return [
        *found,
        f"{start} --operation Read --resource-pattern-type prefixed --group {settings.group_prefix}",
    ]
