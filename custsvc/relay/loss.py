"""The last time that a topic lost its end; kept in the source and shown to operators."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, replace

import orjson

from ..domain.customers import format_time, utc_now
from ..ports.facts import Fact, Facts


@dataclass(frozen=True, slots=True)
class Loss:
    """When and which partitions lost their end, how many events were sent again, and whether that is done."""

    time: str
    partitions: list[int]
    sent: int = 0
    done: bool = False

    @property
    def seconds(self) -> float:
        """The time of the loss as Unix time."""
        return dt.datetime.fromisoformat(self.time).timestamp()

    @property
    def age(self) -> float:
        return utc_now().timestamp() - self.seconds

    def __str__(self) -> str:
        parts = ", ".join(map(str, self.partitions))
        after = (
            f"{self.sent} events were sent again" if self.done else "what is gone was not all sent again yet"
        )
        return f"at {self.time} the topic had lost its end in partitions {parts}; {after}"


def loss_of(facts: Facts, topic: str, *, only: str | None = None) -> Loss | None:
    """The last known loss of this topic, an unfinished one first, or None.

    `only`: what one shard knows, by the suffix of its facts.
    """
    name = Fact.TOPIC_LOSS + topic
    if only is not None:
        found = facts.get(name + only)
        return _read(found) if found else None
    known = [_read(each) for each in (facts.get(name), *facts.all(name + "#").values()) if each]
    return max(known, key=lambda loss: (not loss.done, loss.time), default=None)


def new_loss(partitions: list[int]) -> Loss:
    """A loss found now."""
    return Loss(format_time(utc_now()), partitions)


def remember(facts: Facts, topic: str, loss: Loss, shard: str = "") -> None:
    """Store the loss durably; `shard` is the suffix of the shard whose partitions it is about."""
    facts.put(Fact.TOPIC_LOSS + topic + shard, orjson.dumps(asdict(loss)).decode())


def join_losses(facts: Facts, topic: str) -> None:
    """Make one of what the shards know: the partitions that still lack something, or the last loss."""
    last = loss_of(facts, topic)
    if last is None:
        return
    name = Fact.TOPIC_LOSS + topic
    known = [_read(each) for each in (facts.get(name), *facts.all(name + "#").values()) if each]
    lacking = sorted({part for loss in known if not loss.done for part in loss.partitions})
    remember(facts, topic, replace(last, partitions=lacking) if lacking else last)
    facts.drop_all(name + "#")


def _read(text: str) -> Loss:
    return Loss(**orjson.loads(text))
