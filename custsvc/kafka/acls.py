"""Permissions on Kafka: what each role needs, what the account lacks, and the commands to grant it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from confluent_kafka import KafkaError, KafkaException, TopicCollection

from ..config import Settings
from .client import TIMEOUT, admin

Role = Literal["serve", "relay", "notify", "replicate", "commands", "topics create", "topics grow"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
# Who does this has an account for it alone: that others lack it is no fault.
_APART: Final[tuple[Role, ...]] = ("topics create", "topics grow")

# By the setting that names the topic. Whoever may read or write a topic may also describe it, and whoever may
# write one may also produce to it idempotently (Kafka 2.8 or later). AlterConfigs includes DescribeConfigs.
_TOPICS: Final[Mapping[Role, Mapping[str, str]]] = {
    "serve": {"topic_updates": "Read", "topic_dead": "Read"},
    "relay": {"topic_updates": "Read Write DescribeConfigs"},
    "notify": {"topic_updates": "Read", "topic_notify": "Read", "topic_failed": "Write"},
    "replicate": {"topic_updates": "Read", "topic_dead": "Write"},
    "commands": {
        "topic_updates": "Read Write DescribeConfigs",
        "topic_notify": "Describe DescribeConfigs",
        "topic_failed": "Describe DescribeConfigs",
        "topic_dead": "Read Write DescribeConfigs",
    },
    "topics create": dict.fromkeys(
        ("topic_updates", "topic_notify", "topic_failed", "topic_dead"), "Create Describe"
    ),
    "topics grow": {"topic_updates": "Read Write Alter AlterConfigs Delete"},
}
# Beginnings of the names of groups, after the prefix of all groups, and what is done with them. A reader uses
# no group, but its client asks the broker about one all the same.
_GROUPS: Final[Mapping[Role, Mapping[str, str]]] = {
    "serve": {"": "Describe"},
    "relay": {"reader-": "Describe"},
    "notify": {"notify": "Read"},
    "replicate": {"copy-": "Read", "reader-": "Describe"},
    "commands": {"": "Describe"},
    "topics create": {},
    "topics grow": {},
}
# A growth waits for the groups of other services too.
_ALL_GROUPS: Final[Mapping[Role, str]] = {"topics grow": "Describe"}


class Need(NamedTuple):
    """Operations on a topic or on groups. `prefixed`: all groups whose names begin so; name `*`: all."""

    resource: Literal["topic", "group"]
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


def needs(settings: Settings, role: Role) -> list[Need]:
    """What a role needs, and no more."""
    topics = [
        Need("topic", str(getattr(settings, setting)), tuple(operations.split()))
        for setting, operations in _TOPICS[role].items()
    ]
    groups = [
        Need("group", settings.group_prefix + start, tuple(operations.split()), prefixed=True)
        for start, operations in _GROUPS[role].items()
    ]
    if role in _ALL_GROUPS:
        groups.append(Need("group", "*", tuple(_ALL_GROUPS[role].split())))
    return topics + groups


def topics_of(settings: Settings, role: Role) -> list[str]:
    """The topics that a role uses."""
    return [need.name for need in needs(settings, role) if need.resource == "topic"]


def lacking(settings: Settings, *, timeout: float = TIMEOUT) -> dict[Role, list[str]] | None:
    """The operations that each role needs and the account lacks: `Write on topic X`.

    None if the broker does not report permissions. Leaves out missing and hidden topics.
    """
    names = {name for role in ROLES for name in topics_of(settings, role)}
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
            f"{operation} on topic {need.name}"
            for need in needs(settings, role)
            if need.name in allowed
            for operation in need.operations
            if not {operation, "All"} & allowed[need.name]
        ]
        for role in ROLES
        if role not in _APART
    }


def _word(name: str) -> str:
    """`DESCRIBE_CONFIGS` as Kafka's tools write it."""
    return "".join(part.capitalize() for part in name.split("_"))


def commands(settings: Settings, role: Role, principal: str) -> list[str]:
    """The commands that grant a principal, as `User:custsvc_relay`, exactly what a role needs."""
    start = f"kafka-acls.sh --bootstrap-server BROKER --add --allow-principal {shlex.quote(principal)}"
    return [
        f"{start} {' '.join(f'--operation {each}' for each in need.operations)}"
        f"{' --resource-pattern-type prefixed' if need.prefixed else ''}"
        f" --{need.resource} {shlex.quote(need.name)}"
        for need in needs(settings, role)
    ]


def entries(settings: Settings, role: Role, principal: str) -> list[dict[str, str]]:
    """The same as one entry for each operation, for programs."""
    return [
        {
            "role": role,
            "principal": principal,
            "resource": need.resource,
            "name": need.name,
            "pattern": "prefixed" if need.prefixed else "literal",
            "operation": operation,
        }
        for need in needs(settings, role)
        for operation in need.operations
    ]
