"""The topics as they are on the cluster, for `topics` and `doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..config import Settings
from . import client as kafka

# The parts of a topic's configuration to show.
SHOWN = ("cleanup.policy", "retention.ms", "min.insync.replicas", "max.message.bytes")


@dataclass(frozen=True, slots=True)
class Topic:
    """One of our topics. Without partitions it does not exist yet."""

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


def describe(settings: Settings, *, timeout: float = kafka.TIMEOUT) -> Cluster:
    """Our topics on the cluster. Raises TemporaryError or ConfigurationError if it does not answer."""
    client = kafka.admin(settings)
    metadata = kafka.metadata(client, settings.kafka_servers, timeout)
    with kafka.first_contact(client, settings.kafka_servers):
        found = {name: metadata.topics[name] for name in purposes(settings) if name in metadata.topics}
        configs = kafka.topic_configs(client, list(found), timeout=timeout)
    topics = []
    for name, purpose in purposes(settings).items():
        partitions = found[name].partitions if name in found else {}
        replication = min((len(p.replicas) for p in partitions.values()), default=0)
        topics.append(Topic(name, purpose, len(partitions), replication, configs.get(name, {})))
    return Cluster(len(metadata.brokers), tuple(topics))
