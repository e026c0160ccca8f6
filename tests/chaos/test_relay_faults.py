"""The relay against a broker, a network and a leader that fail: no gap, no disorder."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from operator import gt
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from custsvc.config import Settings
from custsvc.kafka import client as kafka
from custsvc.kafka import offsets
from custsvc.kafka.publisher import Publisher
from custsvc.kafka.reader import Reader
from custsvc.local import LocalServers
from custsvc.local.kafka import Kafka
from custsvc.local.process import Identity, send
from custsvc.relay.relay import BATCH
from custsvc.transfer.seed import seed_customers
from tests.addresses import through
from tests.chaos.conftest import OPTIONS, Line, fresh_topics
from tests.chaos.faultproxy import FaultProxy
from tests.chaos.roles import Role
from tests.sizes import FULL, sizes
from tests.waiting import until


class Broker:
    """A Kafka of the module's own, with a proxy before it: this one may be killed."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.proxy = stack.enter_context(FaultProxy())
        self._servers = LocalServers(folder, names=["kafka"])
        server = self._servers.server("kafka")
        assert isinstance(server, Kafka)
        server.advertised_port = self.proxy.port
        stack.callback(self._servers.stop)
        self._address = self._servers.start()["CUSTSVC_KAFKA"]
        self._server = self._servers.server("kafka")
        if self._server.is_mock:  # type: ignore[attr-defined]
            pytest.skip("the stand-in for Kafka keeps nothing over a kill")
        self.proxy.target = ("127.0.0.1", self._server.proxied_port)  # type: ignore[attr-defined]

    @property
    def through_proxy(self) -> str:
        return through(self._address, self.proxy.port)

    def _identity(self) -> Identity:
        identity = self._server.identity
        assert identity is not None
        return identity

    def pause(self) -> None:
        send(self._identity(), signal.SIGSTOP)

    def go_on(self) -> None:
        send(self._identity(), signal.SIGCONT)

    def kill(self) -> None:
        self._server.kill()

    def start(self) -> None:
        self._servers.restart("kafka")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with ExitStack() as stack:
        yield Broker(tmp_path_factory.mktemp("broker") / "kafka", stack)


@pytest.fixture
def own_line(
    broker: Broker, all_databases: Callable[[str], Any], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Line]:
    """A line over the module's own broker, from PostgreSQL to MongoDB."""
    urls = {f"{each}_url": all_databases(each).migrated() for each in ("postgres", "mongo")}
    settings = fresh_topics(Settings(kafka=broker.through_proxy, kafka_options=OPTIONS, partitions=4, **urls))
    with ExitStack() as stack:
        for each in ("postgres", "mongo"):
            stack.callback(all_databases(each).drop, urls[f"{each}_url"])
        yield Line(settings, tmp_path, stack)


class Writing:
    """Changes of a few customers, as fast as they go, from a thread, until the block ends."""

    def __init__(self, line: Line, ids: list[int]) -> None:
        self._line = line
        self._ids = ids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.count = 0

    def _write(self) -> None:
        while not self._stop.is_set():
            self._line.change(self._ids[self.count % len(self._ids)])
            self.count += 1

    def go_on(self, by: int = 50) -> None:
        """Wait until so many more are written, whatever else goes on."""
        before = self.count
        until("the writers go on", lambda: self.count >= before + by, 600)

    def __enter__(self) -> Writing:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


# Each of the suite's two has another that looks much the same from here.
FAULTS = ["kill -9", "black hole", *(pytest.param(each, marks=FULL) for each in ("reset", "SIGSTOP"))]


@sizes("times, events, seconds", (1, 50, 4), (7, 5000, 45))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broker_that_fails_under_load_makes_no_gap(
    own_line: Line, broker: Broker, fault: str, times: int, events: int, seconds: int
) -> None:
    """O8, O9, O10, X3: writers do not feel it, and everything drains in order when it is over."""
    ids = own_line.crowd(10)
    own_line.relay()
    own_line.replicate()
    own_line.settle()

    with Writing(own_line, ids) as writing:
        for _ in range(times):
            writing.go_on(events)
            if fault == "SIGSTOP":
                broker.pause()
                writing.go_on()
                time.sleep(seconds)
                broker.go_on()
            elif fault == "kill -9":
                broker.kill()
                writing.go_on()
                broker.start()
            elif fault == "reset":
                for _ in range(10):
                    broker.proxy.reset()
                    time.sleep(0.2)
            else:
                broker.proxy.blackhole()
                writing.go_on()
                time.sleep(seconds)
                broker.proxy.heal()
        writing.go_on(events)
    own_line.settle()

    found = own_line.judge()
    assert found.problems == []
    assert found.records >= writing.count
    print(f"{fault}: {times} times in {writing.count} events, {found.repeats} repeats")


@sizes("times", 1, 10)
def test_an_election_that_cuts_no_connection_stops_nobody(own_line: Line, broker: Broker, times: int) -> None:
    """A client that knows only the leader of before is refused, and must ask who leads now."""
    ids = own_line.crowd(10)
    own_line.relay()
    own_line.settle_topic()
    settings, topic = own_line.settings, own_line.settings.topic_updates
    client = kafka.admin(settings)
    parts = range(settings.partitions)
    with Reader(settings) as reader:
        for _ in range(times):
            known = offsets.ends(client, topic, parts, settings.kafka_servers)
            marks = reader.marks()
            assert reader.at(0, marks) == {part: first for part, (first, _) in marks.items()}
            _elect(broker, settings)

            assert offsets.ends(client, topic, parts, settings.kafka_servers) == known
            assert reader.marks() == marks
            assert reader.at(0, marks) == {part: first for part, (first, _) in marks.items()}
            for each in ids:
                own_line.change(each)
            own_line.settle_topic(60)

    assert own_line.judge(copied=False).problems == []


def _elect(broker: Broker, settings: Settings) -> None:
    """Pause the broker for longer than its session, until each partition has a newer leader."""
    before = _epochs(settings)
    for _ in range(20):
        broker.pause()
        time.sleep(4)
        broker.go_on()
        with suppress(AssertionError):
            until("it is elected anew", lambda: all(map(gt, _epochs(settings), before)), 3)
            return
    pytest.fail("there was no election")


def _epochs(settings: Settings) -> list[int]:
    """The epoch of each partition's leader, for a client that knows nothing yet; 0 while there is none."""
    client = kafka.admin(settings)
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {TopicPartition(settings.topic_updates, part): latest for part in range(settings.partitions)}
    try:
        answers = client.list_offsets(wanted, request_timeout=30)
        return [answer.result().leader_epoch for answer in answers.values()]
    except KafkaException:
        return [0] * settings.partitions


class FragilePublisher(Publisher):
    """Gives a record up after a second, which custsvc forbids itself: then its producer is done for."""

    def __init__(self, settings: Settings) -> None:
        self.made_anew = 0
        super().__init__(settings)
        self._config |= {"message.timeout.ms": 1000, "socket.timeout.ms": 1000}
        self.renew()

    def renew(self) -> None:
        self.made_anew += 1
        super().renew()


@sizes("times", 3, 50)
def test_a_relay_replaces_a_producer_with_a_fatal_error_and_reads_the_batch_again(
    own_line: Line, broker: Broker, times: int
) -> None:
    """O12: again and again, under load; the topic has no gap and no disorder."""
    ids = own_line.crowd(5)
    publisher = FragilePublisher(own_line.settings)
    own_line.relay(publisher)
    own_line.settle_topic()
    for _ in range(times):
        before = publisher.made_anew
        with Writing(own_line, ids):
            broker.proxy.blackhole()
            until("the producer is done for", lambda n=before: publisher.made_anew > n)
            broker.proxy.heal()
        # It sends again, and does not just look for the topic, when the next one comes.
        own_line.settle_topic()

    found = own_line.judge(copied=False)
    assert found.problems == []
    assert found.records > len(ids)
    print(f"{publisher.made_anew - 1} producers replaced, {found.records} records, {found.repeats} repeats")


@sizes("times", 2, 20)
@pytest.mark.parametrize("loss", ["held", "cut"])
def test_acknowledgements_that_do_not_come_count_for_no_batch(
    own_line: Line, broker: Broker, loss: str, times: int
) -> None:
    """O8, O12: of a backlog, whose next batch goes out before the one before it is acknowledged."""
    ids = own_line.crowd(50)
    own_line.relay(FragilePublisher(own_line.settings) if loss == "cut" else None)
    own_line.settle_topic()
    for _ in range(times):
        broker.proxy.blackhole()
        seed_customers(own_line.source.customers, 4 * BATCH, 1)
        for each in ids:
            own_line.change(each, 2)
        # So slowly that batches are on their way when the acknowledgements stop.
        broker.proxy.heal()
        broker.proxy.slow(500_000)
        until("it sends", lambda: _waiting(own_line) < 4 * BATCH)
        broker.proxy.blackhole("replies")
        time.sleep(1)
        known = _waiting(own_line)
        # Longer than its patience, for the one that gives up.
        time.sleep(3)
        assert _waiting(own_line) == known > 0
        broker.proxy.reset()
        broker.proxy.heal()
        own_line.settle_topic()

    found = own_line.judge(copied=False)
    assert found.problems == []
    print(f"{loss}: {found.records} records, {found.repeats} repeats")


@pytest.mark.parametrize("kills", [pytest.param(50, marks=FULL)])
def test_a_relay_that_is_killed_at_random_moments_makes_no_gap(line: Line, kills: int) -> None:
    """O5: in the middle of whatever it does, while changes come in."""
    rng = random.Random(kills)
    ids = line.crowd(20)
    relay = line.role("relay")
    with Writing(line, ids) as writing:
        for _ in range(kills):
            relay.start()
            until("it is at work", lambda n=writing.count: writing.count > n + 200)
            time.sleep(rng.random() / 2)
            relay.kill()
    line.relay()
    line.settle_topic()

    found = line.judge(copied=False)
    assert found.problems == []
    assert found.repeats <= kills * 3 * BATCH
    print(f"{line.settings.backend}: {kills} kills in {found.records} records, {found.repeats} repeats")


def _cut_session(line: Line) -> None:
    """Take the leadership from its holder, as a network that forgets a connection does."""
    if line.settings.backend == "mongo":
        return  # The lease of a leader that stands still ends by itself.
    with closing(psycopg2.connect(line.settings.postgres_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'custsvc relay' AND datname = current_database()"
        )


@sizes("rounds", 1, 30)
def test_a_leader_that_wakes_up_after_another_took_over_only_repeats(line: Line, rounds: int) -> None:
    """O6: stopped in the middle of work, its session cut; the second leads; then the first goes on."""
    ids = line.crowd(5)
    first, second = line.role("relay").start(), line.role("relay")
    line.settle_topic()
    second.start()
    until("the second stands by", lambda: _stood_by(second))
    with Writing(line, ids):
        for _ in range(rounds):
            before, waiting = _stood_by(first), len(second.said())
            first.signal(signal.SIGSTOP)
            _cut_session(line)
            until("the second publishes", lambda s=second, n=waiting: '"published"' in s.said()[n:])
            first.signal(signal.SIGCONT)
            until("the first stands by", lambda f=first, n=before: _stood_by(f) > n)
            first, second = second, first
    line.settle_topic()

    found = line.judge(copied=False)
    assert found.problems == []
    assert first.is_running()
    assert second.is_running()
    print(f"{line.settings.backend}: {rounds} rounds, {found.records} records, {found.repeats} repeats")


def _waiting(line: Line) -> int:
    return line.source.outbox.depth().waiting


def _stood_by(relay: Role) -> int:
    return relay.said().count('"stand_by"')
