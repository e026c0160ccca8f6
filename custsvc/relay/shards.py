"""Shards: several leaders share one source's events, each for some partitions of the topic.

How many is one stored fact of the source. Shard K of N has the partitions P with P % N = K, and so the
customers whose events go there: a partition has one sender, and what it has acknowledged or lost is known to
that one alone. N divides the number of partitions, which only ever becomes a multiple: so a customer stays in
its shard when the topic grows.

    WHOLE ──► one leader has everything, with the cursor and the lock that it always had
      │  ▲
      │  └── `settle`: the cursors of the shards are joined, their marks put together
      ▼
    DIVIDED   N leaders, each with its share of the outbox, its lock and its marks

Both steps need the lock of the whole outbox, which each leader of a shard shares: they wait until all of them
have left, as they do within a second after the number was changed. From N to M is one step back and one
forth. While the topic grows, and until a loss from before the division is repaired, one leader has all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Final, NamedTuple

import orjson

from ..errors import Conflict
from ..kafka.hashing import partitions_of
from ..ports.facts import Fact, Facts
from ..ports.outbox import Outbox
from ..ports.shares import Share
from ..ports.store import Store
from ..runtime import crash
from . import growth
from .acknowledged import join_marks
from .loss import join_losses, loss_of


class Division(NamedTuple):
    """How many shards, and of how many partitions."""

    shards: int
    partitions: int

    def __str__(self) -> str:
        return f"{self.shards}/{self.partitions}"


WHOLE: Final = Division(1, 0)
"""Not divided."""


@dataclass(frozen=True, slots=True)
class Shard:
    """What one leader has: everything, or shard `number` (from 0) of a division."""

    number: int = 0
    division: Division = WHOLE

    @property
    def is_whole(self) -> bool:
        return self.division == WHOLE

    @property
    def loop(self) -> str:
        """The name of the leader's loop in metrics and logs."""
        return "relay" if self.is_whole else f"relay-{self.number}"

    @property
    def suffix(self) -> str:
        """What the names of this shard's facts about a topic end in."""
        return "" if self.is_whole else f"#{self.number}"

    def __str__(self) -> str:
        return "" if self.is_whole else f", shard {self.number} of {self.division.shards}"

    def parts(self, partitions: int) -> range:
        """Its partitions, of so many."""
        return range(self.number, partitions, self.division.shards)

    def has(self, customer_id: int) -> bool:
        """Whether a customer belongs to it."""
        return self.is_whole or self.has_each([customer_id]) == [True]

    def has_each(self, ids: Sequence[int]) -> list[bool]:
        """Of each of these customers, whether it belongs to it. Of a division only."""
        shards, partitions = self.division
        return [part % shards == self.number for part in partitions_of(ids, partitions)]

    def outbox(self, store: Store) -> Outbox:
        if self.is_whole:
            return store.outbox
        division = self.division
        return store.shares.outbox(Share(self.number, division.shards, str(division), self.has_each))

    def is_settled(self, facts: Facts) -> bool:
        """Whether the source is divided as this shard expects."""
        return division_of(facts) == self.division


def division_of(facts: Facts) -> Division:
    """How the source is divided now."""
    found = facts.get(Fact.DIVISION)
    return Division(*map(int, found.split("/"))) if found else WHOLE


def asked(facts: Facts) -> int:
    """How many shards are wanted."""
    return int(facts.get(Fact.SHARDS) or 1)


def wanted(facts: Facts, topic: str) -> Division:
    """How the source should be divided now."""
    shards, known = asked(facts), facts.get(Fact.TOPIC + topic)
    if shards == 1 or known is None:
        return WHOLE
    partitions = orjson.loads(known)["partitions"]
    grows = growth.growth_of(facts, topic)
    loss = loss_of(facts, topic, only="")
    if (grows and grows.to != partitions) or (loss and not loss.done):
        return WHOLE
    # A topic that was accepted with other partitions may not be divided by the wanted number.
    shards = gcd(shards, partitions)
    return Division(shards, partitions) if shards > 1 else WHOLE


def ask(facts: Facts, topic: str, shards: int) -> None:
    """Store how many shards are wanted; the relays that run follow within seconds.

    Raises Conflict if the topic's partitions cannot be divided by it.
    """
    known = facts.get(Fact.TOPIC + topic)
    partitions = orjson.loads(known)["partitions"] if known else 0
    if partitions % shards:
        fits = [str(each) for each in range(1, partitions + 1) if partitions % each == 0]
        raise Conflict(
            f"{partitions} partitions cannot be divided into {shards} shards of the same size",
            fix=f"--shards {', '.join(fits[:-1])} or {fits[-1]}",
        )
    facts.put(Fact.SHARDS, str(shards))


def about(facts: Facts, topic: str) -> tuple[str, str] | None:
    """The state of the division in a word, and what that means; None if nobody asked for one."""
    shards, now = asked(facts), division_of(facts)
    if shards == 1 and now == WHOLE:
        return None
    is_now = f"{now.shards} relays share {now.partitions} partitions" if now != WHOLE else "one relay leads"
    if wanted(facts, topic) == now:
        why = "" if now.shards == shards else f"; {shards} were asked for"
        return ("divided" if now != WHOLE else "whole"), is_now + why
    return "changing", f"{is_now}; {shards} were asked for, and a relay that runs changes it"


def settle(store: Store, topic: str, division: Division) -> bool:
    """Divide the source so, if it is not; False if it cannot be yet: a relay leads it, or a part of it.

    A relay must not try to lead before: on MongoDB its try would keep the others from dividing.
    """
    facts = store.facts
    if division_of(facts) == division:
        return True
    with store.outbox.lead() as leading:
        was = division_of(facts)
        if not leading or was == division:
            return was == division
        if was != WHOLE:
            store.shares.join(was.shards)
            crash.point("relay.joined")
            join_marks(facts, topic)
            join_losses(facts, topic)
            facts.drop(Fact.DIVISION)
        if division != WHOLE and wanted(facts, topic) == division:
            facts.put(Fact.DIVISION, str(division))
        return division_of(facts) == division
