"""Whether all customers' terms are of this version: a fact of the database, looked up seldom."""

from __future__ import annotations

import time
from typing import Final

from ..fold import VERSION
from .base import Facts

FACT: Final = "terms_version"
_LOOK_EVERY: Final = 2.0


class Refilling:
    """Where the refilling of a database's terms is."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._is_done = False
        self._looked = float("-inf")

    def is_going_on(self) -> bool:
        """Whether there may be customers with terms of an earlier version. Once over it stays so."""
        if not self._is_done and time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            self._is_done = self._facts.get(FACT) == str(VERSION)
        return not self._is_done

    def note(self) -> None:
        """All are of this version."""
        if self.is_going_on():
            self._facts.put(FACT, str(VERSION))
            self._is_done = True
