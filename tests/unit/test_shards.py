"""How many relays share the work: what may be asked, and what is done with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custsvc.errors import Conflict
from custsvc.kafka.publisher import partition_of
from custsvc.ports.facts import Fact
from custsvc.relay import growth
from custsvc.relay.loss import join_losses, loss_of, new_loss, remember
from custsvc.relay.shards import WHOLE, Division, Shard, about, ask, wanted
from tests.unit.test_growth import Facts

TOPIC = "updates"


@pytest.fixture
def facts() -> Facts:
    return Facts({Fact.TOPIC + TOPIC: '{"id":"x","partitions":12}'})


@pytest.mark.parametrize("shards", [5, 13, 24])
def test_a_number_that_does_not_divide_the_partitions_is_refused_with_those_that_do(
    facts: Facts, shards: int
) -> None:
    with pytest.raises(Conflict) as refused:
        ask(facts, TOPIC, shards)

    assert refused.value.fix == "--shards 1, 2, 3, 4, 6 or 12"
    assert wanted(facts, TOPIC) == WHOLE


def test_the_last_number_that_was_asked_for_counts(facts: Facts) -> None:
    for number in (2, 3, 4):
        ask(facts, TOPIC, number)
    assert wanted(facts, TOPIC) == Division(4, 12)

    ask(facts, TOPIC, 1)
    assert wanted(facts, TOPIC) == WHOLE


def test_a_topic_that_no_relay_has_seen_is_led_by_one_first() -> None:
    facts = Facts()
    ask(facts, TOPIC, 5)

    assert wanted(facts, TOPIC) == WHOLE
    assert about(facts, TOPIC) == ("whole", "one relay leads; 5 were asked for")


def test_of_more_shards_than_a_new_topic_has_partitions_each_has_one(facts: Facts) -> None:
    """Asked for before a relay knew the topic, so that nothing could be refused."""
    facts.put(Fact.SHARDS, "24")

    assert wanted(facts, TOPIC) == Division(12, 12)
    facts.put(Fact.DIVISION, str(Division(12, 12)))
    assert about(facts, TOPIC) == ("divided", "12 relays share 12 partitions; 24 were asked for")


def test_a_topic_that_was_accepted_with_other_partitions_is_shared_by_what_divides_both(facts: Facts) -> None:
    ask(facts, TOPIC, 6)
    facts.put(Fact.TOPIC + TOPIC, '{"id":"y","partitions":8}')

    assert wanted(facts, TOPIC) == Division(2, 8)


def test_one_leads_while_the_topic_grows_and_customers_keep_their_shard(facts: Facts) -> None:
    ask(facts, TOPIC, 3)
    growth.ask(facts, TOPIC, 12, 24, [], [])
    assert wanted(facts, TOPIC) == WHOLE

    facts.put(Fact.TOPIC + TOPIC, '{"id":"x","partitions":24}')
    before, after = Division(3, 12), wanted(facts, TOPIC)

    assert after == Division(3, 24)
    for number in range(3):
        ids = range(500)
        assert Shard(number, before).has_each(ids) == Shard(number, after).has_each(ids)


def test_each_customer_belongs_to_the_shard_that_has_its_partition() -> None:
    parts = [Shard(number, Division(3, 12)) for number in range(3)]

    assert sorted(part for shard in parts for part in shard.parts(12)) == list(range(12))
    for customer in range(500):
        (mine,) = [shard for shard in parts if shard.has(customer)]
        assert partition_of(b"%d" % customer, 12) in mine.parts(12)


def test_an_unfinished_loss_of_one_shard_stays_one_when_they_are_joined(facts: Facts) -> None:
    ask(facts, TOPIC, 2)
    remember(facts, TOPIC, new_loss([1, 3]), "#1")
    remember(facts, TOPIC, replace(new_loss([0]), done=True), "#0")

    join_losses(facts, TOPIC)

    loss = loss_of(facts, TOPIC, only="")
    assert loss is not None
    assert (loss.partitions, loss.done) == ([1, 3], False)
    assert not facts.all(f"{Fact.TOPIC_LOSS}{TOPIC}#")
    # One leads everything until it is repaired.
    assert wanted(facts, TOPIC) == WHOLE
