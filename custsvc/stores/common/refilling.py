"""Whether all customers' terms and keys are of this version: a fact of the database, read seldom."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from ...domain.fold import VERSION
from ...ports.customers import CustomerFilter
from ...ports.facts import Fact, Facts

_LOOK_EVERY: Final = 2.0


class Refilling:
    """The progress of refilling a database's terms and keys."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._is_done = False
        self._looked = float("-inf")

    def is_over(self) -> bool:
        """Whether no customer has terms or a key of an earlier version. Once true, it stays true."""
        if not self._is_done and time.monotonic() - self._looked > _LOOK_EVERY:
            self._is_done = self._facts.get(Fact.TERMS_VERSION) == str(VERSION)
            # Set this last: a concurrent caller must not take an unknown state for "not over".
            self._looked = time.monotonic()
        return self._is_done

    def now(self, asked: CustomerFilter) -> CustomerFilter:
        """The filter to use now: until the refilling is over it also matches earlier terms and keys."""
        if asked.earlier and self.is_over():
            asked = replace(asked, earlier=())
        if asked.name_prefix and not self.is_over():
            asked = replace(asked, name_prefix=None, written_prefix=asked.name_prefix)
        return asked

    def note(self) -> None:
        """Note that all customers are of this version."""
        if not self.is_over():
            self._facts.put(Fact.TERMS_VERSION, str(VERSION))
            self._is_done = True
