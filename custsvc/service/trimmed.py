"""How far the history was trimmed: which states of customers may no longer be there."""

from __future__ import annotations

import datetime as dt
from typing import NamedTuple

import orjson

from ..ports.facts import Fact, Facts


class Trimmed(NamedTuple):
    """`begins`: states that were replaced before this time may be gone; "" if none is.

    The walk goes on at `mark`. `ended` is when it last reached the end, as Unix time; 0 if it did not.
    """

    mark: str = ""
    begins: str = ""
    ended: float = 0.0

    def until(self, mark: str, begins: str) -> Trimmed:
        """The same, further on. Times of one form: they sort as text."""
        return Trimmed(mark, max(self.begins, begins), self.ended)


def trimmed(facts: Facts) -> Trimmed:
    """How far the history was trimmed."""
    found = facts.get(Fact.HISTORY)
    return Trimmed(**orjson.loads(found)) if found else Trimmed()


def begins_at(facts: Facts) -> dt.datetime | None:
    """Where the history begins; None if all of it is there."""
    begins = trimmed(facts).begins
    return dt.datetime.fromisoformat(begins) if begins else None


def remember(facts: Facts, how_far: Trimmed) -> None:
    """Store it durably."""
    facts.put(Fact.HISTORY, orjson.dumps(how_far._asdict()).decode())
