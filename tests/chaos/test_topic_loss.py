"""A topic that loses its end, as with a Kafka restored to an older state: the relay sends it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from custsvc.config import BACKENDS, Settings
from custsvc.kafka import client as kafka
from custsvc.kafka import offsets
from custsvc.local import LocalServers
from custsvc.relay.loss import loss_of
from custsvc.relay.shards import ask, division_of
from custsvc.relay.team import Team
from custsvc.runtime.loop import Stop
from custsvc.stores import open_store
from tests.background import in_background
from tests.chaos import checker
from tests.chaos.conftest import OPTIONS, Line, fresh_topics
from tests.chaos.test_crashes import DIED
from tests.waiting import until


class Broker:
    """A Kafka of the module's own, which goes back to the state it had once."""

    def __init__(self, folder: Path) -> None:
        self._servers = LocalServers(folder, names=["kafka"])
        self._servers.start()
        server = self._servers.server("kafka")
        if server.is_mock:  # type: ignore[attr-defined]
            pytest.skip("the stand-in for Kafka keeps nothing")
        self.url = server.url
        self._data, self._kept = server.folder / "data", folder / "kept"

    def keep(self) -> None:
        """Remember this state."""
        self._servers.server("kafka").stop()
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self._data, self._kept)
        self._servers.restart("kafka")

    def go_back(self) -> None:
        """Be in the state that was kept, as after a restore, or an election without the newest records."""
        self._servers.server("kafka").kill()
        shutil.rmtree(self._data)
        shutil.copytree(self._kept, self._data)
        self._servers.restart("kafka")

    def close(self) -> None:
        self._servers.stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker") / "kafka")
    yield broker
    broker.close()


@pytest.fixture
def lines(broker: Broker, all_databases: Callable[[str], Any], tmp_path: Path) -> Iterator[list[Line]]:
    """A line in each direction, over this broker."""
    with ExitStack() as stack:
        found = []
        for backend in BACKENDS:
            urls = {f"{each}_url": all_databases(each).migrated() for each in BACKENDS}
            for each in BACKENDS:
                stack.callback(all_databases(each).drop, urls[f"{each}_url"])
            settings = Settings(
                backend=backend, kafka=broker.url, kafka_options=OPTIONS, partitions=2, **urls
            )
            found.append(Line(fresh_topics(settings), tmp_path / backend, stack))
            (tmp_path / backend).mkdir()
        yield found


@contextmanager
def relays(lines: list[Line]) -> Iterator[None]:
    stops = [line.relay() for line in lines]
    yield
    for stop in stops:
        stop.ask()


def copied(lines: list[Line]) -> None:
    """Let each copy read all there is, and follow no longer."""
    for line in lines:
        stop = line.replicate()
        line.settle()
        stop.ask()
        until("it has stopped", lambda line=line: not line.members())


def resent(line: Line) -> int:
    """How many events were sent again after the last loss, once that is done."""
    loss = loss_of(line.source.facts, line.settings.topic_updates)
    return loss.sent if loss and loss.done else 0


def is_whole(line: Line) -> bool:
    """Whether every version is on the topic, and the newest of each customer comes last."""
    last: dict[int, int] = {}
    seen: set[tuple[int, int]] = set()
    for _, customer_id, version in checker.read_topic(line.settings.kafka, line.settings.topic_updates):
        last[customer_id] = version
        seen.add((customer_id, version))
    all_there = {(i, v) for i, newest in line.acknowledged.items() for v in range(1, newest + 1)}
    return line.published() and last == line.acknowledged and all_there == seen


def test_acknowledged_events_that_kafka_lost_are_sent_again(lines: list[Line], broker: Broker) -> None:
    """The relay runs; then it does not, and dies during the repair. The copies slept and noticed nothing."""
    with relays(lines):
        ids = {line: line.crowd(8) for line in lines}
        copied(lines)
        broker.keep()
        for line in lines:
            for each in ids[line][:4]:
                line.change(each, 3)
            line.crowd(4)
        copied(lines)

        broker.go_back()
        for line in lines:
            line.change(ids[line][0])
            line.change(ids[line][7], 2)
            until("what was lost is sent again", lambda line=line: resent(line) >= 16)
            until("all is there", lambda line=line: is_whole(line))
    copied(lines)
    for line in lines:
        assert line.judge().problems == []

    broker.go_back()
    for line in lines:
        line.change(ids[line][1])
        assert line.role("relay").start(crash_at="relay.filled").wait() == DIED
        loss = loss_of(line.source.facts, line.settings.topic_updates)
        assert loss is not None
        assert not loss.done
    with relays(lines):
        for line in lines:
            until("it is done", lambda line=line: resent(line))
            until("all is there", lambda line=line: is_whole(line))
        copied(lines)
    for line in lines:
        assert line.judge().problems == []


@contextmanager
def shared_relays(lines: list[Line]) -> Iterator[None]:
    """Two shards of each source, led by one process."""
    with ExitStack() as stack:
        for line in lines:
            ask(line.source.facts, line.settings.topic_updates, 2)
            stop = Stop()
            team = Team(line.settings, stack.enter_context(open_store(line.settings)), stop)
            stack.enter_context(in_background(team.run, stop))
        for line in lines:
            until("it is divided", lambda line=line: division_of(line.source.facts).shards == 2)
        yield


def resent_by_each(line: Line) -> bool:
    """Whether both shards have noticed a loss and sent again what they lacked."""
    facts, topic = line.source.facts, line.settings.topic_updates
    losses = [loss_of(facts, topic, only=f"#{number}") for number in range(2)]
    return all(loss is not None and loss.done and loss.sent for loss in losses)


def test_each_of_two_shards_sends_again_what_its_partitions_lost(lines: list[Line], broker: Broker) -> None:
    """Then one relay leads everything, finds nothing amiss, and knows what was lost."""
    with shared_relays(lines):
        ids = {line: line.crowd(16) for line in lines}
        for line in lines:
            line.settle_topic()
        broker.keep()
        for line in lines:
            for each in ids[line]:
                line.change(each, 2)
            line.settle_topic()

        broker.go_back()
        for line in lines:
            line.change(ids[line][0])
            until("what was lost is sent again", lambda line=line: resent_by_each(line))
            until("all is there", lambda line=line: is_whole(line))
    for line in lines:
        assert line.judge(copied=False).problems == []
        facts, topic = line.source.facts, line.settings.topic_updates
        known = loss_of(facts, topic)
        ask(facts, topic, 1)
        line.relay()
        line.change(ids[line][0])
        line.settle_topic()
        assert loss_of(facts, topic) == loss_of(facts, topic, only="") == known


def cut_beginnings(line: Line) -> None:
    """Let retention take all there is, as on a topic that is not compacted."""
    topic = line.settings.topic_updates
    client = kafka.admin(line.settings)
    entry = ConfigEntry("cleanup.policy", "delete", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for changed in client.incremental_alter_configs([resource]).values():
        changed.result(60)
    ends = offsets.ends(client, topic, range(line.settings.partitions), line.settings.kafka)
    places = [TopicPartition(topic, part, end) for part, end in ends.items()]

    def cut() -> bool:
        for done in client.delete_records(places).values():
            done.result(60)
        return True

    # The broker answers the change of the policy a moment before its partitions know it.
    until("the records are deleted", cut, despite=kafka.KafkaException)


def test_events_that_kafka_still_has_are_not_sent_again(lines: list[Line]) -> None:
    """Nothing is amiss where a relay was killed, or where the beginning of a topic is gone."""
    with relays(lines):
        for line in lines:
            line.crowd(8, 2)
            line.settle_topic()
    for line in lines:
        cut_beginnings(line)
        relay = line.role("relay")
        line.crowd(4)
        assert relay.start(crash_at="relay.saved").wait() == DIED
    with relays(lines):
        for line in lines:
            line.crowd(1)
            line.settle_topic()
            assert loss_of(line.source.facts, line.settings.topic_updates) is None
            assert len(checker.read_topic(line.settings.kafka, line.settings.topic_updates)) <= 2 * 4 + 1
