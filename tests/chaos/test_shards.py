"""Several relays share the work: whoever dies, however often their number changes, nothing is lost.

What is judged is the topic and the copy: every acknowledged version is there, each customer's in order.
"""

from __future__ import annotations

import json
import random
import time

from custsvc.relay.shards import WHOLE, ask, division_of
from tests.chaos.conftest import Line, fresh_topics
from tests.chaos.roles import Role
from tests.chaos.test_crashes import DIED
from tests.chaos.test_growing import REFRESH, Foreign, grow
from tests.chaos.test_relay_faults import Writing
from tests.sizes import on_one, sizes
from tests.waiting import until


def started(line: Line, *arguments: str) -> Role:
    return line.role("relay", *arguments, LOG_FORMAT="json").start()


def shards_of(relay: Role) -> set[int]:
    """The shards that this process leads, by its log."""
    leads: set[int] = set()
    # Its last line may be half written.
    for text in relay.said().rpartition("\n")[0].splitlines():
        entry = json.loads(text) if text.startswith("{") else {}
        if entry.get("action") == "leading":
            leads.add(entry["shard"])
        elif entry.get("action") == "left":
            leads.discard(entry["shard"])
    return leads if relay.is_running() else set()


def shared_out(relays: list[Role], shards: int) -> bool:
    """Whether each process that runs leads, and all shards are led."""
    found = [shards_of(each) for each in relays if each.is_running()]
    return all(found) and set().union(*found) == set(range(shards))


@sizes("customers, kills", (40, 6), (400, 60))
def test_two_relays_of_which_one_or_the_other_is_killed_lose_nothing(
    line: Line, customers: int, kills: int
) -> None:
    ids = line.crowd(customers)
    line.replicate()
    rng = random.Random(kills)
    relays = [started(line, "--shards", "2"), started(line)]
    until("both lead", lambda: shared_out(relays, 2))

    with Writing(line, ids) as writing:
        for turn in range(kills):
            writing.go_on(30)
            time.sleep(rng.random())
            relays[turn % 2].kill()
            writing.go_on(30)
            if rng.random() < 0.5:
                until("the other one leads both", lambda: shared_out(relays, 2))
            relays[turn % 2] = started(line)
    line.settle()

    found = line.judge()
    assert found.problems == []
    until("they share the work again", lambda: shared_out(relays, 2))
    print(f"{line.settings.backend}: {kills} kills, {writing.count} changes, {found.repeats} repeats")


@on_one("mongo")
@sizes("customers, events", (40, 100), (1000, 5000))
def test_their_number_changes_under_load_and_a_third_process_takes_over(
    line: Line, customers: int, events: int
) -> None:
    """1 → 2 → 3 → 1 of twelve partitions, with three processes of which one dies."""
    line.settings = fresh_topics(line.settings.replace(partitions=12))
    ids = line.crowd(customers)
    line.replicate()
    relays = [started(line) for _ in range(3)]
    facts, topic = line.source.facts, line.settings.topic_updates
    until("one leads", line.published)

    with Writing(line, ids) as writing:
        for shards in (2, 3):
            ask(facts, topic, shards)
            until("it is divided", lambda: division_of(facts).shards == shards)  # noqa: B023 - at once
            writing.go_on(events)
        until("each leads one", lambda: shared_out(relays, 3))
        relays[1].kill()
        until("the others have all", lambda: shared_out([relays[0], relays[2]], 3))
        writing.go_on(events)
        ask(facts, topic, 1)
        until("it is whole", lambda: division_of(facts).shards == 1)
        writing.go_on(events)
    line.settle()

    found = line.judge()
    assert found.problems == []
    print(f"{line.settings.backend}: {writing.count} changes, {found.repeats} repeats")


@on_one("postgres")
def test_a_relay_that_dies_when_it_has_joined_the_shards_leaves_that_to_the_next(line: Line) -> None:
    ids = line.crowd(20)
    relay = started(line, "--shards", "2")
    until("it leads both", lambda: shared_out([relay], 2))
    with Writing(line, ids) as writing:
        writing.go_on()
        relay.stop()
        ask(line.source.facts, line.settings.topic_updates, 1)
        dies = line.role("relay").start(crash_at="relay.joined")
        assert dies.wait() == DIED
        writing.go_on()
        last = started(line)
    line.settle_topic()

    assert shards_of(last) == {0}
    assert division_of(line.source.facts) == WHOLE
    assert line.judge(copied=False).problems == []


@on_one("postgres")
@sizes("customers, events", (30, 60), (1000, 5000))
def test_the_topic_grows_while_two_relays_share_the_work(line: Line, customers: int, events: int) -> None:
    """From 4 to 8 partitions: meanwhile one leads all, then two again."""
    line.settings = line.settings.replace(
        kafka_options={**line.settings.kafka_options, REFRESH[0]: REFRESH[1]}
    )
    ids = line.crowd(customers)
    line.replicate()
    relays = [started(line, "--shards", "2"), started(line)]
    facts = line.source.facts
    with Foreign(line) as foreign:
        with Writing(line, ids) as writing:
            until("both lead", lambda: shared_out(relays, 2))
            until("the other service reads", lambda: foreign.seen)
            writing.go_on(events)
            grow(line, 8)
            until("it is divided again", lambda: str(division_of(facts)) == "2/8")
            writing.go_on(events)
        line.settle()
        until("the other service has everything", lambda: foreign.has(line.acknowledged))

    found = line.judge(grew=[4])
    assert found.problems == []
    assert foreign.out_of_order() == {}
