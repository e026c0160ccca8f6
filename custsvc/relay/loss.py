"""The last time that a topic lost its end; kept in the source and shown to operators."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass

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


def loss_of(facts: Facts, topic: str) -> Loss | None:
    """The last known loss of this topic, or None."""
    found = facts.get(Fact.TOPIC_LOSS + topic)
    return Loss(**orjson.loads(found)) if found else None


def new_loss(partitions: list[int]) -> Loss:
    """A loss found now."""
    return Loss(format_time(utc_now()), partitions)


def remember(facts: Facts, topic: str, loss: Loss) -> None:
    """Store the loss durably."""
    facts.put(Fact.TOPIC_LOSS + topic, orjson.dumps(asdict(loss)).decode())
