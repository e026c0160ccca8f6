"""The size limit of an event in bytes, which the relay has read from the topic."""

from __future__ import annotations

import time

from ..domain.events import EVENT_LIMIT
from ..errors import TemporaryError, Unusable
from ..ports.facts import Fact, Facts

# Bytes that the broker counts besides the value: key, headers, and batch overhead.
AROUND = 800
# Seconds for which an answer is kept.
_GOOD = 30.0


class EventLimit:
    """Asks the source periodically; during an outage the last known limit applies."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._limit = EVENT_LIMIT
        self._asked = float("-inf")

    def __call__(self) -> int:
        if time.monotonic() - self._asked > _GOOD:
            self._asked = time.monotonic()
            try:
                known = self._facts.get(Fact.EVENT_LIMIT)
            except (TemporaryError, Unusable):
                return self._limit
            self._limit = int(known) - AROUND if known else EVENT_LIMIT
        return self._limit
