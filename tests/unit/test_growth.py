"""The growth of the topic: what may be asked, and who decides about the switch."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from custsvc.errors import Conflict
from custsvc.kafka.publisher import partition_of
from custsvc.ports.facts import Fact
from custsvc.relay import growth
from custsvc.relay.growth import ask, growth_of, progress_of, settle

TOPIC = "updates"


class Facts(dict[str, str]):
    """The port `Facts` in memory."""

    def keep(self, name: str, value: str) -> str:
        return self.setdefault(name, value)

    def put(self, name: str, value: str) -> None:
        self[name] = value

    def drop(self, name: str) -> None:
        self.pop(name, None)

    def drop_all(self, prefix: str) -> int:
        found = [name for name in self if name.startswith(prefix)]
        return len([self.pop(name) for name in found])

    def all(self, prefix: str) -> dict[str, str]:
        return {name: value for name, value in self.items() if name.startswith(prefix)}


def layout(facts: Facts) -> int:
    return int(orjson.loads(facts[Fact.TOPIC + TOPIC])["partitions"])


@pytest.fixture
def facts() -> Facts:
    """Those of a source whose topic grows from 4 to 12."""
    facts = Facts({Fact.TOPIC + TOPIC: '{"id":"x","partitions":4}'})
    ask(facts, TOPIC, 4, 12, ["billing"], [])
    return facts


@pytest.mark.parametrize("partitions", range(1, 13))
@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_multiple_moves_customers_to_added_partitions_only(partitions: int, times: int) -> None:
    for each in range(1, 500):
        before = partition_of(b"%d" % each, partitions)
        after = partition_of(b"%d" % each, partitions * times)

        assert after % partitions == before


@pytest.mark.parametrize("to", [1, 3, 4, 6, 11])
def test_another_number_than_a_multiple_is_refused_and_a_good_one_is_named(to: int) -> None:
    with pytest.raises(Conflict, match="a multiple") as refused:
        ask(Facts(), TOPIC, 4, to, [], [])

    assert int(str(refused.value.fix).split()[-1]) % 4 == 0


def test_the_same_growth_asked_for_again_goes_on_with_other_groups(facts: Facts) -> None:
    began = growth_of(facts, TOPIC)
    again = ask(facts, TOPIC, 4, 12, ["billing", "search"], ["search"])

    assert began is not None
    assert (again.was, again.began, again.awaited) == (4, began.began, ("billing",))
    with pytest.raises(Conflict, match="grows to 12"):
        ask(facts, TOPIC, 4, 8, [], [])


def test_a_relay_that_decided_to_switch_and_died_is_finished_by_the_next_leader(facts: Facts) -> None:
    """O19."""
    facts.put(Fact.GROWTH_HOLD + TOPIC, "hold-1")
    facts.keep(f"{Fact.GROWTH_CHOICE}{TOPIC}:hold-1", growth._SWITCH)
    assert layout(facts) == 4

    settle(facts, TOPIC)

    assert layout(facts) == 12


def test_a_relay_that_wakes_up_after_another_took_over_does_not_switch_under_it(facts: Facts) -> None:
    """O19: it was stopped in the middle of its hold."""
    facts.put(Fact.GROWTH_HOLD + TOPIC, "hold-1")

    settle(facts, TOPIC)
    switched = growth._choose(facts, TOPIC, "hold-1", growth._SWITCH)

    assert not switched
    assert layout(facts) == 4


def test_a_growth_says_how_far_it_is_and_which_command_goes_on(facts: Facts) -> None:
    told = []
    for change in ("", "switched", "filled"):
        if change == "switched":
            facts.put(Fact.TOPIC + TOPIC, '{"id":"x","partitions":12}')
        elif change == "filled":
            known = growth_of(facts, TOPIC)
            assert known is not None
            growth.remember(facts, TOPIC, replace(known, filled=1.0))
        progress = progress_of(facts, TOPIC)
        assert progress is not None
        told.append((progress.state, progress.fix))
    growth.forget(facts, TOPIC)

    again = "custsvc topics grow --partitions 12"
    assert told == [("growing", again), ("filling", again), ("grown", "custsvc topics drop-old")]
    assert progress_of(facts, TOPIC) is None
    assert list(facts) == [Fact.TOPIC + TOPIC]
