"""The parked customers, as the relay notes them: their event exceeds the topic's size limit."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from ..ports.facts import Fact, Facts


class Parked(NamedTuple):
    """A waiting customer: the first version not sent, and the size of its biggest event."""

    customer_id: int
    version: int
    bytes: int


def parked(facts: Facts) -> list[Parked]:
    """All parked customers."""
    return [Parked(**orjson.loads(value)) for value in facts.all(Fact.PARKED).values()]
