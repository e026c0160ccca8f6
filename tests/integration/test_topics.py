"""Topics where the broker decides: its replication, what it refuses, and a broker without topic ids."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from custsvc.config import Settings
from custsvc.domain.customers import Fields
from custsvc.errors import ConfigurationError
from custsvc.kafka import client as kafka
from custsvc.kafka import topics
from custsvc.ports.facts import Fact
from custsvc.ports.store import Store
from custsvc.relay.guard import check_topic
from custsvc.service.customers import Caller, CustomerService
from tests.waiting import until

from .conftest import Topic, Workers


@pytest.fixture
def unmade(settings: Settings) -> Settings:
    """Settings with topics that nobody has made yet."""
    mine = uuid.uuid4().hex[:12]
    names = {f"topic_{kind}": f"{kind}-{mine}" for kind in ("updates", "notify", "failed", "dead")}
    return settings.replace(**names)


def test_a_broker_may_choose_the_replication_of_topics(unmade: Settings) -> None:
    topics.ensure_topics(unmade.replace(replication=topics.AS_THE_BROKER_SAYS))

    made = topics.describe(unmade).topics
    assert [(each.partitions, each.replication) for each in made] == [(4, 1), (3, 1), (1, 1), (1, 1)]
    # The one that we set otherwise: the broker's own.
    assert {each.config["min.insync.replicas"] for each in made} == {"1"}


@pytest.mark.parametrize("why", ["a factor that it has no brokers for", "a configuration"])
def test_what_a_broker_refuses_to_make_is_a_wrong_setting_that_says_why(
    unmade: Settings, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "a configuration":
        monkeypatch.setattr(topics, "_UPDATES_CONFIG", {"cleanup.policy": "compact", "some.policy": "x"})
    else:
        unmade = unmade.replace(replication=3)

    with pytest.raises(ConfigurationError, match="does not make the topic") as refused:
        topics.ensure_topics(unmade)

    assert unmade.topic_updates in str(refused.value)
    assert "docs/kafka.md" in (refused.value.fix or "")
    # Made as the broker wants them, they are used as they are.
    monkeypatch.undo()
    topics.ensure_topics(unmade.replace(replication=1))
    assert topics.ensure_topics(unmade) == []


@pytest.fixture
def old(tmp_path: Path, unmade: Settings) -> Iterator[Settings]:
    """Settings of a broker that reports neither ids of topics nor their configuration."""
    file = tmp_path / "address"
    broker = subprocess.Popen([sys.executable, "-m", "custsvc.local.mockbroker", "--address-file", str(file)])
    try:
        until("it has an address", file.exists)
        yield unmade.replace(kafka=file.read_text().strip(), replication=1)
    finally:
        broker.terminate()
        broker.wait(60)


@pytest.mark.parametrize("backend", ["postgres"])
def test_on_a_broker_without_topic_ids_a_relay_works_and_other_partitions_are_noticed(
    store: Store, old: Settings
) -> None:
    client = kafka.admin(old)
    for name in topics.purposes(old):
        client.list_topics(name)  # this broker makes a topic that is asked for
    assert topics.ensure_topics(old) == []
    CustomerService(store.customers).create(Fields("Ada"), Caller("test"))

    with Workers(old, ExitStack()).running_relay(store):
        until("the outbox is empty", lambda: store.outbox.depth().waiting == 0)

    layout = check_topic(old, store.facts)
    assert layout.id == ""
    assert len(Topic(old).records(old.topic_updates)) == 1
    # As after somebody has made it again with another number.
    store.facts.put(Fact.TOPIC + old.topic_updates, f'{{"id":"","partitions":{layout.partitions + 1}}}')
    with pytest.raises(ConfigurationError, match="partitions, it had"):
        check_topic(old, store.facts)
