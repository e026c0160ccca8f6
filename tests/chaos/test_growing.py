"""The topic grows under load: every consumer follows by itself and sees each customer in order."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections import defaultdict
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException

from custsvc.config import BACKENDS
from custsvc.relay.grow import Grow
from custsvc.runtime.loop import Stop
from tests.chaos import checker
from tests.chaos.conftest import Line
from tests.chaos.roles import Role
from tests.chaos.test_crashes import DIED
from tests.chaos.test_relay_faults import Writing
from tests.sizes import FULL, on_one, sizes
from tests.waiting import until

REFRESH = ("topic.metadata.refresh.interval.ms", "300")
OFTEN = {"KAFKA_OPTIONS__TOPIC_METADATA_REFRESH_INTERVAL_MS": REFRESH[1]}


class Foreign:
    """Another service's consumer, which knows nothing of custsvc: a group of its own, Kafka's usual client.

    It commits what it has handled, and remembers the versions of each customer in the order of arrival.
    """

    def __init__(self, line: Line) -> None:
        self.group = f"billing-{uuid.uuid4().hex[:8]}"
        self.seen: dict[int, list[int]] = defaultdict(list)
        self._topic = line.settings.topic_updates
        self._client = Consumer(
            {
                **checker.connection(line.settings.kafka),
                "group.id": self.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "topic.metadata.refresh.interval.ms": int(REFRESH[1]),
            }
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        self._client.subscribe([self._topic])
        while not self._stop.is_set():
            messages: list[Any] = self._client.consume(200, 0.1)
            good = [each for each in messages if each.error() is None]
            for each in good:
                event = json.loads(each.value())
                self.seen[event["customer_id"]].append(event["version"])
            if good:
                with suppress(KafkaException):  # the group was shared out again: some come once more
                    self._client.commit(asynchronous=False)
        self._client.close()

    def has(self, acknowledged: dict[int, int]) -> bool:
        return all(max(self.seen[each], default=0) >= version for each, version in list(acknowledged.items()))

    def out_of_order(self) -> dict[int, list[int]]:
        """The customers of whom it saw a version for the first time after a later one, or not at all."""
        return {
            each: versions
            for each, versions in self.seen.items()
            if list(dict.fromkeys(versions)) != list(range(1, max(versions) + 1))
        }

    def __enter__(self) -> Foreign:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def growing(line: Line) -> Line:
    """A line whose consumers notice added partitions soon."""
    line.settings = line.settings.replace(
        kafka_options={**line.settings.kafka_options, REFRESH[0]: REFRESH[1]}
    )
    return line


def grow(line: Line, to: int) -> int:
    """Grow as the command does; how many customers were sent once more."""
    work = Grow(line.settings, line.source, Stop(), print)
    return work.fill(work.switch(to, ()), rate=None, progress=lambda _: None)


@sizes("customers, events", (30, 60), (3000, 20_000))
def test_a_topic_that_grows_under_load_loses_nothing_and_every_consumer_sees_each_customer_in_order(
    growing: Line, customers: int, events: int
) -> None:
    """O19: from 4 to 12 partitions; copies and other services follow without a restart."""
    line = growing
    ids = line.crowd(customers)
    line.relay()
    line.replicate()
    idle = customers // 3
    with Foreign(line) as foreign:
        with Writing(line, ids[idle:]) as writing:
            until("the other service reads", lambda: foreign.seen)
            writing.go_on(events)
            sent = grow(line, 12)
            writing.go_on(events)
        line.settle()
        until("the other service has everything", lambda: foreign.has(line.acknowledged))

    assert idle <= sent <= customers
    found = line.judge(grew=[4])
    assert found.problems == []
    assert foreign.out_of_order() == {}
    print(f"{line.settings.backend}: {writing.count} changes, {found.records} records")


@on_one("postgres")
def test_a_growth_goes_on_after_a_kill_at_each_of_its_steps(growing: Line) -> None:
    """O19: of the command and of the relay, 4 to 8 partitions and, without the old records, to 16."""
    line = growing
    ids = line.crowd(30)
    relay = line.role("relay", **OFTEN)
    line.replicate()

    def changed() -> None:
        for each in ids:
            line.change(each)

    def command(*words: str) -> Role:
        return line.role("topics", *words, **OFTEN)

    with Foreign(line) as foreign:
        relay.start()
        until("the other service reads", lambda: foreign.has(line.acknowledged))
        relay.kill()
        for step in ("grow.asked", "grow.added"):
            assert command("grow", "--partitions", "8").start(crash_at=step).wait() == DIED
        for step in ("relay.held", "relay.drained", "relay.grown"):
            assert relay.start(crash_at=step).wait() == DIED
            changed()
        relay.start()
        assert command("grow", "--partitions", "8").start(crash_at="grow.filling").wait() == DIED
        assert command("grow", "--partitions", "8").start().wait() == 0
        line.settle_topic()
        until("the other service has everything", lambda: foreign.has(line.acknowledged))
        line.settle()
        assert command("drop-old", "--now", "--yes").start().wait() == 0
        relay.kill()

        grow = command("grow", "--partitions", "16").start()
        assert relay.start(crash_at="relay.chosen").wait() == DIED
        changed()
        relay.start()
        assert grow.wait() == 0
        changed()
        line.settle()
        until("the other service has everything", lambda: foreign.has(line.acknowledged))

    assert foreign.out_of_order() == {}
    source, copy = (checker.read_database(name, line.settings.url(name)) for name in BACKENDS)
    assert source == copy


@pytest.mark.parametrize("kills", [pytest.param(30, marks=FULL)])
def test_a_growth_among_random_kills_loses_nothing_and_keeps_the_order(growing: Line, kills: int) -> None:
    """O19: two relays, two copies and the command, one of them killed again and again."""
    line, rng = growing, random.Random(kills)
    ids = line.crowd(2000)
    roles = [line.role(name, **OFTEN) for name in ("relay", "relay", "replicate", "replicate")]
    grow = line.role("topics", "grow", "--partitions", "12", **OFTEN)
    for role in roles:
        role.start()
    with Foreign(line) as foreign, Writing(line, ids[500:]) as writing:
        until("the other service reads", lambda: foreign.seen)
        for _ in range(kills):
            writing.go_on(500)
            struck = rng.choice([*roles, grow])
            struck.kill()
            struck.start()
        grow.kill()
        assert grow.start().wait(600) == 0
        writing.go_on(500)
        settled = dict(line.acknowledged)
        until("the other service has it", lambda: foreign.has(settled), 300)
    line.settle(300)

    found = line.judge(grew=[4])
    assert found.problems == []
    assert foreign.out_of_order() == {}
    print(f"{line.settings.backend}: {kills} kills, {writing.count} changes, {found.repeats} repeats")
